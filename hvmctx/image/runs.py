"""Runs of neighbouring pages of a guest: what a map of its memory is made of."""

from __future__ import annotations

from array import array
from bisect import bisect_right

from hvmctx.abi import streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Run", "Runs"]


class Run:
    """`count` pfns from `pfn` on, of one type, their pages one after the other from
    `offset` on (None for types without data)."""

    __slots__ = ("count", "offset", "pfn", "type")

    def __init__(self, pfn: int, count: int, page_type: int, offset: int | None) -> None:
        self.pfn = pfn
        self.count = count
        self.type = page_type
        self.offset = offset

    def __repr__(self) -> str:
        where = "" if self.offset is None else f" at {self.offset:#x}"
        return f"<{self.count} pfns from {self.pfn:#x}, type {self.type:#x}{where}>"

    @property
    def end(self) -> int:
        """The first pfn after the run."""
        return self.pfn + self.count

    def blank(self) -> Run:
        """Pages for the same pfns, with nothing in them."""
        return Run(self.pfn, self.count, streams.PAGE_XALLOC, None)

    def part(self, start: int, end: int) -> Run:
        """What of the run lies in start..end-1."""
        offset = self.offset
        if offset is not None:
            offset += (start - self.pfn) * streams.PAGE_SIZE
        return Run(start, end - start, self.type, offset)


_NOWHERE = (1 << 64) - 1
"""The offset of a run without pages."""


class Runs:
    """Runs, as a sequence that grows at its end, at 41 bytes a row. A row is one run, or any
    number of them that follow each other with the same count and type, their pages at the same
    distance in the file: what the batches of a big guest are. One that merely goes on is joined
    to the one before."""

    __slots__ = ("_counts", "_many", "_offsets", "_pfns", "_steps", "_types")

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self._pfns = array("Q")
        self._counts = array("Q")
        self._types = array("B")
        self._offsets = array("Q")
        self._many = array("Q")
        self._steps = array("Q")
        for run in runs:
            self.append(run)

    def append(self, run: Run) -> None:
        """Add a run after the last, wherever its pfns are; an empty one is left out."""
        if not run.count:
            return
        pfn, count, kind = run.pfn, run.count, run.type
        offset = _NOWHERE if run.offset is None else run.offset
        if self._pfns and kind == self._types[-1] and pfn == self.end(self.rows - 1):
            many, before, last = self._many[-1], self._counts[-1], self._offsets[-1]
            blank = last == offset == _NOWHERE
            if many == 1 and (blank or offset == last + before * streams.PAGE_SIZE):
                self._counts[-1] += count
                return
            if count == before and offset > last and offset != _NOWHERE:
                if many == 1:
                    self._steps[-1] = offset - last
                if offset == last + many * self._steps[-1]:
                    self._many[-1] += 1
                    return
        self._pfns.append(pfn)
        self._counts.append(count)
        self._types.append(kind)
        self._offsets.append(offset)
        self._many.append(1)
        self._steps.append(0)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self._pfns)

    def __len__(self) -> int:
        return sum(self._many)

    def __iter__(self) -> Iterator[Run]:
        for row in range(self.rows):
            if self._many[row] == 1:
                yield self._single(row)
            else:
                yield from self.part(row, self._pfns[row], self.end(row))

    def between(self, start: int, end: int) -> Iterator[Run]:
        """Of runs that are disjoint: what of them lies in start..end-1."""
        for row in range(self.at_or_after(start), self.rows):
            first, stop = self._pfns[row], self.end(row)
            if first >= end:
                break
            if start <= first and stop <= end and self._many[row] == 1:
                yield self._single(row)
            else:
                yield from self.part(row, max(start, first), min(end, stop))

    def _single(self, row: int) -> Run:
        """A row that is one run: scattered pages have a row each, and `part` takes longer."""
        offset = self._offsets[row]
        where = None if offset == _NOWHERE else offset
        return Run(self._pfns[row], self._counts[row], self._types[row], where)

    def start(self, row: int) -> int:
        """The first pfn of a row."""
        return self._pfns[row]

    def end(self, row: int) -> int:
        """The first pfn after a row."""
        return self._pfns[row] + self._many[row] * self._counts[row]

    def type(self, row: int) -> int:
        """The type of its pages."""
        return self._types[row]

    def has_pages(self, row: int) -> bool:
        """Whether the file has them."""
        return self._offsets[row] != _NOWHERE

    def part(self, row: int, start: int, end: int) -> Iterator[Run]:
        """What of a row lies in start..end-1."""
        count, kind, offset = self._counts[row], self._types[row], self._offsets[row]
        number = (start - self._pfns[row]) // count
        first = self._pfns[row] + number * count
        while start < end:
            stop = min(end, first + count)
            where = None
            if offset != _NOWHERE:
                where = offset + number * self._steps[row] + (start - first) * streams.PAGE_SIZE
            yield Run(start, stop - start, kind, where)
            start = first = first + count
            number += 1

    def add_part(self, other: Runs, row: int, start: int, end: int) -> None:
        """Add what of a row of others lies in start..end-1."""
        if start == other.start(row) and end == other.end(row) and other._many[row] > 1:
            for name in self.__slots__:
                getattr(self, name).append(getattr(other, name)[row])
            return
        for run in other.part(row, start, end):
            self.append(run)

    def disjoint(self) -> bool:
        """Whether the pfns ascend."""
        pfns = self._pfns
        return all(self.end(row) <= pfns[row + 1] for row in range(self.rows - 1))

    def at_or_after(self, pfn: int) -> int:
        """Of runs that are disjoint: the row that has the pfn, or the next one there might be."""
        row = bisect_right(self._pfns, pfn) - 1
        return row if row >= 0 and pfn < self.end(row) else row + 1

    def by_pfn(self) -> array[int]:
        """The numbers of the rows, by their first pfns. Of several from one pfn on, the one that
        was added first comes first."""
        keys = [pfn << 32 | row for row, pfn in enumerate(self._pfns)]
        keys.sort()
        return array("Q", (key & 0xFFFFFFFF for key in keys))
