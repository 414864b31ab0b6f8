"""Tables for people: rich's on a terminal with colours if rich is installed, otherwise aligned
columns.

Scripts get aligned columns whatever is installed, so that they can rely on them.
"""

from __future__ import annotations

import sys

from hvmctx.messages import has_color, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO


__all__ = ["Table"]


class Table:
    """Rows under a heading. Columns of numbers are aligned to the right. What a cell holds is
    shown as it is, but for what is not printable."""

    def __init__(self, *heading: str) -> None:
        self._heading = heading
        self._rows: list[tuple[str | int, ...]] = []

    def add(self, *row: str | int) -> None:
        self._rows.append(tuple(printable(cell) if isinstance(cell, str) else cell for cell in row))

    def _right_aligned(self) -> list[bool]:
        return [
            all(isinstance(row[at], int) for row in self._rows) for at in range(len(self._heading))
        ]

    def lines(self) -> Iterator[str]:
        """The table in aligned columns, heading first."""
        rows = [self._heading, *(tuple(str(cell) for cell in row) for row in self._rows)]
        widths = [max(len(row[at]) for row in rows) for at in range(len(self._heading))]
        right = self._right_aligned()
        for row in rows:
            cells = [
                cell.rjust(width) if on_the_right else cell.ljust(width)
                for cell, width, on_the_right in zip(row, widths, right)
            ]
            yield "  ".join(cells).rstrip() + "\n"

    def print(self, file: TextIO | None = None) -> None:
        """Print to `file`, which is standard output by default; a rich table if that is a
        terminal that may have colours."""
        out = file or sys.stdout
        if out is not None and not (out.isatty() and has_color(out) and self._print_rich(out)):
            out.writelines(self.lines())

    def _print_rich(self, file: TextIO) -> bool:
        try:
            from rich.console import Console
            from rich.table import Table as RichTable
        except ImportError:
            return False
        table = RichTable(box=None, header_style="bold", pad_edge=False)
        for name, on_the_right in zip(self._heading, self._right_aligned()):
            table.add_column(name, justify="right" if on_the_right else "left", no_wrap=True)
        for row in self._rows:
            table.add_row(*(str(cell) for cell in row))
        Console(file=file, markup=False, emoji=False, highlight=False).print(table)
        return True
