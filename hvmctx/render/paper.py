"""How much a page holds: `Paper` takes the rows that fit, and says how many do not."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Cells = tuple[str | int | None, ...]

__all__ = ["MOST_ROWS", "Paper", "Shown", "cut"]

MOST_ROWS = 1000
"""Of one table."""
_MOST_CHARACTERS = 3_000_000
"""Of all rows."""
_ROW_COSTS = 60
_LONGEST = 600
"""Characters of a cell."""


class Shown(list["Cells"]):
    """Rows of a table. `left` are those that are not shown."""

    left = 0


class Paper:
    """One page.

    >>> rows = Paper().rows(((name,) for name in "abcde"), most=3)
    >>> len(rows), rows.left
    (3, 2)
    """

    def __init__(self) -> None:
        self._left = _MOST_CHARACTERS

    @property
    def is_full(self) -> bool:
        return self._left <= 0

    def rows(self, rows: Iterable[Cells], most: int = MOST_ROWS) -> Shown:
        """What fits of these; long cells are cut."""
        shown = Shown()
        for row in rows:
            if self.is_full or len(shown) >= most:
                shown.left += 1
                continue
            cells = tuple(cut(cell) if isinstance(cell, str) else cell for cell in row)
            self._left -= _ROW_COSTS + sum(len(str(cell)) for cell in cells)
            shown.append(cells)
        return shown


def cut(text: str) -> str:
    """Text that is too long for a cell, as its start and its length."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"
