"""Tables for people: with rich on a terminal where rich is installed, else plain columns.

Plain is what scripts get, whatever is installed, so that they can rely on it.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO


def printable(text: str) -> str:
    """Text out of an input, fit for a terminal and one line: what is not printable comes as
    Python writes it in a string."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Table:
    """Rows under a heading. Columns of numbers are set to the right."""

    def __init__(self, *heading: str) -> None:
        self._heading = heading
        self._rows: list[tuple[str | int, ...]] = []

    def add(self, *row: str | int) -> None:
        self._rows.append(row)

    def _to_the_right(self) -> list[bool]:
        return [
            all(isinstance(row[at], int) for row in self._rows) for at in range(len(self._heading))
        ]

    def lines(self) -> Iterator[str]:
        """The table as plain text, heading first."""
        rows = [self._heading, *(tuple(str(cell) for cell in row) for row in self._rows)]
        widths = [max(len(row[at]) for row in rows) for at in range(len(self._heading))]
        right = self._to_the_right()
        for row in rows:
            cells = [
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(row, widths, right)
            ]
            yield "  ".join(cells).rstrip() + "\n"

    def print(self, file: TextIO | None = None) -> None:
        """To `file` (standard output): as a rich table where that is a terminal."""
        file = file or sys.stdout
        if file.isatty() and self._print_rich(file):
            return
        file.writelines(self.lines())

    def _print_rich(self, file: TextIO) -> bool:
        try:
            from rich.console import Console
            from rich.table import Table as RichTable
        except ImportError:
            return False
        table = RichTable(box=None, header_style="bold", pad_edge=False)
        for name, to_right in zip(self._heading, self._to_the_right()):
            table.add_column(name, justify="right" if to_right else "left", no_wrap=True)
        for row in self._rows:
            table.add_row(*(str(cell) for cell in row))
        Console(file=file).print(table)
        return True
