"""ELF files, as far as a guest's memory and registers need them: of ELF64 core files of x86-64
the segments that hold memory, and notes; of programs, such as a kernel's vmlinux, the symbols.

Little-endian. Source: the System V ABI, gabi 4.1 and its supplement for x86-64; QEMU's
dump-guest-memory (7.2), whose cores put the headers in another order and say 8 where the
size of the ELF header belongs.
"""

from __future__ import annotations

import struct

from hvmctx.errors import FormatError, LengthError, TruncatedError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from hvmctx.files.source import Source

__all__ = [
    "LAYER", "MAGIC", "Core", "Note", "Segment", "head_size", "head_to_bytes",
    "notes_to_bytes", "symbol_rows",
]  # fmt: skip

LAYER = "elf"
MAGIC = b"\x7fELF"
_IDENT = MAGIC + b"\2\1\1" + bytes(9)
"""64-bit, little-endian, version 1."""
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_SECTION_INFO = struct.Struct("<44xI16x")
_NOTE = struct.Struct("<III")
_CORE, _X86_64, _I386 = 4, 62, 3
_LOAD, _NOTES = 1, 4
_EXTENDED = 0xFFFF


class Segment:
    """Memory: `size` bytes at physical address `address`, of which the first `in_file` lie
    at `offset` of the file; the rest is zero."""

    __slots__ = ("address", "in_file", "offset", "size")

    def __init__(self, address: int, offset: int, in_file: int, size: int) -> None:
        self.address = address
        self.offset = offset
        self.in_file = in_file
        self.size = size


class Note:
    """A note: who defined it, its type, its contents."""

    __slots__ = ("data", "owner", "type")

    def __init__(self, owner: str, kind: int, data: bytes) -> None:
        self.owner = owner
        self.type = kind
        self.data = data


class Core:
    """Segments and notes, in the file's order."""

    def __init__(self, segments: list[Segment], notes: list[Note]) -> None:
        self.segments = segments
        self.notes = notes

    @classmethod
    def read(cls, source: Source) -> Core:
        """Of a seekable source; segments' contents are not read. Raises FormatError."""
        whole = source.whole_size()
        head = bytes(source.read_at(0, _HEADER.size))
        if len(head) < _HEADER.size:
            raise TruncatedError(
                "too short", layer=LAYER, offset=0, record="header",
                found=f"{len(head)} bytes", expected=str(_HEADER.size),
            )  # fmt: skip
        ident, kind, machine, *_ = fields = _HEADER.unpack(head)
        if ident[:7] != _IDENT[:7]:
            raise UnsupportedError(
                "not a 64-bit little-endian ELF file", layer=LAYER, offset=0, record="header",
                found=ident[:7].hex(" "), expected=_IDENT[:7].hex(" "),
            )  # fmt: skip
        if kind != _CORE or machine not in (_X86_64, _I386):
            raise UnsupportedError(
                "not an x86 core", layer=LAYER, offset=16, record="header",
                found=f"type {kind}, machine {machine}", expected="type 4, machine 62 or 3",
            )  # fmt: skip
        table, sections, each, count = fields[5], fields[6], fields[9], fields[10]
        if count == _EXTENDED:  # more than the field can say: in the first section then
            (count,) = _SECTION_INFO.unpack(_exactly(source, sections, 64, "section header"))
        if count and each != _PROGRAM.size:
            raise LengthError(
                "program headers of an unknown size", layer=LAYER, offset=54, record="header",
                found=f"{each} bytes", expected=str(_PROGRAM.size),
            )  # fmt: skip
        limits = source.limits
        if count > whole // _PROGRAM.size:
            raise LengthError(
                "more program headers than the file can hold", layer=LAYER, offset=56,
                record="header", found=str(count),
                expected=f"{whole // _PROGRAM.size} at most",
            )  # fmt: skip
        if count > limits.segments:
            raise limits.over("segments", "segments", layer=LAYER, offset=56, record="header")
        data = _exactly(source, table, count * _PROGRAM.size, "program headers")
        segments: list[Segment] = []
        notes: list[Note] = []
        noted = 0
        for what, _, offset, _, address, in_file, size, _ in _PROGRAM.iter_unpack(data):
            if what == _LOAD:
                segments.append(_segment(source, address, offset, in_file, size))
            elif what == _NOTES:
                noted += in_file
                if noted > limits.core_notes:
                    raise limits.over(
                        "core_notes", "bytes", layer=LAYER, offset=offset, record="notes"
                    )
                _add_notes(notes, source, offset, in_file)
        return cls(segments, notes)


def _exactly(source: Source, offset: int, count: int, what: str) -> bytes:
    data = bytes(source.read_at(offset, count))
    if len(data) < count:
        raise TruncatedError(
            "the file ends", layer=LAYER, offset=offset, record=what,
            found=f"{len(data)} bytes", expected=str(count),
        )  # fmt: skip
    return data


def _segment(source: Source, address: int, offset: int, in_file: int, size: int) -> Segment:
    whole = source.whole_size()
    if offset + in_file > whole or in_file > size:
        raise TruncatedError(
            "the file ends within a segment", layer=LAYER, offset=offset, record="segment",
            found=f"{max(0, whole - offset)} bytes", expected=f"{in_file}, {size} at most",
        )  # fmt: skip
    return Segment(address, offset, in_file, size)


def _add_notes(notes: list[Note], source: Source, offset: int, count: int) -> None:
    data = _exactly(source, offset, count, "notes")
    at = 0
    while at + _NOTE.size <= len(data):
        name_size, size, kind = _NOTE.unpack_from(data, at)
        start = at + _NOTE.size + (name_size + 3 & ~3)
        end = start + size
        if end > len(data):
            raise FormatError(
                "a note is truncated", layer=LAYER, offset=offset + at, record="notes",
                found=f"{len(data) - at} bytes", expected=str(end - at),
            )  # fmt: skip
        if len(notes) == source.limits.rows:
            raise source.limits.over(
                "rows", "notes", layer=LAYER, offset=offset + at, record="notes"
            )
        name = data[at + _NOTE.size : at + _NOTE.size + name_size].rstrip(b"\0")
        notes.append(Note(name.decode("ascii", "replace"), kind, data[start:end]))
        at = end + 3 & ~3


def notes_to_bytes(notes: Iterable[Note]) -> bytes:
    """Notes, one after the other."""
    pieces = []
    for note in notes:
        name = note.owner.encode("ascii") + b"\0"
        pieces += [_NOTE.pack(len(name), len(note.data), note.type)]
        pieces += [part.ljust(len(part) + 3 & ~3, b"\0") for part in (name, note.data)]
    return b"".join(pieces)


def head_size(segments: int, notes: bytes) -> int:
    """Bytes before the first segment's contents."""
    table = _PROGRAM.size * (segments + 1)
    extended = 64 if segments + 1 >= _EXTENDED else 0
    return _HEADER.size + extended + table + len(notes)


def head_to_bytes(segments: list[Segment], notes: bytes) -> bytes:
    """Everything before the contents: header, program headers, notes. Segments' offsets
    are the caller's, from `head_size` on. Virtual addresses are physical ones: a debugger
    so reads guest-physical memory."""
    count = len(segments) + 1
    extended = count >= _EXTENDED
    table = _HEADER.size + (64 if extended else 0)
    head = _HEADER.pack(
        _IDENT, _CORE, _X86_64, 1, 0, table, _HEADER.size if extended else 0, 0, _HEADER.size,
        _PROGRAM.size, _EXTENDED if extended else count, 64 if extended else 0,
        1 if extended else 0, 0,
    )  # fmt: skip
    if extended:
        head += _SECTION_INFO.pack(count)
    at = table + _PROGRAM.size * count
    rows = [_PROGRAM.pack(_NOTES, 0, at, 0, 0, len(notes), len(notes), 4)]
    rows += [
        _PROGRAM.pack(_LOAD, 7, s.offset, s.address, s.address, s.in_file, s.size, 4096)
        for s in segments
    ]
    return b"".join((head, *rows, notes))


_CLASSES = {  # of a file of 32 bits and of 64
    1: (
        struct.Struct("<32xI10xHH2x"), struct.Struct("<4xII4xIII12x"), struct.Struct("<IIIBBH"),
        (0, 1, 3, 5),
    ),
    2: (
        struct.Struct("<40xQ10xHH2x"), struct.Struct("<4xIQ8xQQI20x"), struct.Struct("<IBBHQQ"),
        (0, 4, 1, 3),
    ),
}  # fmt: skip
"""Header: where the section headers are, the size of one, how many. Section header: type, flags,
offset, size, link. A symbol, and which of its numbers are the name, the value, the kind, the
section."""
_SYMBOLS = 2
_EXECUTABLE = 4
"""Of a section's flags."""
_UNDEFINED = 0
_FUNCTION = 2
"""Data are 1, and 0 what has no type; sections, files and others come after these."""


def symbol_rows(source: Source) -> tuple[bytes, list[tuple[int, int, bool]]]:
    """The names of a program's symbols, each up to a NUL, and a row for each that has a place: its
    address, where its name starts, whether it is one of code (as assembly has labels without a
    type, the section says that). Of a seekable source. Raises FormatError, and LimitError for too
    much."""
    limits = source.limits
    ident = bytes(source.read_at(0, len(_IDENT)))
    if ident[:4] != MAGIC or ident[4:5] not in (b"\1", b"\2") or ident[5:6] != b"\1":
        raise UnsupportedError(
            "not a little-endian ELF file", layer=LAYER, offset=0, record="header",
            found=ident[:7].hex(" "), expected=_IDENT[:7].hex(" "),
        )  # fmt: skip
    header, section, symbol, order = _CLASSES[ident[4]]
    table, each, count = header.unpack(_exactly(source, 0, header.size, "header"))
    if not table or each != section.size:
        raise FormatError(
            "no section headers, so no symbols", layer=LAYER, offset=0, record="header",
            found=f"headers of {each} bytes at {table:#x}", expected=f"of {section.size}",
        )  # fmt: skip
    headers = _exactly(source, table, each * count, "section headers")
    sections = list(section.iter_unpack(headers))
    found = next((one for one in sections if one[0] == _SYMBOLS), None)
    if found is None:
        raise FormatError(
            "no symbol table: the file is stripped", layer=LAYER, offset=table,
            record="section headers", found=f"{count} sections", expected="one of type 2",
        )  # fmt: skip
    _, _, offset, size, link = found
    if size // symbol.size > limits.symbols:
        raise limits.over("symbols", "symbols", layer=LAYER, offset=offset, record="symbols")
    if link >= len(sections) or sections[link][3] > limits.input:
        raise FormatError(
            "no names of symbols", layer=LAYER, offset=table, record="section headers",
            found=f"section {link} of {count}", expected=f"one of {limits.input} bytes at most",
        )  # fmt: skip
    names = _exactly(source, sections[link][2], sections[link][3], "names of symbols")
    data = _exactly(source, offset, size - size % symbol.size, "symbols")
    rows: list[tuple[int, int, bool]] = []
    for values in symbol.iter_unpack(data):
        name, value, info, where = (values[at] for at in order)
        if _UNDEFINED < where < count and info & 15 <= _FUNCTION and name < len(names):
            rows.append((value, name, bool(sections[where][1] & _EXECUTABLE)))
    return names, rows
