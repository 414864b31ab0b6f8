"""Pictures of a guest's memory, as rectangles for an SVG: by type (`regions_of`), and by the
batches that it comes in (`batches_of`). However big or scattered a guest is, they have no more
rectangles than the grid has cells."""

from __future__ import annotations

from heapq import heappushpop

from hvmctx.abi import streams
from hvmctx.image.memory_map import runs_of_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from hvmctx.image.image import Image
    from hvmctx.image.memory_map import MemoryMap

    Plain = dict[str, Any]
    Shares = list[int]

__all__ = ["KINDS", "Region", "batches_of", "regions_of"]

KINDS = {
    "data": "data", "tables": "page tables", "allocated": "allocate-only", "broken": "broken",
    "absent": "absent", "invalid": "invalid type",
}  # fmt: skip
"""What pages are drawn as, and the words for it."""
_NAMES = tuple(KINDS)
_KIND_OF = [
    "data" if not number else
    "broken" if number == streams.PAGE_BROKEN else
    "allocated" if number == streams.PAGE_XALLOC else
    "absent" if number == streams.PAGE_XTAB else
    "tables" if number in streams.PAGE_TYPES else "invalid"
    for number in range(16)
]  # fmt: skip
_ROW_OF = [_NAMES.index(name) for name in _KIND_OF]

MOST_REGIONS = 8
COLUMNS = 160
"""Of the picture of a region."""
BATCH_COLUMNS, BATCH_ROWS = 120, 40
WIDTH, HEIGHT = 960, 24
"""Of the picture of a region. That of batches is as wide, and `BATCH_HEIGHT` high."""
BATCH_HEIGHT = 320
_STEPS = 8
"""Heights that the part of a kind in a column may have."""


class Region:
    """Pfns from `start` to `end` - 1 between two of the widest gaps. `pages` are those that the
    image mentions, by kind."""

    __slots__ = ("end", "pages", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.pages: Shares = [0] * len(KINDS)

    def __repr__(self) -> str:
        return f"<pfns {self.start:#x} to {self.end - 1:#x}>"


def regions_of(memory: MemoryMap) -> list[Plain]:
    """Of each region by ascending pfn: `start` and `end` (pfns, the last one included), `pages`
    by kind, and `rects` of a picture `WIDTH` by `HEIGHT`, from the lowest pfn on the left; of
    several kinds in one column each has its share of the height."""
    regions = _split(memory)
    pictures = [[[0] * len(KINDS) for _ in range(COLUMNS)] for _ in regions]
    at = 0
    for run in memory.runs:
        while run.pfn >= regions[at].end:
            at += 1
        region, row = regions[at], _ROW_OF[run.type]
        region.pages[row] += run.count
        _spread(pictures[at], row, run.pfn - region.start, run.count, region.end - region.start)
    return [
        {
            "start": region.start,
            "end": region.end - 1,
            "pages": dict(zip(_NAMES, region.pages)),
            "rects": list(_stacks(columns)),
        }
        for region, columns in zip(regions, pictures)
    ]


def _split(memory: MemoryMap) -> list[Region]:
    """At the widest gaps, but not at those that hardly show."""
    gaps: list[tuple[int, int, int]] = [(0, 0, 0)] * (MOST_REGIONS - 1)
    before, first = None, 0
    for run in memory.runs:
        if before is None:
            first = run.pfn
        elif run.pfn > before:
            heappushpop(gaps, (run.pfn - before, before, run.pfn))
        before = run.end
    if before is None:
        return []
    edges = sorted((end, start) for width, end, start in gaps if width * COLUMNS > before - first)
    starts = [first, *(start for _, start in edges)]
    return [Region(*pair) for pair in zip(starts, [*(end for end, _ in edges), before])]


def _spread(columns: list[Shares], kind: int, at: int, count: int, whole: int) -> None:
    """Add `count` pages from `at` of `whole` on to the columns that they lie in, weighed by
    how much of each they take: a column has `whole` parts."""
    low, high = at * COLUMNS, (at + count) * COLUMNS
    for number in range(low // whole, -(-high // whole)):
        start = number * whole
        columns[number][kind] += min(high, start + whole) - max(low, start)


def _stacks(columns: list[Shares]) -> Iterator[Plain]:
    """Columns that look alike next to each other are one."""
    looks = [_heights(shares) for shares in columns]
    step, first = WIDTH / COLUMNS, 0
    for number in range(1, COLUMNS + 1):
        if number < COLUMNS and looks[number] == looks[first]:
            continue
        y = HEIGHT
        for kind, part in looks[first]:
            height = HEIGHT * part // _STEPS
            y -= height
            yield _rect(_NAMES[kind], first * step, y, (number - first) * step, height)
        first = number


def _heights(shares: Shares) -> tuple[tuple[int, int], ...]:
    """(kind, eighths of the height), of all that is there at least one."""
    total = sum(shares)
    found = {
        kind: max(1, round(_STEPS * share / total)) for kind, share in enumerate(shares) if share
    }
    if found:
        found[max(found, key=lambda kind: found[kind])] += _STEPS - sum(found.values())
    return tuple(found.items())


def batches_of(image: Image, regions: list[Plain]) -> Plain | None:
    """How the memory comes in the stream: from left to right the batches, from bottom to top the
    pfns without the gaps between regions. `count` batches, `pages` words in all, `rects` of a
    picture `WIDTH` by `BATCH_HEIGHT`, `lines` (y) between regions."""
    count = sum(1 for _ in image.batches)
    if not count or not regions:
        return None
    scale = _Scale(regions)
    width = min(count, BATCH_COLUMNS)
    cells = [[[0] * len(KINDS) for _ in range(BATCH_ROWS)] for _ in range(width)]
    pages = 0
    for number, record in enumerate(image.batches):
        column = cells[number * width // count]
        for run in runs_of_record(image, record):
            pages += run.count
            row = _ROW_OF[run.type]
            first, last = scale.row(run.pfn), scale.row(run.end - 1)
            each = max(1, run.count // (last - first + 1))
            for at in range(first, last + 1):
                column[at][row] += each
    return {
        "count": count,
        "pages": pages,
        "rects": list(_cells(cells)),
        "lines": [BATCH_HEIGHT - y * BATCH_HEIGHT // BATCH_ROWS for y in scale.edges[1:-1]],
    }


class _Scale:
    """The rows of regions: each has its share, and at least one. `edges` are where they start,
    and the end."""

    def __init__(self, regions: list[Plain]) -> None:
        self._regions = regions
        sizes = [region["end"] - region["start"] + 1 for region in regions]
        free, total = BATCH_ROWS - len(sizes), sum(sizes)
        self.edges = [0]
        done = 0
        for number, size in enumerate(sizes, 1):
            done += size
            self.edges.append(number + free * done // total)

    def row(self, pfn: int) -> int:
        """Of one that the image mentions, or its last word does not."""
        number = 0
        while number + 1 < len(self._regions) and pfn >= self._regions[number + 1]["start"]:
            number += 1
        region = self._regions[number]
        start, end = region["start"], region["end"] + 1
        low, high = self.edges[number : number + 2]
        at = min(max(pfn, start), end - 1) - start
        return int(low + at * (high - low) // (end - start))


def _cells(columns: list[list[Shares]]) -> Iterator[Plain]:
    """Cells that look alike above each other are one."""
    wide, high = WIDTH / len(columns), BATCH_HEIGHT // BATCH_ROWS
    for number, column in enumerate(columns):
        looks = [
            max(range(len(cell)), key=cell.__getitem__) if any(cell) else None for cell in column
        ]
        first = 0
        for at in range(1, BATCH_ROWS + 1):
            if at < BATCH_ROWS and looks[at] == looks[first]:
                continue
            kind = looks[first]
            if kind is not None:
                y = BATCH_HEIGHT - at * high
                yield _rect(_NAMES[kind], number * wide, y, wide, (at - first) * high)
            first = at


def _rect(kind: str, x: float, y: float, width: float, height: float) -> Plain:
    return {
        "kind": kind, "x": round(x, 1), "y": round(y, 1), "width": round(width, 1),
        "height": round(height, 1),
    }  # fmt: skip
