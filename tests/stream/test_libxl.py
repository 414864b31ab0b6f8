from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import FormatError, TruncatedError
from hvmctx.stream import libxl

KINDS: list[Any] = [libxl.EmulatorContext, libxl.EmulatorXenstoreData, libxl.CheckpointState]


@given(st.sampled_from(KINDS), st.binary(max_size=60))
def test_any_body_round_trips_or_is_refused(kind: Any, body: bytes) -> None:
    try:
        payload = kind.from_bytes(body)
    except FormatError as error:
        assert error.layer == "libxl" and 0 <= error.offset <= len(body)
        return
    assert payload.to_bytes() == body


@given(
    st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9))).map(
        lambda pairs: [(k.replace(b"\0", b""), v.replace(b"\0", b"")) for k, v in pairs]
    )
)
def test_xenstore_pairs_round_trip(pairs: list[tuple[bytes, bytes]]) -> None:
    data = libxl.EmulatorXenstoreData(2, 0, pairs)
    assert libxl.EmulatorXenstoreData.from_bytes(data.to_bytes()) == data


def test_emulator() -> None:
    context = libxl.EmulatorContext.from_bytes(struct.pack("<II", 2, 0) + b"QEVM\0\0\0\3\0")
    assert (context.emulator, context.index) == ("qemu-upstream", 0)
    state = context.device_model()
    assert state is not None and state.version == 3
    other = libxl.EmulatorContext(9, 1, b"other")
    assert (other.emulator, other.device_model()) == ("emulator 9", None)


@pytest.mark.parametrize(
    ("text", "reason"), [(b"key\0value", "is not terminated"), (b"key\0", "without a value")]
)
def test_xenstore_data_that_cannot_be(text: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        libxl.EmulatorXenstoreData.from_bytes(bytes(8) + text)


@pytest.mark.parametrize("kind", KINDS)
def test_too_short(kind: Any) -> None:
    with pytest.raises(TruncatedError, match="too short"):
        kind.from_bytes(b"abc")


def test_checkpoint_state() -> None:
    assert libxl.CheckpointState.from_bytes(bytes(8)).state == "NEW"
    assert libxl.CheckpointState(9).state == "state 9"


def test_more_keys_than_any_guest_has() -> None:
    with pytest.raises(FormatError, match="more than 65536 rows"):
        libxl.EmulatorXenstoreData.from_bytes(bytes(8) + b"k\0v\0" * 65537)
    assert len(libxl.EmulatorXenstoreData.from_bytes(bytes(8) + b"k\0v\0" * 65536).pairs) == 65536
