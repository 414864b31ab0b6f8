from __future__ import annotations

import struct
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import pv
from hvmctx.errors import (
    FieldError,
    FormatError,
    LengthError,
    LimitError,
    TruncatedError,
    UnsupportedError,
)
from hvmctx.stream import libxc
from tests.builders.streams import word

KINDS: list[Any] = [
    libxc.PageData, libxc.PvInfo, libxc.PvP2mFrames, libxc.PvVcpuBasic,
    libxc.PvVcpuExtended, libxc.PvVcpuXsave, libxc.PvVcpuMsrs,
    libxc.SharedInfo, libxc.TscInfo, libxc.HvmParams, libxc.DirtyPfnList, libxc.CpuidPolicy,
    libxc.MsrPolicy,
]  # fmt: skip


@given(st.sampled_from(KINDS), st.binary(max_size=100))
def test_any_body_round_trips_or_is_refused(kind: Any, body: bytes) -> None:
    try:
        payload = kind.from_bytes(body)
    except FormatError as error:
        assert error.layer == "libxc" and 0 <= error.offset <= len(body)
        return
    assert payload.to_bytes() == body


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (libxc.PvInfo, b"\x08\x04" + bytes(6)),
        (libxc.PvP2mFrames, struct.pack("<II2Q", 0, 600, 7, 8)),
        (libxc.PvVcpuBasic, struct.pack("<II", 1, 0) + b"state"),
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
    assert kind.from_bytes(body).to_bytes() == body
    assert kind.from_bytes(memoryview(body)).to_bytes() == body


def test_fields() -> None:
    tsc = libxc.TscInfo.from_bytes(struct.pack("<IIQII", 2, 2600000, 12345, 1, 9))
    assert (tsc.mode, tsc.khz, tsc.nsec, tsc.incarnation, tsc.reserved) == (2, 2600000, 12345, 1, 9)
    params = libxc.HvmParams.from_bytes(struct.pack("<II2Q", 1, 0, 17, 0xFEFFF))
    assert params.params == [(17, 0xFEFFF)]
    frames = libxc.PvP2mFrames.from_bytes(struct.pack("<II2Q", 1, 600, 7, 8))
    assert (frames.start_pfn, frames.end_pfn, list(frames.frames)) == (1, 600, [7, 8])
    info = libxc.PvInfo.from_bytes(b"\4\3" + bytes(6))
    assert (info.guest_width, info.pt_levels) == (4, 3)


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in (libxc.DirtyPfnList,)])
def test_one_byte_is_too_short(kind: Any) -> None:
    with pytest.raises((TruncatedError, LengthError)):
        kind.from_bytes(b"x")


@pytest.mark.parametrize("count", [2, 0x7FFFFFFF, 0x20000000, 0xFFFFFFFF])
def test_counts_that_overflow(count: int) -> None:
    head = struct.pack("<II", count, 0)
    with pytest.raises(LengthError, match=f"count {count}"):
        libxc.PageData.from_bytes(head + bytes(8))
    with pytest.raises(LengthError, match=f"count {count}"):
        libxc.HvmParams.from_bytes(head + bytes(16))


def test_page_data_must_match_the_words() -> None:
    body = struct.pack("<IIQ", 1, 0, word(5))
    with pytest.raises(LengthError, match="found 16 bytes of body, expected 4112"):
        libxc.PageData.from_bytes(body)
    with pytest.raises(LengthError, match="expected 16"):
        libxc.PageData.from_bytes(struct.pack("<IIQ", 1, 0, word(5, 0xE)) + bytes(4096))


@pytest.mark.parametrize("width", [8, 4])
def test_what_pv_records_hold(width: int) -> None:
    kind = pv.VCPU_CONTEXTS[width]
    context = kind(flags=5)
    context.ctrlreg[3] = 0x1000
    basic = libxc.PvVcpuBasic.from_bytes(struct.pack("<II", 2, 0) + bytes(context) + b"more")
    assert (basic.vcpu, basic.context(width).flags) == (2, 5)
    assert basic.context(width).ctrlreg[3] == 0x1000
    head = pv.SHARED_INFOS[width](max_pfn=0x3FF)
    shared = libxc.SharedInfo.from_bytes(bytes(head).ljust(4096, b"s"))
    assert shared.head(width).max_pfn == 0x3FF
    for refused in (basic.context, shared.head):
        with pytest.raises(UnsupportedError, match="found 5 bytes, expected 4 or 8"):
            refused(5)
    with pytest.raises(TruncatedError, match="X86_PV_VCPU_BASIC: too short"):
        libxc.PvVcpuBasic.from_bytes(bytes(2800)).context(width)


def test_extended_and_xsave_states() -> None:
    state = pv.xen_domctl_ext_vcpucontext(vcpu=1, size=64, sysenter_callback_cs=0xE033)
    extended = libxc.PvVcpuExtended.from_bytes(struct.pack("<II", 1, 0) + bytes(state))
    assert extended.context().sysenter_callback_cs == 0xE033
    xsave = libxc.PvVcpuXsave.from_bytes(struct.pack("<IIQQ", 1, 0, 7, 3) + bytes(576))
    assert (xsave.xcr0, xsave.xcr0_accum, len(xsave.area)) == (7, 3, 576)
    for short in (
        libxc.PvVcpuExtended.from_bytes(bytes(71)).context,
        lambda: libxc.PvVcpuXsave.from_bytes(bytes(23)).xcr0,
    ):
        with pytest.raises(TruncatedError, match="too short"):
            short()


@pytest.mark.parametrize(
    "payload",
    [
        libxc.PvInfo(256, 4), libxc.PvP2mFrames(1 << 32, 0, array("Q")),
        libxc.PvVcpuBasic(-1, b""), libxc.PvVcpuMsrs(0, [(1 << 32, 0, 0)]),
        libxc.TscInfo(0, 1 << 32, 0, 0), libxc.HvmParams([(0, 1 << 64)]),
        libxc.CpuidPolicy([(0, 0, 0, 0, 0, -1)]), libxc.MsrPolicy([(0, 0, 1 << 64)]),
        libxc.PageData(array("Q"), reserved=1 << 32),
    ],
)  # fmt: skip
def test_numbers_that_do_not_fit(payload: Any) -> None:
    with pytest.raises(FieldError, match=r"^(X86|HVM|PAGE)_"):
        payload.to_bytes()


@pytest.mark.parametrize(
    ("kind", "head", "row"),
    [(libxc.HvmParams, struct.pack("<II", 65537, 0), 16), (libxc.CpuidPolicy, b"", 24),
     (libxc.MsrPolicy, b"", 16), (libxc.PvVcpuMsrs, bytes(8), 16)],
)  # fmt: skip
def test_more_rows_than_any_xen_writes(kind: Any, head: bytes, row: int) -> None:
    with pytest.raises(LimitError, match="more than 65536 rows"):
        kind.from_bytes(head + bytes(row * 65537))
    fits = head.replace(struct.pack("<I", 65537), struct.pack("<I", 65535))
    kind.from_bytes(fits + bytes(row * 65535))
