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
        """Of each conversion with `#`, which are `%s` in `_others`: its number, itself, and what it
        makes of zero."""
        if "%#" in text:
            self._take_apart()

    def _take_apart(self) -> None:
        before, *parts = self._text.split("%#")
        assert not before.endswith("%"), "an escaped %"
        others, number = [before], _conversions(before)
        for part in parts:
            end = len(part) - len(part.lstrip("0123456789.")) + 1
            conversion, rest = part[:end], part[end:]
            self._alternate.append((number, f"%#{conversion}", f"%{conversion}" % 0))
            others.append(rest)
            number += 1 + _conversions(rest)
        self._others = "%s".join(others)

    def __call__(self, values: tuple[int | str, ...]) -> str:
        if not self._alternate or all(values):
            return self._text % values
        shown = list(values)
        for number, conversion, zero in self._alternate:
            value = values[number]
            shown[number] = conversion % value if value else zero
        return self._others % tuple(shown)


def _conversions(text: str) -> int:
    return text.replace("%%", "").count("%")
