from __future__ import annotations

import random
import struct

import pytest

from hvmctx.abi.declare import RecordType
from hvmctx.abi.registry import record_types
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.stream.detect import ENOUGH, detect, legacy_width
from tests.builders.legacy import legacy_hvm, legacy_pv
from tests.builders.samples import CONTEXTS, DATA, EXAMPLE, IMAGES, STREAMS, context_bytes
from tests.builders.streams import libxl_head

FILES = [
    *((path, "xl") for path in [*IMAGES, EXAMPLE]),
    *((path, "libxc") for path in STREAMS),
    *((DATA / "images" / f"{n}.hvmctx.bin", "context") for n in ("hvm1", "pvhx", "hvm2x420")),
    *((path, "libxc") for path in (DATA / "streams" / "handbuilt").glob("libxc*.bin")),
    (DATA / "streams" / "handbuilt" / "bad_marker.bin", "libxc"),
    *((path, "libxl") for path in (DATA / "streams" / "handbuilt").glob("libxl*.bin")),
    (DATA / "streams" / "legacy_hvm_w64.in.bin", "legacy"),
    (DATA / "streams" / "legacy_hvm_w32.in.bin", "legacy"),
    (DATA / "streams" / "legacy_hvm_w64_xl.in.bin", "xl"),
]


@pytest.mark.parametrize(("path", "layer"), FILES, ids=lambda v: getattr(v, "name", v))
def test_genuine_files(path: object, layer: str) -> None:
    assert detect(path.read_bytes()[:ENOUGH]) == layer  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", CONTEXTS, ids=lambda path: "/".join(path.parts[-3:]))
def test_contexts_of_all_kinds(path: object) -> None:
    assert detect(path.read_bytes()[:ENOUGH]) == "context"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "head", [b"#!/bin/sh\necho\n", b"\x7fELF\2\1\1\0" + bytes(56), b"QEVM\0\0\0\3", b"PK\3\4" * 16]
)
def test_nothing_of_xens(head: bytes) -> None:
    assert detect(head) is None


@pytest.mark.parametrize("size", range(0, 40))
def test_cut_contexts_are_contexts(size: int) -> None:
    assert detect(context_bytes()[:size]) == "context"


def test_cut_stream_headers_are_streams() -> None:
    assert detect(libxl_head()[:8]) == "libxl"


def test_legacy_widths() -> None:
    """PV: all ones behind the p2m size; HVM: a chunk or a batch."""
    pv64 = struct.pack("<QQI", 0x10000, (1 << 64) - 1, 100) + bytes(44)
    pv32 = struct.pack("<III", 0x10000, 0xFFFFFFFF, 100) + bytes(44)
    assert (legacy_width(pv64), legacy_width(pv32)) == (8, 4)
    assert legacy_width(struct.pack("<Qi", 0x10000, -7) + bytes(52)) == 8
    assert legacy_width(struct.pack("<Qi4Q", 0x10000, 4, 0, 1, 2, 3)) == 8
    assert legacy_width(struct.pack("<Qi4Q", 0x10000, 4, 0, 1, 2, 0x10000)) == 0
    assert legacy_width(bytes(64)) == 0
    assert legacy_width(b"") == 0


@pytest.mark.parametrize("instance", [0, 1, 3, 0x1234])
@pytest.mark.parametrize("known", [k for k in record_types() if k.size], ids=lambda k: k.name)
def test_a_context_need_not_start_with_its_header(known: RecordType, instance: int) -> None:
    """Of 8 bytes or more of zeros, which are no pfns that a batch could have."""
    for size in {known.size, max(8, known.size - 8)}:
        context = HvmContext([Record(known, instance, bytes(size)), Record(0, 0)])
        assert detect(context.to_bytes()[:ENOUGH]) == "context"


@pytest.mark.parametrize("p2m", [6, 7, 16, 20, 21, 31, 34])
@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize("paravirtual", [False, True])
def test_tiny_guests(p2m: int, width: int, paravirtual: bool) -> None:
    """Whose number of pages is a typecode, too."""
    for seed in range(6):
        rng = random.Random(seed)
        small = (legacy_pv if paravirtual else legacy_hvm)(rng, width, p2m=p2m)
        assert legacy_width(small[:ENOUGH]) == width and detect(small[:ENOUGH]) == "legacy"


@pytest.mark.parametrize("width", [4, 8])
def test_the_first_chunk_of_a_tiny_guest(width: int) -> None:
    start = (20).to_bytes(width, "little")
    words = b"".join((n).to_bytes(width, "little") for n in range(20))
    batch = struct.pack("<i", 20) + words
    param, tsc = struct.pack("<iIQ", -4, 0, 7), struct.pack("<iIQII", -7, 1, 2, 3, 4)
    vcpus, toolstack = struct.pack("<iiQ", -2, 1, 3), struct.pack("<iI", -18, 2) + b"ab"
    end = struct.pack("<iQQQI", 0, 1, 2, 3, 4112)
    nonsense = struct.pack("<i", -99)
    chunks_of = (batch, param + batch, tsc + batch, vcpus + batch, toolstack + batch,
                 struct.pack("<i", -9) + batch, param + end, vcpus + nonsense)  # fmt: skip
    for chunks in chunks_of:
        there = chunks[-4:] != nonsense
        head = (start + chunks).ljust(ENOUGH, b"\1")[:ENOUGH]
        assert (legacy_width(head) == width) == there, chunks
        assert legacy_width(head[:-1]) == 0


def test_what_is_no_tiny_guest() -> None:
    """Empty records of a context, and more pages than the guest has."""
    empty = b"".join(struct.pack("<HHI", code, 0, 0) for code in (19, 2, 2, 2, 3, 3, 3, 0))
    assert detect(empty) == "context"
    assert detect(struct.pack("<Qi6Q", 5, 6, 0, 1, 2, 3, 4, 5) + bytes(4)) == "context"
    assert detect(struct.pack("<QiIQi", 5, -3, 0, 7, 0).ljust(64, b"\0")) == "context"


def test_a_vmport_record_with_any_length() -> None:
    for length in (0, 1, 8, 15, 0x7FFFFFFF, 0xFFFFFFF8, 0xFFFFFFFF):
        assert detect(struct.pack("<HHI", 21, 0, length) + bytes(56)) == "context"


def test_pfns_of_a_batch_ascend() -> None:
    absent = 0xF0000000
    assert legacy_width(struct.pack("<Qi4Q", 0x10000, 4, 0, absent, absent, 3)) == 8
    assert legacy_width(struct.pack("<Qi4Q", 0x10000, 4, 0, 2, 2, 3)) == 0
    assert legacy_width(struct.pack("<Qi4Q", 0x10000, 2, 0, 1, 0, 0)) == 8  # a batch of two
