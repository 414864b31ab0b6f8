"""C's printf, for the one case in which Python's `%` differs: `%#x` of zero has no prefix.

Python does all else that Xen's tools use as C does: `%016x`, `%.2i`, `%-2i`, `%#18.8x`, `%u`,
`%s`.
"""

from __future__ import annotations

__all__ = ["CFormat"]


class CFormat:
    """A compiled format. Call it with its arguments, a tuple of ints and strings."""

    __slots__ = ("_alternate", "_others", "_text")

    def __init__(self, text: str) -> None:
        self._text = self._others = text
        self._alternate: list[tuple[int, str, str]] = []
        """Number, text and text for zero of each conversion with `#`, which `_others` have as
        text."""
        if "%#" in text:
            self._take_apart()

    def _take_apart(self) -> None:
        text, others = self._text, []
        number = start = at = 0
        while (at := text.find("%", at)) >= 0:
            end = at + 1
            while not text[end].isalpha() and text[end] != "%":
                end += 1
            end += 1
            if text[at + 1] == "#":
                conversion = text[at:end]
                zero = conversion.replace("#", "") % 0
                self._alternate.append((number, conversion, zero))
                others += [text[start:at], "%s"]
                start = end
            number += text[end - 1] != "%"
            at = end
        self._others = "".join([*others, text[start:]])

    def __call__(self, values: tuple[int | str, ...]) -> str:
        if not self._alternate or all(values):
            return self._text % values
        shown = list(values)
        for number, conversion, zero in self._alternate:
            value = values[number]
            shown[number] = conversion % value if value else zero
        return self._others % tuple(shown)
