from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import FormatError, HvmctxError
from hvmctx.files.source import BufferSource
from hvmctx.stream import legacy
from hvmctx.stream.legacy import LegacyReader
from tests.builders.legacy import legacy_hvm, legacy_pv, longs


def items(data: bytes, width: int = 8, *, pv: bool = False) -> list[legacy.Item]:
    return list(LegacyReader(BufferSource(data), width, pv).items())


def kinds(make: Callable[[random.Random, int], bytes], width: int, *, pv: bool) -> set[str]:
    made = (make(random.Random(seed), width) for seed in range(20))
    return {type(item).__name__ for data in made for item in items(data, width, pv=pv)}


@pytest.mark.parametrize("width", [4, 8])
def test_kinds_of_items(width: int) -> None:
    of_hvm = {"Batch", "TscInfo", "Param", "Toolstack", "HvmTail", "DeviceModel"}
    assert kinds(legacy_hvm, width, pv=False) == of_hvm
    of_pv = {"ExtendedInfo", "Frames", "Batch", "TscInfo", "VcpuState", "SharedPage"}
    assert kinds(legacy_pv, width, pv=True) == of_pv


HEAD = longs(8, 64)
TAIL = struct.pack("<i", 0) + struct.pack("<QQQI", 1, 2, 3, 2) + b"cc"
MODEL = b"DeviceModelRecord0002" + struct.pack("<I", 1) + b"m"
TOOLSTACK = struct.pack("<II", 1, 1) + struct.pack("<QQQI", 0x10, 0x20, 0x30, 2) + b"n\0" + bytes(4)


def with_chunk(number: int, body: bytes = b"") -> bytes:
    return HEAD + struct.pack("<i", number) + body + TAIL + MODEL


def toolstack(data: bytes) -> bytes:
    return with_chunk(-18, struct.pack("<I", len(data)) + data)


def test_what_is_in_it() -> None:
    data = with_chunk(3, longs(8, 0x10000001, 0xF0000000, 0xE0000002) + b"p" * 4096)
    first, tail, model = items(data)
    assert isinstance(first, legacy.Batch) and isinstance(tail, legacy.HvmTail)
    assert list(first.words) == [1 << 60 | 1, 0xE << 60 | 2] and first.count == 3
    assert bytes(first.pages) == b"p" * 4096
    assert (tail.ioreq, tail.bufioreq, tail.store, bytes(tail.context)) == (1, 2, 3, b"cc")
    assert isinstance(model, legacy.DeviceModel) and bytes(model.data) == b"m"
    (found, *_) = items(toolstack(TOOLSTACK))
    assert isinstance(found, legacy.Toolstack)
    assert found.pairs == [
        (b"physmap/10/start_addr", b"20"), (b"physmap/10/size", b"30"), (b"physmap/10/name", b"n"),
    ]  # fmt: skip
    (found, *_) = items(with_chunk(-21, struct.pack("<IQ", 0, 7)))
    assert found == legacy.Param(36, 7), "X87_FIP_WIDTH, of the last releases of 4.5"
    assert len(items(HEAD + TAIL)) == 1, "no device model"
    (*_, model) = items(HEAD + TAIL + b"QemuDeviceModelRecord" + b"to the end")
    assert isinstance(model, legacy.DeviceModel) and bytes(model.data) == b"to the end"
    (*_, model) = items(HEAD + TAIL + b"RemusDeviceModelState" + MODEL[21:])
    assert isinstance(model, legacy.DeviceModel) and bytes(model.data) == b"m"


PV_HEAD = longs(8, 64, -1)


def blocks(*parts: bytes, total: int | None = None) -> bytes:
    data = b"".join(parts)
    return PV_HEAD + struct.pack("<I", len(data) if total is None else total) + data


def block(name: bytes, data: bytes = b"") -> bytes:
    return name + struct.pack("<I", len(data)) + data


@pytest.mark.parametrize(
    ("data", "pv", "reason"),
    [
        (HEAD, False, "the stream ends"),
        (with_chunk(1025), False, "too many pages: found 1025"),
        (with_chunk(2, longs(8, 1, 1) + bytes(8192)), False, "a page occurs twice in one batch"),
        (with_chunk(-5), False, "the genuine converter stops here"),
        (with_chunk(-99), False, "unknown chunk: found -99"),
        (with_chunk(-2, struct.pack("<i", 4096)), False, "vcpu id out of range"),
        (with_chunk(-2, struct.pack("<i", -1)), False, "vcpu id out of range"),
        (with_chunk(-18, struct.pack("<I", 1 << 31)), False, "more than 256 MiB"),
        (toolstack(struct.pack("<II", 2, 0)), False, "unknown version"),
        (toolstack(b"\1"), False, "unknown version"),
        (toolstack(TOOLSTACK[:20]), False, "an entry is truncated"),
        (toolstack(TOOLSTACK[:32] + bytes(4) + TOOLSTACK[36:]), False, "a name is not terminated"),
        (toolstack(TOOLSTACK.replace(b"n\0", b"nn")), False, "a name is not terminated"),
        (HEAD + TAIL + b"x" * 40, False, "unknown signature"),
        (longs(8, 64, 5), True, "extended info is missing"),
        (blocks(block(b"vcpu", bytes(100))), True, "unknown size of a vcpu's context"),
        (blocks(block(b"what")), True, "unknown block"),
        (blocks(block(b"extv")), True, "no vcpu block"),
        (blocks(block(b"extv"), total=7), True, "the blocks are longer than their total"),
    ],
)
def test_damaged(data: bytes, pv: bool, reason: str) -> None:
    with pytest.raises(FormatError, match=reason.partition(":")[0]) as caught:
        items(data, pv=pv)
    error = caught.value
    assert error.layer == "legacy" and reason in f"{error.problem}: found {error.found}"


def test_hvm_parameters_of_a_pv_guest() -> None:
    data = legacy_pv(random.Random(1), 8)
    at = data.index(struct.pack("<iIQII", -7, 1, 0, 0, 0)[:8])
    with pytest.raises(FormatError, match="an HVM parameter in a PV stream"):
        items(data[:at] + struct.pack("<iIQ", -3, 0, 0) + data[at:], pv=True)


@given(st.integers(0, 1 << 32), st.booleans(), st.sampled_from([4, 8]), st.data())
def test_altered(seed: int, paravirtual: bool, width: int, data: st.DataObject) -> None:
    stream = bytearray((legacy_pv if paravirtual else legacy_hvm)(random.Random(seed), width))
    for _ in range(data.draw(st.integers(1, 3))):
        stream[data.draw(st.integers(0, min(len(stream), 3000) - 1))] = data.draw(
            st.integers(0, 255)
        )
    cut = data.draw(st.integers(0, len(stream)))
    try:
        found = items(bytes(stream[:cut]), width, pv=paravirtual)
    except HvmctxError as error:
        assert str(error).startswith("legacy: offset 0x") and "\n" not in str(error)
        return
    assert found
