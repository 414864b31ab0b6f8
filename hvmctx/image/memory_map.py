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

from hvmctx.abi import streams
from hvmctx.errors import MissingPageError, TruncatedError, UsageError
from hvmctx.files.source import CHUNK
from hvmctx.image.runs import Run, Runs
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
    "side_by_side",
]


class MemoryMap:
    """Disjoint runs by ascending pfn."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = runs if isinstance(runs, Runs) else Runs(runs)

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
        sent = Runs()
        for record in index.batches:
            runs = runs_of_record(index, record)
            if verify and record.offset > verify[0].offset:
                runs = (run if run.offset is None else run.blank() for run in runs)
            _extend(sent, runs, record, index.limits)
        return cls(_last_wins(sent, _precedence))

    @classmethod
    def of_records(cls, index: Index, records: Iterable[IndexedRecord]) -> MemoryMap:
        """Of these PAGE_DATA records alone."""
        sent = Runs()
        for record in records:
            _extend(sent, runs_of_record(index, record), record, index.limits)
        return cls(_last_wins(sent))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} pfns in {len(self.runs)} runs>"

    def __len__(self) -> int:
        """How many pfns are mentioned, absent ones included."""
        return sum(run.count for run in self.runs)

    @property
    def end(self) -> int:
        """The highest pfn that is mentioned, plus one."""
        return self.runs.end(self.runs.rows - 1) if self.runs.rows else 0

    def lookup(self, pfn: int) -> tuple[int, int | None] | None:
        """(type, file offset of the page or None), or None for a pfn never mentioned."""
        for run in self.between(pfn, pfn + 1):
            return run.type, run.offset
        return None

    def between(self, start: int, end: int) -> Iterator[Run]:
        """What of the runs lies in start..end-1."""
        return self.runs.between(start, end)

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
        self._blank: frozenset[int] | None = None

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
        pieces = []
        for run in runs:
            start = run.pfn << streams.PAGE_SHIFT
            first, last = max(gpa, start), min(end, run.end << streams.PAGE_SHIFT)
            blank = run.offset is None
            pieces.append(
                bytes(last - first) if blank else self._contents(run, first - start, last - first)
            )
        data = bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
        for pfn in self._cleared:
            start = pfn << streams.PAGE_SHIFT
            first, last = max(gpa, start) - gpa, min(end, start + streams.PAGE_SIZE) - gpa
            if first < last:
                data = data[:first] + bytes(last - first) + data[last:]
        return data

    @property
    def _cleared(self) -> frozenset[int]:
        """The pfns of the pages that a restore clears."""
        if self._blank is None:
            params = self._params()
            self._blank = frozenset(params[number] for number in _CLEARED if number in params)
        return self._blank

    def _all_of(self, first: int, end: int) -> list[Run]:
        """The runs of exactly these pfns. Raises MissingPageError."""
        runs: list[Run] = []
        for run in self.between(first, end):
            if run.pfn != first:
                break
            if run.type not in streams.PAGE_TYPES_WITH_MEMORY:
                raise MissingPageError(
                    f"no memory at pfn {first:#x}: its page is of type "
                    f"{streams.PAGE_TYPES.get(run.type, f'{run.type:#x}')}",
                    pfn=first,
                )
            runs.append(run)
            first = run.end
        if first < end:
            why = "the image does not mention it" if self.runs else "the image has no page data"
            raise MissingPageError(f"no memory at pfn {first:#x}: {why}", pfn=first)
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
        end = at + 1
        if end < total and words[end] == word + 1:
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


def _extend(sent: Runs, runs: Iterator[Run], record: IndexedRecord, limits: Limits) -> None:
    """Add the runs of a batch."""
    for run in runs:
        sent.append(run)
        if sent.rows > limits.runs:
            raise limits.over(
                "runs", "runs of neighbouring pfns", layer=LIBXC, offset=record.offset,
                record=record.name,
            )  # fmt: skip


def _precedence(sent: Runs, row: int) -> int:
    """What a page that a restore has made gives way to: nothing but another page."""
    return (sent.type(row) in streams.PAGE_TYPES_WITH_MEMORY) + sent.has_pages(row)


def _last_wins(sent: Runs, precedence: Callable[[Runs, int], int] = lambda sent, row: 0) -> Runs:
    """Disjoint runs by ascending pfn. Of overlapping ones those of a higher precedence cover the
    others, and the later the earlier."""
    if sent.disjoint():
        return sent
    from heapq import heappop, heappush

    order = sent.by_pfn()
    live: list[int] = []  # a heap of what covers the pfn `at`, the uppermost first
    runs = Runs()
    at = coming = 0
    while live or coming < len(order):
        if not live:
            at = sent.start(order[coming])
        while coming < len(order) and sent.start(order[coming]) <= at:
            row = order[coming]
            height = precedence(sent, row) << 32 | row
            coming += 1
            if not live or height > -live[0] or sent.end(row) > sent.end(_row(live[0])):
                heappush(live, -height)  # any other one is never seen
        top = _row(live[0])
        end = sent.end(top)
        if end <= at:
            heappop(live)
            continue
        if coming < len(order):
            end = min(end, sent.start(order[coming]))
        runs.add_part(sent, top, at, end)
        at = end
    return runs


def _row(negated: int) -> int:
    return -negated & 0xFFFFFFFF


def side_by_side(
    one: MemoryMap, other: MemoryMap
) -> Iterator[tuple[int, int, Run | None, Run | None]]:
    """(first pfn, one after the last, what the one map has there, what the other) for all that
    either mentions."""
    iterators = iter(one.runs), iter(other.runs)
    runs = [next(iterator, None) for iterator in iterators]
    at = 0
    while left := [run for run in runs if run is not None]:
        at = max(at, min(run.pfn for run in left))
        end = min(run.end if run.pfn <= at else run.pfn for run in left)
        mine, its = (None if r is None or r.pfn > at else r.part(at, end) for r in runs)
        yield at, end, mine, its
        at = end
        runs = [
            next(iterator, None) if run is not None and run.end <= at else run
            for run, iterator in zip(runs, iterators)
        ]
