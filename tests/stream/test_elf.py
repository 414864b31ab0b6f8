from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import FormatError, HvmctxError, LimitError
from hvmctx.files.source import BufferSource
from hvmctx.limits import Limits
from hvmctx.stream.elf import Core, Note
from tests.builders.cores import core_of
from tests.builders.samples import DATA

notes = st.lists(
    st.builds(
        Note,
        st.text("ABCxyz0", min_size=1, max_size=9),
        st.integers(0, 0xFFFFFFFF),
        st.binary(max_size=40),
    ),
    max_size=4,
)


@given(st.lists(st.tuples(st.integers(0, 1 << 60), st.binary(max_size=20)), max_size=4), notes)
def test_there_and_back(parts: list[tuple[int, bytes]], made: list[Note]) -> None:
    data = core_of([(address, len(held) + 5, held) for address, held in parts], made)
    core = Core.read(BufferSource(data))
    assert [(n.owner, n.type, n.data) for n in core.notes] == [
        (n.owner, n.type, n.data) for n in made
    ]
    assert [(s.address, data[s.offset : s.offset + s.in_file], s.size) for s in core.segments] == [
        (address, held, len(held) + 5) for address, held in parts
    ]


def test_more_segments_than_the_header_can_say() -> None:
    data = core_of([(n << 12, 4096, b"") for n in range(0xFFFF)], [Note("x", 1, b"y")])
    core = Core.read(BufferSource(data))
    assert len(core.segments) == 0xFFFF and core.segments[-1].address == 0xFFFE << 12


def test_qemus_own(tmp_path: Path) -> None:
    """Its headers stand in another order, and say 8 for the size of the ELF header."""
    head = (DATA / "qemu" / "core-head.bin").read_bytes()
    core = Core.read(BufferSource(head + bytes(0x4040000)))
    assert [(s.address, s.size) for s in core.segments] == [(0, 64 << 20), (0xFFFC0000, 256 << 10)]
    assert [(n.owner, len(n.data)) for n in core.notes] == [
        ("CORE", 0x90), ("CORE", 0x90), ("QEMU", 440), ("QEMU", 440),
    ]  # fmt: skip


GOOD = core_of([(0x1000, 16, b"contents")], [Note("CORE", 1, b"registers")])


def patched(at: int, form: str, value: int) -> bytes:
    data = bytearray(GOOD)
    struct.pack_into(form, data, at, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too short"),
        (GOOD[:63], "too short"),
        (patched(4, "<B", 1), "not a 64-bit little-endian ELF file"),
        (patched(16, "<H", 2), "not an x86 core"),
        (patched(18, "<H", 183), "not an x86 core"),
        (patched(54, "<H", 32), "program headers of an unknown size"),
        (patched(56, "<H", 0xFFFE), "more program headers than the file can hold"),
        (patched(32, "<Q", 1 << 40), "the file ends"),
        (patched(64 + 32, "<Q", 1 << 40), "more than 64 MiB"),
        (patched(64 + 56 + 32, "<Q", 9), "the file ends within a segment"),
        (patched(64 + 56 + 40, "<Q", 7), "the file ends within a segment"),
        (patched(64 + 112 + 4, "<I", 99), "a note is truncated"),
    ],
)
def test_damaged(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason) as caught:
        Core.read(BufferSource(data))
    assert caught.value.layer == "elf"


@given(st.binary(max_size=300), st.integers(0, len(GOOD)))
def test_any_bytes(noise: bytes, keep: int) -> None:
    data = GOOD[:keep] + noise
    try:
        core = Core.read(BufferSource(data))
    except HvmctxError as error:
        assert str(error).startswith("elf: offset 0x")
        return
    assert all(one.offset + one.in_file <= len(data) for one in core.segments)


def test_notes_are_counted() -> None:
    """An empty one takes twelve bytes of the file, and hundreds of memory."""
    source = BufferSource(core_of([], [Note("x", 1, b"")] * 5))
    assert len(Core.read(source).notes) == 5
    source.limits = Limits(rows=4)
    with pytest.raises(LimitError, match="more than 4 notes: --limits rows=N"):
        Core.read(source)


def test_notes_that_overlap_count_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many headers of one long note would make it many times as long."""
    data = core_of([], [Note("x", 1, bytes(2000))])
    header = 64  # of the file; its first program header is that of the notes
    note = data[header : header + 56]
    count = 5
    moved = bytearray(note)
    offset = struct.unpack_from("<Q", note, 8)[0] + 56 * (count - 1)
    struct.pack_into("<Q", moved, 8, offset)
    many = bytearray(data[:header]) + bytes(moved) * count + data[header + 56 :]
    struct.pack_into("<H", many, 56, count)
    assert len(Core.read(BufferSource(bytes(many))).notes) == count
    source = BufferSource(bytes(many))
    source.limits = Limits(core_notes=8000)
    with pytest.raises(LimitError, match="more than 8000 bytes: --limits core_notes=N"):
        Core.read(source)
