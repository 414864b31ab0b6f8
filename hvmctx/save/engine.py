"""The save of an HVM guest as Xen's toolstack does it: still, live with pre-copy, or in
checkpoints. `save` drives a `GuestSource` and writes a libxc stream; `Save` is the same for
asyncio, and piece by piece.

There is one engine, a generator of steps: buffers to write, or an answer of the guest to wait
for. The drivers (`for`, `async for`, and what is made of them) carry the steps out.

Source: tools/libs/guest/xg_sr_save.c and xg_sr_save_x86_hvm.c, 4.6 to c447b730, and the
genuine xc_domain_save of 4.17 over scripted guests. Little-endian; pages are of 4 KiB.
"""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Coroutine
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass, field

from hvmctx.abi import streams
from hvmctx.errors import UsageError
from hvmctx.save.source import (
    DEFERRED,
    SHUTDOWN_REASONS,
    SUSPEND,
    GuestSource,
    NotNow,
    PageError,
    SaveError,
    SaveTimeout,
    is_timeout,
)
from hvmctx.stream.libxc import HvmParams
from hvmctx.stream.pages import bytes_of, data_pages, pages_start
from hvmctx.stream.writer import StreamWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
    from typing import TypeAlias, TypeVar

    from hvmctx.buffers import Buffer
    from hvmctx.files.sink import Sink
    from hvmctx.save.source import Now, Page

    T = TypeVar("T")
    Recorded: TypeAlias = tuple[bytes, Iterable[Buffer]] | None
    """Page words and pages of a record that was sent; None stands for VERIFY."""
    Steps: TypeAlias = Generator[tuple[Buffer, ...] | Awaitable[object], object, T]

__all__ = [
    "ABORT", "BATCH", "CONTINUE", "DEFERRED", "LOGGING_OFF_HVMCTX", "LOGGING_OFF_XEN",
    "MAX_P2M_SIZE", "STOP", "GuestSource", "Policy2014", "PrecopyStats", "Save", "SaveError",
    "Saved", "default_policy", "save", "set_ranges",
]  # fmt: skip

BATCH = 1024
"""Pages of a PAGE_DATA record, at most."""
MAX_P2M_SIZE = 0x0FFFFFFF
_TOPS = bytes(
    (kind & 0xF) << 4 if kind < DEFERRED else streams.PAGE_XTAB << 4 for kind in range(256)
)
_DEFERRABLE = bytes(kind for kind in range(256) if kind < DEFERRED)

CONTINUE, STOP, ABORT = "continue", "stop", "abort"

LOGGING_OFF_HVMCTX = "hvmctx"
"""Dirty logging goes off before the END record is written, and a failure fails the save: no
stream is whole whose guest still pays for the logging. This project's own."""
LOGGING_OFF_XEN = "xen"
"""It goes off after END, in the clean-up, and a failure is ignored: Xen's, from the first
posting in June 2014 to c447b730."""


@dataclass
class PrecopyStats:
    """What a policy decides on: passes made, pages sent, pages known to be dirty (-1:
    unknown just now)."""

    iteration: int = 0
    total_written: int = 0
    dirty_count: int = 0


def default_policy(stats: PrecopyStats) -> str:
    """Xen 4.10 and later: stop below 50 dirty pages, or after five passes."""
    if 0 <= stats.dirty_count < 50 or stats.iteration >= 5:
        return STOP
    return CONTINUE


class Policy2014:
    """Xen 4.6 to 4.9, the code merged in May 2015 out of the series begun in 2014: stop when
    the pass that was sent last had 50 pages or fewer, or after five. Good for one save.

    It is not the loop of the first posting, of June 2014. That one fetches and clears the dirty
    pages, and leaves without sending them when they are fewer than 50: the last pass no longer
    knows of them, and the restored guest has old contents there (docs/saving.md has the
    numbers)."""

    def __init__(self) -> None:
        self._written = 0

    def __call__(self, stats: PrecopyStats) -> str:
        if stats.dirty_count >= 0:
            return STOP if stats.dirty_count == 0 else CONTINUE
        last, self._written = stats.total_written - self._written, stats.total_written
        return STOP if last <= 50 or stats.iteration >= 5 else CONTINUE


@dataclass
class Saved:
    """What a save did: pages of every pass, the last one with the guest stopped; pages
    deferred; bytes."""

    passes: list[int] = field(default_factory=list)
    deferred: int = 0
    written: int = 0


def _now(answer: Now[T]) -> Steps[T]:
    """An answer, waited for if it has to be."""
    if isinstance(answer, Awaitable):
        return (yield answer)  # type: ignore[return-value]  # a driver sends what it awaited
    return answer


async def _to_the_end(answer: Awaitable[object]) -> object:
    """Waits for it, and is cancelled only then."""
    from asyncio import CancelledError, ensure_future, wait

    task = ensure_future(answer)
    cancelled: CancelledError | None = None
    while not task.done():
        try:
            await wait({task})
        except CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from task.exception()
    return task.result()


class _Batches:
    """Turns pfns into PAGE_DATA records, with arrays that are made once."""

    def __init__(self, source: GuestSource, writer: StreamWriter) -> None:
        self._source = source
        self._writer = writer
        self._pfns = array("Q", bytes(8 * BATCH))
        self._words = bytearray(8 * BATCH)
        self._filled = 0
        self.stopped = False
        self.deferred: set[int] = set()
        self.sent = 0

    def add(self, start: int, end: int) -> Steps[None]:
        """Pfns `start` to `end` - 1. A batch goes when it is full and another pfn comes."""
        while start < end:
            if self._filled == BATCH:
                yield from self.flush()
            step = min(BATCH - self._filled, end - start)
            self._pfns[self._filled : self._filled + step] = array("Q", range(start, start + step))
            self._filled += step
            start += step

    def flush(self) -> Steps[None]:
        """Send what there is."""
        count, self._filled = self._filled, 0
        if not count:
            return
        with memoryview(self._pfns) as whole, whole[:count] as pfns:
            types = yield from _now(self._source.page_types(pfns))
            if len(types) != count:
                raise SaveError(f"{len(types)} page types for {count} pfns")
            pages = yield from _now(self._source.pages(pfns, types))
            buffers, types = self._gathered(pfns, types, pages)
            if types.translate(None, _DEFERRABLE):
                self.deferred.update(p for p, kind in zip(pfns, types) if kind >= DEFERRED)
            self._words[: 8 * count] = bytes_of(self._pfns)[: 8 * count]
            tops = types.translate(_TOPS)
            self._words[7 : 8 * count : 8] = tops
            with memoryview(self._words) as words, words[: 8 * count] as used:
                yield from self.send(used, buffers, data_pages(tops))

    def _gathered(
        self, pfns: memoryview, types: bytes, pages: Iterable[Page]
    ) -> tuple[list[Buffer], bytes]:
        """The buffers with contents, and the types with pages put off as DEFERRED."""
        buffers: list[Buffer] = []
        put_off: list[int] = []
        size = 0
        for page in pages:
            if isinstance(page, PageError):
                raise page
            if isinstance(page, NotNow):
                put_off.append(size // streams.PAGE_SIZE + len(put_off))
            else:
                buffers.append(page)
                size += len(page)
        if not put_off:
            return buffers, types
        places = [at for at, kind in enumerate(types) if kind in streams.PAGE_TYPES_WITH_DATA]
        kinds = bytearray(types)
        for number in put_off:
            if number >= len(places):
                raise SaveError(f"more pages than the {len(places)} that were asked for")
            if self.stopped:
                raise SaveError(f"pfn {pfns[places[number]]:#x}: not to be had, though the "
                                "domain has stopped")  # fmt: skip
            kinds[places[number]] = DEFERRED
        return buffers, bytes(kinds)

    def send(self, words: Buffer, pages: Iterable[Buffer], expected: int) -> Steps[None]:
        """One record of these words and their `expected` pages."""
        buffers = list(pages)
        size = sum(map(len, buffers))
        if size != expected * streams.PAGE_SIZE:
            raise SaveError(f"{size} bytes of page data for {expected} pages")
        count = len(words) // 8
        length = pages_start(count) + size
        head, _ = self._writer.record_around(streams.LIBXC_PAGE_DATA, length)
        yield (head + streams.PAGE_DATA_HEAD.pack(count, 0), words, *buffers)
        self.sent += count


class Save:
    """A save, to be made once: `write` it to a sink, `send` it over asyncio, or iterate over
    it. Iterating, by `for` or `async for`, gives the libxc stream of the guest as tuples of
    buffers, which are good until the next one is asked for; nothing is asked of the guest
    before it is needed, so that a slow reader slows the save down. To leave a loop early, close
    its iterator (`contextlib.closing`, `contextlib.aclosing`): that cleans up.

    `writer`: that of the libxl stream around it, whose libxc part is next. `live`: in
    passes, while the guest runs, as `policy` decides. `verify`: after the last pass of a
    live save a VERIFY record and all pages again. `checkpoint`: called after the state of
    every checkpoint with its number, from 1 on, when the CHECKPOINT record has been
    written; whether to make another. `recorded`: batches that were sent before, to be sent
    again as they were, instead of asking the guest for its pages. `suspended`: called each
    time the guest has stopped, before its last pages are sent: here a device model is
    suspended. `logging_off`: when dirty logging goes off, LOGGING_OFF_HVMCTX or
    LOGGING_OFF_XEN.

    Raises SaveError; whatever the output and the source raise goes on unchanged, after the
    clean-up (dirty logging is off, the source's `cleanup` was called).
    """

    def __init__(
        self,
        source: GuestSource,
        *,
        writer: StreamWriter | None = None,
        version: int = 3,
        live: bool = False,
        policy: Callable[[PrecopyStats], Now[str]] = default_policy,
        verify: bool = False,
        checkpoint: Callable[[int], Now[bool]] | None = None,
        recorded: Iterable[Recorded] | None = None,
        suspended: Callable[[], Now[object]] | None = None,
        logging_off: str = LOGGING_OFF_HVMCTX,
    ) -> None:
        if logging_off not in (LOGGING_OFF_HVMCTX, LOGGING_OFF_XEN):
            raise UsageError(
                f"logging_off {logging_off!r}; expected {LOGGING_OFF_HVMCTX} or {LOGGING_OFF_XEN}"
            )
        self.saved = Saved()
        self._source = source
        self._writer = writer or StreamWriter("libxc")
        self._version = version
        self._live = live
        self._policy = policy
        self._verify = verify
        self._checkpoint = checkpoint
        self._recorded = recorded
        self._suspended = suspended
        self._logging_off = logging_off
        self._logs = live or checkpoint is not None
        self._logging = False
        self._ending = False
        self._batches = _Batches(source, self._writer)

    def write(self, sink: Sink) -> Saved:
        """All of it into a sink."""
        with closing(self.__iter__()) as pieces:
            for buffers in pieces:
                sink.write(*buffers)
        return self.saved

    async def send(self, stream: asyncio.StreamWriter) -> Saved:
        """All of it over an asyncio stream: a batch is made when the one before has gone. A
        reader that goes ends it (ConnectionError), and so does cancelling the task, both after
        the clean-up."""
        from hvmctx.files.sink import send

        async with aclosing(self.__aiter__()) as pieces:
            async for buffers in pieces:
                await send(stream, *buffers)
        return self.saved

    def __iter__(self) -> Generator[tuple[Buffer, ...], None, None]:
        steps = self._steps()
        error: BaseException | None = None
        while True:
            try:
                step = next(steps) if error is None else steps.throw(error)
            except StopIteration:
                return
            error = None
            if isinstance(step, tuple):
                try:
                    yield step
                    self.saved.written += sum(map(len, step))
                except BaseException as caught:  # whoever takes the pieces has gone
                    error = caught
            else:
                if isinstance(step, Coroutine):
                    step.close()  # nobody will await it
                error = UsageError("an answer of the guest has to be awaited: save it with asyncio")

    async def __aiter__(self) -> AsyncGenerator[tuple[Buffer, ...], None]:
        steps = self._steps()
        error: BaseException | None = None
        answer: object = None
        while True:
            try:
                step = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration:
                return
            error = answer = None
            try:
                if isinstance(step, tuple):
                    yield step
                    self.saved.written += sum(map(len, step))
                else:
                    answer = await (_to_the_end(step) if self._ending else step)
            except BaseException as caught:
                error = caught

    def _steps(self) -> Steps[None]:
        try:
            yield from self._stream()
            with suppress(Exception):  # it is on here for LOGGING_OFF_XEN only
                yield from _now(self._stop_logging())
        except BaseException:
            self._ending = True
            for ending in (self._stop_logging, self._source.cleanup):
                with suppress(BaseException):  # the error that led here is the one to tell
                    yield from _now(ending())
            raise
        self._ending = True
        yield from _now(self._source.cleanup())

    def _stop_logging(self) -> Now[None]:
        if not self._logging:
            return None
        self._logging = False
        return self._source.log_dirty(False)

    def _stream(self) -> Steps[None]:
        source, writer = self._source, self._writer
        if not 0 < source.p2m_size <= MAX_P2M_SIZE:
            raise SaveError(
                f"E2BIG: a guest of {source.p2m_size:#x} pages, at most {MAX_P2M_SIZE:#x} "
                "can be saved"
            )
        yield (
            writer.image_header(self._version)
            + writer.domain_header(streams.GUEST_X86_HVM, source.xen_version),
        )
        yield from self._static_data()
        if self._logs:
            self._logging = True
            yield from _now(source.log_dirty(True))
            yield from self._passes()
        number = 0
        while True:
            if self._recorded is not None:
                yield from self._again(self._recorded)
            else:
                yield from self._stopped()
            if self._verify and self._live:
                yield (writer.record(streams.LIBXC_VERIFY),)
                yield from self._pass(source.all_pages())
            yield from self._state()
            if self._checkpoint is None:
                break
            yield (writer.record(streams.LIBXC_CHECKPOINT),)
            number += 1
            if not (yield from _now(self._checkpoint(number))):
                break
            yield from _now(source.resume())
            self._batches.stopped = False
        if self._logging_off == LOGGING_OFF_HVMCTX:
            yield from _now(self._stop_logging())
        yield (writer.record(streams.LIBXC_END),)

    def _static_data(self) -> Steps[None]:
        if self._version < 3:
            return
        cpuid, msr = yield from _now(self._source.policies())
        numbers = (streams.LIBXC_X86_CPUID_POLICY, streams.LIBXC_X86_MSR_POLICY)
        for number, body in zip(numbers, (cpuid, msr)):
            if body:
                yield (self._writer.record(number, body),)
        yield (self._writer.record(streams.LIBXC_STATIC_DATA_END),)

    def _passes(self) -> Steps[None]:
        size = self._source.p2m_size
        stats = PrecopyStats(dirty_count=size)
        ranges = self._source.all_pages()
        passes = 0
        while True:
            decision = yield from _now(self._policy(stats))
            passes += 1
            if stats.dirty_count > 0 and decision != ABORT:
                self.saved.passes.append((yield from self._pass(ranges)))
            if decision == CONTINUE:
                stats.iteration = passes
                stats.total_written += stats.dirty_count
                stats.dirty_count = -1
                decision = yield from _now(self._policy(stats))
            if decision == ABORT:
                raise SaveError("the pre-copy policy aborted the save")
            if decision != CONTINUE:
                return
            bitmap = self._bitmap()
            stats.dirty_count = yield from _now(self._source.fetch_dirty(bitmap))
            ranges = set_ranges(bitmap)

    def _pause(self) -> Steps[None]:
        source = self._source
        try:
            stopped = yield from _now(source.pause())
        except Exception as error:
            if is_timeout(error):
                raise SaveTimeout("the domain did not suspend in time") from error
            raise
        reason = yield from _now(source.shutdown_reason())
        if not stopped or reason not in (None, SUSPEND):
            raise SaveError(f"the domain has not been suspended{_shut_down(reason)}")
        self._batches.stopped = True
        if self._suspended is not None:
            yield from _now(self._suspended())

    def _stopped(self) -> Steps[None]:
        """The last pass, with the guest stopped. Pages that could not be had before are
        sent again, but for a save that was not live."""
        source = self._source
        yield from self._pause()
        if not self._logs:
            ranges = source.all_pages()
        else:
            bitmap = self._bitmap()
            yield from _now(source.fetch_dirty(bitmap))
            self.saved.deferred += len(self._batches.deferred)
            for pfn in self._batches.deferred:
                bitmap[pfn >> 3] |= 1 << (pfn & 7)
            self._batches.deferred.clear()
            ranges = set_ranges(bitmap)
        self.saved.passes.append((yield from self._pass(ranges)))

    def _again(self, recorded: Iterable[Recorded]) -> Steps[None]:
        before = self._batches.sent
        for batch in recorded:
            if batch is None:
                yield (self._writer.record(streams.LIBXC_VERIFY),)
            else:
                words, pages = batch
                yield from self._batches.send(words, pages, data_pages(words[7::8]))
        self.saved.passes.append(self._batches.sent - before)

    def _bitmap(self) -> bytearray:
        return bytearray((self._source.p2m_size + 7) // 8)

    def _pass(self, ranges: Iterable[tuple[int, int]]) -> Steps[int]:
        """How many pages were sent."""
        before = self._batches.sent
        last = 0
        for start, end in ranges:
            if start < last:
                raise SaveError(f"pfn {start:#x} after {last - 1:#x}: pages must be ascending")
            last = end
            yield from self._batches.add(start, min(end, self._source.p2m_size))
        yield from self._batches.flush()
        return self._batches.sent - before

    def _state(self) -> Steps[None]:
        writer = self._writer
        tsc = yield from _now(self._source.tsc_info())
        if tsc is not None:
            yield (writer.record(streams.LIBXC_X86_TSC_INFO, tsc.to_bytes()),)
        context = yield from _now(self._source.hvm_context())
        if not context:
            raise SaveError("the guest gives no HVM context")
        yield (writer.record(streams.LIBXC_HVM_CONTEXT, context),)
        params = yield from _now(self._source.hvm_params())
        params = [(index, value) for index, value in params if value]
        if params:
            body = HvmParams(params).to_bytes()
            yield (writer.record(streams.LIBXC_HVM_PARAMS, body),)


def _shut_down(reason: int | None) -> str:
    if reason is None:
        return ""
    known = reason < len(SHUTDOWN_REASONS)
    return f": it has shut down, {SHUTDOWN_REASONS[reason] if known else f'reason {reason}'}"


def save(
    source: GuestSource,
    sink: Sink,
    *,
    writer: StreamWriter | None = None,
    version: int = 3,
    live: bool = False,
    policy: Callable[[PrecopyStats], str] = default_policy,
    verify: bool = False,
    checkpoint: Callable[[int], bool] | None = None,
    recorded: Iterable[Recorded] | None = None,
    suspended: Callable[[], object] | None = None,
    logging_off: str = LOGGING_OFF_HVMCTX,
) -> Saved:
    """Write the libxc stream of a guest. What the arguments mean, and what is raised: `Save`."""
    return Save(
        source, writer=writer, version=version, live=live, policy=policy, verify=verify,
        checkpoint=checkpoint, recorded=recorded, suspended=suspended, logging_off=logging_off,
    ).write(sink)  # fmt: skip


def set_ranges(bitmap: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """(first, one after the last) of every run of set bits, by ascending number. Stretches of
    equal bytes cost one step."""
    start: int | None = None
    at, size = 0, len(bitmap)
    while at < size:
        byte = bitmap[at]
        if byte in (0, 0xFF):
            end = _end_of_equal(bitmap, at)
            if byte and start is None:
                start = 8 * at
            elif not byte and start is not None:
                yield start, 8 * at
                start = None
            at = end
            continue
        for bit in range(8):
            if byte >> bit & 1:
                start = 8 * at + bit if start is None else start
            elif start is not None:
                yield start, 8 * at + bit
                start = None
        at += 1
    if start is not None:
        yield start, 8 * size


def _end_of_equal(data: bytes | bytearray, at: int) -> int:
    """The end of the run of equal bytes (0 or 0xff) that starts at `at`."""
    step = 4096
    unit = bytes((data[at],))
    while at < len(data):
        piece = data[at : at + step]
        if piece.count(unit) < len(piece):
            return at + len(piece) - len(piece.lstrip(unit))
        at += len(piece)
    return at
