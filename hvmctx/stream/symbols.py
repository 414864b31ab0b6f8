"""The symbols of a guest's kernel: a System.map, what /proc/kallsyms says, or the symbol table of
an ELF file such as vmlinux.

A line of the first two is an address in hex, a letter for the kind and a name, and of a module's
the module in brackets. Source: nm(1); Linux's scripts/mksysmap and kernel/kallsyms.c, 6.1.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right

from hvmctx.errors import FormatError
from hvmctx.files.opening import read_whole
from hvmctx.stream import elf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from hvmctx.files.source import Source

__all__ = ["LAYER", "Symbols"]

LAYER = "symbols"
_LINE = re.compile(
    rb"^([0-9a-fA-F]{1,16})[ \t]+([A-Za-z?])[ \t]+([^\s\0]+)(?:[ \t]+\[[^\s\]]*\])?[ \t\r]*$",
    re.MULTILINE,
)
_NAME = re.compile(rb"[^\s\0]*")
_LONGEST_NAME = 200
_WIDEST = (1 << 64) - 1
_CODE = b"TtWwi"
_WITHOUT_PLACE = b"AaUvN"
"""Absolute numbers, what is not defined, and debugging information."""
_FARTHEST = 1 << 20
"""Bytes that an address may be after its symbol: beyond, it is in something that has none."""


class Symbols:
    """Names of addresses. `len` is how many there are; `shift` is added to every address, modulo
    2**64, for a kernel that runs elsewhere than it was linked to."""

    def __init__(self, names: bytes, rows: Iterable[tuple[int, int, bool]]) -> None:
        """`names` has all names; a row is an address, where in it the name starts, and whether it
        is one of code. Of several at an address the first is taken."""
        self.shift = 0
        self._names = names
        ordered = sorted(rows, key=lambda row: row[0])
        self._addresses = array("Q", (row[0] for row in ordered))
        self._places = array("Q", (row[1] for row in ordered))
        self._code = bytes(row[2] for row in ordered)

    @classmethod
    def read(cls, source: Source) -> Symbols:
        """Of a seekable source. Raises FormatError for what has no symbols, InputError where it
        cannot be read, LimitError for too many or too much."""
        if bytes(source.read_at(0, len(elf.MAGIC))) == elf.MAGIC:
            names, rows = elf.symbol_rows(source)
        else:
            names, rows = _of_text(source)
        if not any(address for address, _, _ in rows):
            why = "all addresses are zero (kptr_restrict hides them)" if rows else "no symbols"
            raise FormatError(
                why, layer=LAYER, offset=0, found=ascii(bytes(names[:60]))[1:],
                expected="a System.map, kallsyms, or a vmlinux that is not stripped",
            )  # fmt: skip
        return cls(names, rows)

    def __len__(self) -> int:
        return len(self._addresses)

    def __repr__(self) -> str:
        return f"<{len(self)} symbols>"

    def at(self, address: int, *, code: bool = False) -> str:
        """`name` or `name+0x12` of the symbol at or before an address; "" where there is none
        near, and with `code` where it is not one of code. Any characters may be in it."""
        address = address - self.shift & _WIDEST
        row = bisect_right(self._addresses, address) - 1
        if row < 0 or address - self._addresses[row] >= _FARTHEST:
            return ""
        start = self._addresses[row]
        row = bisect_left(self._addresses, start)
        if code and not self._code[row]:
            return ""
        name = self._name(row)
        return name if address == start else f"{name}+{address - start:#x}"

    def address(self, name: str) -> int | None:
        """The address of a symbol; None if there is none of that name."""
        raw = name.encode()
        for row, place in enumerate(self._places):
            if self._names.startswith(raw, place) and self._name(row) == name:
                return self._addresses[row] + self.shift & _WIDEST
        return None

    def _name(self, row: int) -> str:
        start = self._places[row]
        found = _NAME.match(self._names, start, start + _LONGEST_NAME)
        return (found[0] if found else b"").decode("utf-8", "backslashreplace")


def _of_text(source: Source) -> tuple[bytes, list[tuple[int, int, bool]]]:
    limits = source.limits
    data = bytes(read_whole(source, layer=LAYER))
    rows: list[tuple[int, int, bool]] = []
    for line in _LINE.finditer(data):
        if line[2] in _WITHOUT_PLACE:
            continue
        if len(rows) == limits.symbols:
            raise limits.over("symbols", "symbols", layer=LAYER, offset=line.start())
        rows.append((int(line[1], 16), line.start(3), line[2] in _CODE))
    return data, rows
