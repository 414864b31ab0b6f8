"""One difference, as people and programs are shown it, and those of two pieces of bytes: as ranges,
with how many bytes differ in each.
"""

from __future__ import annotations

import re
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Difference", "bytes_shown", "changed_bytes", "in_bytes"]

_LONGEST = 32
"""Bytes of a difference that are shown."""
_FEW, _APART, _MOST = 8, 16, 100
"""So many stretches of one body are shown as they are. Of more, those with fewer than `_APART` same
bytes between them are one range, and no more than `_MOST` of these are shown one by one."""
_CHUNK = 1 << 20
_CHANGED = re.compile(rb"[^\0]+")


class Difference:
    """`path` names what differs; `before` and `after` say how, None where it is not there.
    `bits` are those of a register by name: `-PGE +UMIP`. `changed` is how many bytes differ
    of a range in which not all do, else 0. `count` is how many there are of what the path
    names: pages of a range, otherwise 1."""

    __slots__ = ("after", "before", "bits", "changed", "count", "path")

    def __init__(
        self,
        path: str,
        before: str | None,
        after: str | None,
        *,
        bits: str = "",
        changed: int = 0,
        count: int = 1,
    ) -> None:
        self.path = path
        self.before = before
        self.after = after
        self.bits = bits
        self.changed = changed
        self.count = count

    def parts(self) -> Iterator[tuple[str, str]]:
        """The text in pieces, each with what it is of: "-" the first, "+" the second, "" both."""
        yield f"{self.path}: ", ""
        if self.before is None:
            yield "only in the second: ", ""
            yield self.after or "", "+"
        elif self.after is None:
            yield "only in the first: ", ""
            yield self.before, "-"
        elif self.before == self.after:  # as many pages
            yield self.before, ""
        else:
            yield self.before, "-"
            yield " -> ", ""
            yield self.after, "+"
        if self.bits:
            for number, bit in enumerate(re.split(r" (?=[+-])", self.bits)):
                yield " " if number else " (", ""
                yield bit, bit[:1]
            yield ")", ""
        if self.changed:
            yield f" ({self.changed} bytes differ)", ""

    def __str__(self) -> str:
        return "".join(text for text, _ in self.parts())

    def __repr__(self) -> str:
        return f"<{self}>"

    def as_dict(self) -> dict[str, str | int | None]:
        """For JSON."""
        found: dict[str, str | int | None] = {
            "path": self.path, "before": self.before, "after": self.after,
        }  # fmt: skip
        if self.bits:
            found["bits"] = self.bits
        if self.changed:
            found["bytes"] = self.changed
        return found


def in_bytes(
    path: str, one: bytes, other: bytes, start: int = 0, *, most: int = _MOST
) -> Iterator[Difference]:
    """The ranges of bytes that differ, of what both have, the last of `most` with all that
    follows; `start` is where the bytes are in what the path names. That one has more is said
    by whoever knows what of."""
    few = min(_FEW, most)
    exact = list(islice(_stretches(one, other, 1), few + 1))
    ranges = iter(exact) if len(exact) <= few else _stretches(one, other, _APART)
    for number, (at, end, changed) in enumerate(ranges, 1):
        if number == most:
            for _, end, more in ranges:  # noqa: B007, PLW2901 - up to the last
                changed += more  # noqa: PLW2901
        where = f"{path}[{start + at:#x}:+{end - at}]"
        some = changed if changed < end - at else 0
        yield Difference(where, bytes_shown(one[at:end]), bytes_shown(other[at:end]), changed=some)


def _stretches(one: bytes, other: bytes, apart: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, how many bytes differ) of the stretches that differ; those with fewer than
    `apart` same bytes between them are one."""
    start = end = changed = 0
    for base in range(0, min(len(one), len(other)), _CHUNK):
        left, right = one[base : base + _CHUNK], other[base : base + _CHUNK]
        for found in _CHANGED.finditer(_exclusive(left, right)):
            at, until = base + found.start(), base + found.end()
            if changed and at - end >= apart:
                yield start, end, changed
                changed = 0
            if not changed:
                start = at
            end, changed = until, changed + until - at
    if changed:
        yield start, end, changed


def changed_bytes(one: bytes, other: bytes) -> int:
    """How many bytes differ, of what both have."""
    exclusive = _exclusive(one, other)
    return len(exclusive) - exclusive.count(0)


def _exclusive(one: bytes, other: bytes) -> bytes:
    """Their exclusive or, as one number each: byte by byte it takes a hundred times as long."""
    size = min(len(one), len(other))
    numbers = (int.from_bytes(each[:size], "little") for each in (one, other))
    return (next(numbers) ^ next(numbers)).to_bytes(size, "little")


def bytes_shown(data: bytes) -> str:
    """As the value of a window: a number of 1, 2, 4 or 8 bytes, or hex digits."""
    if len(data) in (1, 2, 4, 8):
        return f"{int.from_bytes(data, 'little'):#x}"
    more = f"... ({len(data)} bytes)" if len(data) > _LONGEST else ""
    return f"{data[:_LONGEST].hex()}{more}"
