from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import FormatError, LengthError, TruncatedError
from hvmctx.stream import libxc
from tests.samples import word

KINDS: list[Any] = [
    libxc.PageData, libxc.PvInfo, libxc.PvP2mFrames, libxc.PvVcpu, libxc.PvVcpuMsrs,
    libxc.SharedInfo, libxc.TscInfo, libxc.HvmParams, libxc.DirtyPfnList, libxc.CpuidPolicy,
    libxc.MsrPolicy,
]  # fmt: skip


@given(st.sampled_from(KINDS), st.binary(max_size=100))
def test_any_body_round_trips_or_is_refused(kind: Any, body: bytes) -> None:
    try:
        payload = kind.parse(body)
    except FormatError as error:
        assert error.layer == "libxc" and 0 <= error.offset <= len(body)
        return
    assert payload.serialise() == body


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (libxc.PvInfo, b"\x08\x04" + bytes(6)),
        (libxc.PvP2mFrames, struct.pack("<II2Q", 0, 600, 7, 8)),
        (libxc.PvVcpu, struct.pack("<II", 1, 0) + b"state"),
        (libxc.PvVcpuMsrs, struct.pack("<IIIIQ", 1, 0, 0x48, 0, 5)),
        (libxc.SharedInfo, b"s" * 4096),
        (libxc.TscInfo, struct.pack("<IIQII", 2, 2600000, 12345, 1, 9)),
        (libxc.HvmParams, struct.pack("<II4Q", 2, 0, 1, 0xFEFFC, 17, 0xFEFFF)),
        (libxc.DirtyPfnList, struct.pack("<2Q", 1, 2)),
        (libxc.CpuidPolicy, struct.pack("<12I", *range(12))),
        (libxc.MsrPolicy, struct.pack("<IIQ", 0xCE, 0, 1 << 31)),
        (libxc.PageData, struct.pack("<II2Q", 2, 3, word(5), word(6, 0xF)) + bytes(4096)),
    ],
)
def test_valid_bodies(kind: Any, body: bytes) -> None:
    assert kind.parse(body).serialise() == body
    assert kind.parse(memoryview(body)).serialise() == body


def test_fields() -> None:
    tsc = libxc.TscInfo.parse(struct.pack("<IIQII", 2, 2600000, 12345, 1, 9))
    assert (tsc.mode, tsc.khz, tsc.nsec, tsc.incarnation, tsc.reserved) == (2, 2600000, 12345, 1, 9)
    params = libxc.HvmParams.parse(struct.pack("<II2Q", 1, 0, 17, 0xFEFFF))
    assert params.params == [(17, 0xFEFFF)]
    frames = libxc.PvP2mFrames.parse(struct.pack("<II2Q", 1, 600, 7, 8))
    assert (frames.start_pfn, frames.end_pfn, list(frames.frames)) == (1, 600, [7, 8])
    info = libxc.PvInfo.parse(b"\4\3" + bytes(6))
    assert (info.guest_width, info.pt_levels) == (4, 3)


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in (libxc.DirtyPfnList,)])
def test_one_byte_is_too_short(kind: Any) -> None:
    with pytest.raises((TruncatedError, LengthError)):
        kind.parse(b"x")


@pytest.mark.parametrize("count", [2, 0x7FFFFFFF, 0x20000000, 0xFFFFFFFF])
def test_counts_that_overflow(count: int) -> None:
    head = struct.pack("<II", count, 0)
    with pytest.raises(LengthError, match=f"count {count}"):
        libxc.PageData.parse(head + bytes(8))
    with pytest.raises(LengthError, match=f"count {count}"):
        libxc.HvmParams.parse(head + bytes(16))


def test_page_data_must_match_the_words() -> None:
    body = struct.pack("<IIQ", 1, 0, word(5))
    with pytest.raises(LengthError, match="found 16 bytes of body, expected 4112"):
        libxc.PageData.parse(body)
    with pytest.raises(LengthError, match="expected 16"):
        libxc.PageData.parse(struct.pack("<IIQ", 1, 0, word(5, 0xE)) + bytes(4096))
