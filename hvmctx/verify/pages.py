"""What became of each pfn in the page data of a stream, and page data that were sent twice
and differ."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from heapq import heappop, heappush
from itertools import islice, pairwise

from hvmctx.abi import streams
from hvmctx.image.index import LARGEST_KEPT
from hvmctx.image.memory_map import MemoryMap, differing_pages, runs_of, runs_of_record
from hvmctx.stream.pages import length_of, words_of
from hvmctx.stream.reader import LIBXC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvmctx.image.image import Image
    from hvmctx.image.index import IndexedRecord
    from hvmctx.limits import Limits

_ABSENT = streams.PAGE_TYPES_WITHOUT_MEMORY
_BATCH = (LIBXC, streams.LIBXC_PAGE_DATA)


class PassedPages:
    """The runs of every batch, in the order in which they were sent, 16 bytes each. A stream
    with more than `Limits.strict_runs` beyond one a batch is not followed any further."""

    def __init__(self) -> None:
        self._batches = 0
        self._pfns = array("Q")
        self._sizes = array("Q")  # count << 4 | type
        self._populated: tuple[list[int], list[int]] = ([], [])
        self.scattered = False

    @property
    def any(self) -> bool:
        """Whether there were page data at all."""
        return bool(self._pfns)

    def add(self, words: bytes, limits: Limits) -> list[int]:
        """Add the words of a batch. Returns the pfns that are in it twice, the first of each
        run of such pfns."""
        self._batches += 1
        room = limits.strict_runs + self._batches - len(self._pfns)
        found = islice(runs_of(words_of(words), 0), room + 1)
        runs = [(run.pfn, run.count, run.type) for run in found]
        if len(runs) > room:
            self.scattered = True
        if self.scattered:
            return []
        for pfn, count, kind in runs:
            self._pfns.append(pfn)
            self._sizes.append(count << 4 | kind)
        if len(runs) == 1:
            return []
        runs.sort()
        twice = []
        end = 0
        for pfn, count, _ in runs:
            if pfn < end:
                twice.append(pfn)
            end = max(end, pfn + count)
        return twice

    def findings(self) -> Iterator[tuple[str, int, int]]:
        """(rule, how many pfns, the first of them) for each rule about all page data. `populated`
        can be asked after this."""
        if self.scattered:
            yield "scattered", len(self._pfns), 0
            return
        resent: list[tuple[int, int]] = []
        gone: list[tuple[int, int]] = []
        missing: list[tuple[int, int]] = []
        starts, ends = self._populated
        covered = 0
        for start, end, kind, times, had_data in self._stretches():
            if start > covered:
                missing.append((covered, start))
            covered = end
            if times > 1:
                resent.append((start, end))
            if kind in _ABSENT and had_data:
                gone.append((start, end))
            if kind not in _ABSENT or had_data:
                starts.append(start)
                ends.append(end)
        for rule, found in (
            ("pages-resent", resent),
            ("page-gone", gone),
            ("pages-missing", missing),
        ):
            if found:
                yield rule, sum(end - start for start, end in found), found[0][0]

    def populated(self, pfn: int) -> bool:
        """Whether the restored guest has memory there."""
        starts, ends = self._populated
        at = bisect_right(starts, pfn) - 1
        return at >= 0 and pfn < ends[at]

    def _stretches(self) -> Iterator[tuple[int, int, int, int, bool]]:
        """(first pfn, pfn after the last, type in the end, how often sent with contents,
        whether ever) of all pfns mentioned, by ascending pfn."""
        pfns, sizes = self._pfns, self._sizes
        order = sorted(range(len(pfns)), key=pfns.__getitem__)
        events = sorted({*pfns, *(pfn + (size >> 4) for pfn, size in zip(pfns, sizes))})
        latest: list[int] = []  # a heap of negated positions: the run sent last is on top
        data_ends: list[int] = []  # a heap of where the runs with contents end
        coming = 0
        for start, end in pairwise(events):
            while coming < len(order) and pfns[order[coming]] <= start:
                at = order[coming]
                heappush(latest, -at)
                if sizes[at] & 0xF in streams.PAGE_TYPES_WITH_DATA:
                    heappush(data_ends, pfns[at] + (sizes[at] >> 4))
                coming += 1
            while latest and pfns[-latest[0]] + (sizes[-latest[0]] >> 4) <= start:
                heappop(latest)
            while data_ends and data_ends[0] <= start:
                heappop(data_ends)
            if latest:
                times = len(data_ends)
                yield start, end, sizes[-latest[0]] & 0xF, times, times > 0


def mismatches(image: Image, verify: int) -> Iterator[tuple[int, int]]:
    """(pfn, file offset of its page) of pages sent after the VERIFY record at that offset
    which are not what was sent before. Reads the pages; the image must be seekable."""
    source = image.source
    before = MemoryMap.of_records(
        image, (r for r in image.records.of(*_BATCH) if r.offset < verify and _holds(image, r))
    )
    for record in image.records.of(*_BATCH):
        if record.offset > verify and record.end <= image.end and _holds(image, record):
            for run in runs_of_record(image, record):
                for old in before.between(run.pfn, run.end):
                    new = run.part(old.pfn, old.end)
                    for pfn, _, _ in differing_pages(source, old, source, new):
                        yield pfn, new.part(pfn, pfn + 1).offset or 0


def _holds(image: Image, record: IndexedRecord) -> bool:
    """Whether the record is as long as its words say."""
    if record.count < 1 or record.words_size != 8 * record.count:
        return False
    if record.words_size > LARGEST_KEPT - streams.PAGE_DATA_HEAD.size:
        return False  # the tables say so already
    return record.length == length_of(record.count, image.words(record)[7::8])


__all__ = ["PassedPages", "mismatches"]
