"""What a stream says of a guest's memory: the type of every pfn, and where its page lies.

Kept as runs, so that a guest of gigabytes takes some entries for each batch and not for
each page. Where a pfn was sent more than once, `MemoryMap.of_image` has its last word.
What a restore leaves in the guest is another matter, `MemoryMap.restored`: a page that it
was given stays, with its contents, whatever is said of the pfn later, and pages that follow
a VERIFY record are only compared (but made, where there is none). Source:
tools/libs/guest/xg_sr_restore.c, `populate_pfns` and `process_page_data`, 4.6 to c447b730.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from itertools import islice, pairwise

from hvmctx.abi import streams
from hvmctx.errors import MissingPageError, TruncatedError, UsageError
from hvmctx.files.source import CHUNK
from hvmctx.stream.pages import page_size_of, pages_start, words_of
from hvmctx.stream.reader import LIBXC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hvmctx.files.source import Source
    from hvmctx.image.index import Index, IndexedRecord
    from hvmctx.limits import Limits

__all__ = [
    "Memory",
    "MemoryMap",
    "Run",
    "differing_pages",
    "runs_of",
    "runs_of_record",
]


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


class MemoryMap:
    """Disjoint runs by ascending pfn."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self._starts = [run.pfn for run in runs]

    @classmethod
    def of_image(cls, index: Index) -> MemoryMap:
        """Reads the page words of every PAGE_DATA record. Raises MissingRecordError when
        they were those of a pipe, which are not kept."""
        return cls.of_records(index, index.batches)

    @classmethod
    def restored(cls, index: Index) -> MemoryMap:
        """As `of_image`, but of each pfn the last page that was sent, and where there was
        none the last word."""
        verify = index.records_of(LIBXC, streams.LIBXC_VERIFY)
        sent: list[Run] = []
        for number, record in enumerate(index.batches, 1):
            runs = runs_of_record(index, record)
            if verify and record.offset > verify[0].offset:
                runs = (run if run.offset is None else run.blank() for run in runs)
            _extend(sent, runs, record, index.limits, number)
        if not _disjoint(sent):
            sent.sort(key=_precedence)
        return cls(_last_wins(sent))

    @classmethod
    def of_records(cls, index: Index, records: Iterable[IndexedRecord]) -> MemoryMap:
        """Of these PAGE_DATA records alone."""
        sent: list[Run] = []
        for number, record in enumerate(records, 1):
            _extend(sent, runs_of_record(index, record), record, index.limits, number)
        return cls(_last_wins(sent))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} pfns in {len(self.runs)} runs>"

    def __len__(self) -> int:
        """How many pfns are mentioned, absent ones included."""
        return sum(run.count for run in self.runs)

    def lookup(self, pfn: int) -> tuple[int, int | None] | None:
        """(type, file offset of the page or None), or None for a pfn never mentioned."""
        at = bisect_right(self._starts, pfn) - 1
        if at < 0 or pfn >= self.runs[at].end:
            return None
        run = self.runs[at].part(pfn, pfn + 1)
        return run.type, run.offset

    def between(self, start: int, end: int) -> Iterator[Run]:
        """What of the runs lies in start..end-1."""
        at = max(0, bisect_right(self._starts, start) - 1)
        while at < len(self.runs) and self.runs[at].pfn < end:
            run = self.runs[at]
            at += 1
            if run.end > start:
                yield run.part(max(start, run.pfn), min(end, run.end))

    def populated(self) -> Iterator[Run]:
        """The runs of types that a restore gives memory to: data pages, allocate-only ones."""
        return (run for run in self.runs if run.type in streams.PAGE_TYPES_WITH_MEMORY)

    def counts(self) -> dict[int, int]:
        """Page type -> pfns."""
        counts: dict[int, int] = {}
        for run in self.runs:
            counts[run.type] = counts.get(run.type, 0) + run.count
        return dict(sorted(counts.items()))


class Memory(MemoryMap):
    """What a restore leaves the guest with: `MemoryMap.restored`, with the contents of its
    pages. The map has those of xenstore, the console and the device model's rings as they
    were sent; `read` returns them as the restore leaves them, blank."""

    def __init__(self, index: Index, params: Callable[[], dict[int, int]]) -> None:
        super().__init__(MemoryMap.restored(index).runs)
        self._source = index.source
        self._params = params

    def read(self, gpa: int, size: int) -> bytes:
        """`size` bytes from the guest-physical address `gpa` on. Pages that a restore makes
        and gets no contents for are zeros.

        Raises MissingPageError where it makes no page, UsageError for numbers below zero,
        FormatError for damaged parameters, TruncatedError where the input ends before
        a page does, InputError where it cannot be read twice. Nothing is allocated before all
        of the pages are known to be there."""
        if gpa < 0 or size < 0:
            raise UsageError(f"memory: {size} bytes at {gpa}: expected no negative number")
        if not size:
            return b""
        end = gpa + size
        runs = self._all_of(gpa >> streams.PAGE_SHIFT, -(-end >> streams.PAGE_SHIFT))
        data = bytearray(size)
        for run in runs:
            start = run.pfn << streams.PAGE_SHIFT
            first, last = max(gpa, start), min(end, run.end << streams.PAGE_SHIFT)
            if run.offset is not None:
                data[first - gpa : last - gpa] = self._contents(run, first - start, last - first)
        params = self._params()
        for pfn in {params[number] for number in _CLEARED if number in params}:
            start = pfn << streams.PAGE_SHIFT
            first, last = max(gpa, start), min(end, start + streams.PAGE_SIZE)
            if first < last:
                data[first - gpa : last - gpa] = bytes(last - first)
        return bytes(data)

    def _all_of(self, first: int, end: int) -> list[Run]:
        """The runs of exactly these pfns. Raises MissingPageError."""
        runs = list(self.between(first, end))
        for run in runs:
            if run.pfn != first:
                break
            if run.type not in streams.PAGE_TYPES_WITH_MEMORY:
                raise MissingPageError(
                    f"no memory at pfn {first:#x}: its page is of type "
                    f"{streams.PAGE_TYPES.get(run.type, f'{run.type:#x}')}",
                    pfn=first,
                )
            first = run.end
        if first < end:
            raise MissingPageError(
                f"no memory at pfn {first:#x}: the image does not mention it", pfn=first
            )
        return runs

    def _contents(self, run: Run, start: int, size: int) -> bytes | memoryview:
        offset = (run.offset or 0) + start
        data = self._source.read_at(offset, size)
        if len(data) < size:
            raise TruncatedError(
                "the input ends within a page", layer=LIBXC, offset=offset,
                record="PAGE_DATA", found=f"{len(data)} bytes", expected=str(size),
            )  # fmt: skip
        return data


_CLEARED = (
    streams.HVM_PARAM_STORE_PFN,
    streams.HVM_PARAM_IOREQ_PFN,
    streams.HVM_PARAM_BUFIOREQ_PFN,
    streams.HVM_PARAM_CONSOLE_PFN,
)
"""The pages that a restore clears when it gets the parameters. Source: handle_hvm_params in
tools/libs/guest/xg_sr_restore_x86_hvm.c, 4.6 to c447b730."""


def runs_of_record(index: Index, record: IndexedRecord) -> Iterator[Run]:
    """The runs of one PAGE_DATA record, in its order."""
    if record.count > 0:
        first_page = record.body_offset + pages_start(record.count)
        yield from runs_of(words_of(index.words(record)), first_page)


def runs_of(words: array[int], offset: int) -> Iterator[Run]:
    """The runs of one batch. `offset` is where its first page lies."""
    total = len(words)
    at = 0
    while at < total:
        word = words[at]
        end = at + _consecutive(words, at)
        size = page_size_of(word)
        yield Run(
            word & streams.PFN_MASK,
            end - at,
            word >> streams.PAGE_TYPE_SHIFT,
            offset if size else None,
        )
        offset += size * (end - at)
        at = end


def differing_pages(
    one: Source, left: Run, other: Source, right: Run
) -> Iterator[tuple[int, bytes, bytes]]:
    """(pfn, its page in the one, its page in the other) where these differ, for two runs of
    the same pfns. Nothing where a run has no pages. Reads a chunk of each at a time."""
    if left.offset is None or right.offset is None:
        return
    step = CHUNK // streams.PAGE_SIZE
    for first in range(left.pfn, left.end, step):
        last = min(first + step, left.end)
        before, after = (
            bytes(source.read_at(part.offset or 0, part.count * streams.PAGE_SIZE))
            for source, part in ((one, left.part(first, last)), (other, right.part(first, last)))
        )
        if before == after:
            continue
        for number in range(last - first):
            page = slice(number * streams.PAGE_SIZE, (number + 1) * streams.PAGE_SIZE)
            if before[page] != after[page]:
                yield first + number, before[page], after[page]


def _consecutive(words: array[int], at: int) -> int:
    """How many words from `at` on count upwards by one. The common case, a whole batch, is
    one comparison; else stretches of growing length are compared, so that the work grows
    with the run."""
    first = words[at]
    most = min(len(words) - at, streams.PFN_MASK + 1 - (first & streams.PFN_MASK))
    count, step = 1, most if at == 0 else 8
    while count < most and words[at + count] == first + count:
        step = min(step, most - count)
        start = at + count
        if words[start + step - 1] == first + count + step - 1 and words[
            start : start + step
        ] == array("Q", range(first + count, first + count + step)):
            count += step
            step *= 2
        else:
            step = max(1, min(step // 2, 1 << 10))
    return count


def _extend(
    sent: list[Run], runs: Iterator[Run], record: IndexedRecord, limits: Limits, number: int
) -> None:
    """Add the runs of the batch of that number, which has one of its own."""
    most = limits.runs + number
    sent.extend(islice(runs, most + 1 - len(sent)))
    if len(sent) > most:
        raise limits.over(
            "runs", "runs of neighbouring pfns", layer=LIBXC, offset=record.offset,
            record=record.name,
        )  # fmt: skip


def _precedence(run: Run) -> int:
    """What a page that a restore has made gives way to: nothing but another page."""
    return (run.type in streams.PAGE_TYPES_WITH_MEMORY) + (run.offset is not None)


def _disjoint(sent: list[Run]) -> bool:
    return all(one.end <= other.pfn for one, other in pairwise(sent))


def _last_wins(sent: list[Run]) -> list[Run]:
    """Disjoint runs by ascending pfn. Of overlapping ones the later covers the earlier."""
    if _disjoint(sent):
        return sent
    # A sweep over the borders: `live` holds, for each pfn, which runs cover it; the one
    # sent last is on top.
    from heapq import heappop, heappush

    borders = sorted({run.pfn for run in sent} | {run.end for run in sent})
    order = sorted(range(len(sent)), key=lambda number: sent[number].pfn)
    live: list[int] = []  # a heap of negated positions
    runs: list[Run] = []
    coming = 0
    for start, end in pairwise(borders):
        while coming < len(order) and sent[order[coming]].pfn <= start:
            heappush(live, -order[coming])
            coming += 1
        while live and sent[-live[0]].end <= start:
            heappop(live)
        if live:
            _append(runs, sent[-live[0]].part(start, end))
    return runs


def _append(runs: list[Run], run: Run) -> None:
    """Add a run, joined to the one before where it merely goes on."""
    last = runs[-1] if runs else None
    if last is not None and last.end == run.pfn and last.type == run.type:
        follows = last.part(run.pfn, run.pfn).offset
        if follows == run.offset:
            last.count += run.count
            return
    runs.append(run)
