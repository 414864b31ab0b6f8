"""C's printf, for the one case in which Python's `%` differs: `%#x` of zero has no prefix.

Python does all else that Xen's tools use as C does: `%016x`, `%.2i`, `%-2i`, `%#18.8x`, `%u`,
`%s`.
"""

from __future__ import annotations

__all__ = ["CFormat"]


class CFormat:
    """A compiled format. Call it with its arguments, a tuple of ints and strings."""

    __slots__ = ("_pieces", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._pieces = _pieces(text) if "%#" in text else None

    def __call__(self, values: tuple[int | str, ...]) -> str:
        if self._pieces is None or all(values):
            return self._text % values
        parts = [
            (nonzero if value else zero) % value
            for (nonzero, zero), value in zip(self._pieces, values)
        ]
        return "".join(parts) + self._pieces[-1][0]


def _pieces(text: str) -> list[tuple[str, str]]:
    """A pair for each conversion, with the text before it: for a non-zero value, and for zero.
    The last is the text after the last conversion."""
    pieces = []
    start = at = 0
    while (at := text.find("%", at)) >= 0:
        if text[at + 1] == "%":
            at += 2
            continue
        end = at + 1
        while not text[end].isalpha():
            end += 1
        piece = text[start : end + 1]
        pieces.append((piece, piece.replace("%#", "%")))
        start = at = end + 1
    pieces.append((text[start:].replace("%%", "%"), ""))
    return pieces
