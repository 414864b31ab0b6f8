"""The save of an HVM guest as Xen's toolstack does it: still, live with pre-copy, or in
checkpoints. `save` drives a `GuestSource` and writes a libxc stream.

Source: tools/libs/guest/xg_sr_save.c and xg_sr_save_x86_hvm.c, 4.6 to c447b730, and the
genuine xc_domain_save of 4.17 over scripted guests. Little-endian; pages are of 4 KiB.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Protocol

from hvmctx.abi import streams
from hvmctx.errors import HvmctxError
from hvmctx.stream.libxc import HvmParams
from hvmctx.stream.pages import bytes_of, data_pages, pages_start
from hvmctx.stream.writer import StreamWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    from hvmctx.buffers import Buffer
    from hvmctx.files.sink import Sink
    from hvmctx.stream.libxc import TscInfo

    Recorded: TypeAlias = tuple[bytes, Iterable[Buffer]] | None
    """Page words and pages of a record that was sent; None stands for VERIFY."""

__all__ = [
    "ABORT", "BATCH", "CONTINUE", "DEFERRED", "MAX_P2M_SIZE", "STOP", "GuestSource",
    "Policy2014", "PrecopyStats", "SaveError", "Saved", "default_policy", "save", "set_ranges",
]  # fmt: skip


class GuestSource(Protocol):
    """What a save asks of a guest. `save.guests.StillGuest` answers for one that does
    not change."""

    p2m_size: int
    """The highest pfn of the guest, plus one."""
    xen_version: tuple[int, int]

    def page_types(self, pfns: memoryview) -> bytes:
        """A type for each of these pfns (u64s): 0 to 15 as in the stream, DEFERRED for
        a page that cannot be had just now."""
        ...

    def pages(self, pfns: memoryview, types: bytes) -> Iterable[Buffer]:
        """The contents of those pages whose type has any, in order. A buffer may hold
        several pages; it must last until the next call."""
        ...

    def all_pages(self) -> Iterable[tuple[int, int]]:
        """What a pass over everything sends: (first pfn, one after the last), ascending.
        The genuine save sends all pfns below p2m_size, absent ones as such."""
        ...

    def log_dirty(self, on: bool) -> None:
        """Start or stop to track what the guest writes."""
        ...

    def fetch_dirty(self, bitmap: bytearray) -> int:
        """Put the pages written since the last call into the bitmap (bit pfn % 8 of
        byte pfn / 8), forget them, and say how many they are."""
        ...

    def pause(self) -> bool:
        """Suspend the guest. Whether it has stopped."""
        ...

    def resume(self) -> None:
        """Let it run again, between two checkpoints."""
        ...

    def policies(self) -> tuple[bytes, bytes]:
        """Bodies of X86_CPUID_POLICY and X86_MSR_POLICY; empty ones are left out."""
        ...

    def tsc_info(self) -> TscInfo | None:
        """The record X86_TSC_INFO; None for none."""
        ...

    def hvm_context(self) -> bytes:
        """The HVM context, as the hypervisor gave it."""
        ...

    def hvm_params(self) -> list[tuple[int, int]]:
        """(index, value), in the order to write them; zero values are left out."""
        ...


BATCH = 1024
"""Pages of a PAGE_DATA record, at most."""
MAX_P2M_SIZE = 0x0FFFFFFF
DEFERRED = 0x10
_TOPS = bytes(
    (kind & 0xF) << 4 if kind < DEFERRED else streams.PAGE_XTAB << 4 for kind in range(256)
)
_DEFERRABLE = bytes(kind for kind in range(256) if kind < DEFERRED)

CONTINUE, STOP, ABORT = "continue", "stop", "abort"


class SaveError(HvmctxError):
    """A save that cannot go on: the guest is too large, does not stop, or gives
    something other than pages."""


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
    """The first posting of the stream v2 save (June 2014, in 4.6): stop when the pass that
    was sent last had 50 pages or fewer, or after five. Good for one save."""

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


class _Batches:
    """Turns pfns into PAGE_DATA records, with arrays that are made once."""

    def __init__(self, source: GuestSource, sink: Sink, writer: StreamWriter) -> None:
        self._source = source
        self._sink = sink
        self._writer = writer
        self._pfns = array("Q", bytes(8 * BATCH))
        self._words = bytearray(8 * BATCH)
        self._filled = 0
        self.deferred: set[int] = set()
        self.sent = 0

    def add(self, start: int, end: int) -> None:
        """Pfns `start` to `end` - 1. A batch goes when it is full and another pfn comes."""
        while start < end:
            if self._filled == BATCH:
                self.flush()
            step = min(BATCH - self._filled, end - start)
            self._pfns[self._filled : self._filled + step] = array("Q", range(start, start + step))
            self._filled += step
            start += step

    def flush(self) -> None:
        """Send what there is."""
        count, self._filled = self._filled, 0
        if not count:
            return
        with memoryview(self._pfns) as whole, whole[:count] as pfns:
            types = self._source.page_types(pfns)
            if len(types) != count:
                raise SaveError(f"{len(types)} page types for {count} pfns")
            if types.translate(None, _DEFERRABLE):
                self.deferred.update(p for p, kind in zip(pfns, types) if kind >= DEFERRED)
            self._words[: 8 * count] = bytes_of(self._pfns)[: 8 * count]
            tops = types.translate(_TOPS)
            self._words[7 : 8 * count : 8] = tops
            with memoryview(self._words) as words, words[: 8 * count] as used:
                self.send(used, self._source.pages(pfns, types), data_pages(tops))

    def send(self, words: Buffer, pages: Iterable[Buffer], expected: int) -> None:
        """One record of these words and their `expected` pages."""
        buffers = list(pages)
        size = sum(map(len, buffers))
        if size != expected * streams.PAGE_SIZE:
            raise SaveError(f"{size} bytes of page data for {expected} pages")
        count = len(words) // 8
        length = pages_start(count) + size
        head, _ = self._writer.record_around(streams.LIBXC_PAGE_DATA, length)
        self._sink.write(head + streams.PAGE_DATA_HEAD.pack(count, 0), words, *buffers)
        self.sent += count


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
) -> Saved:
    """Write the libxc stream of a guest.

    `writer`: that of the libxl stream around it, whose libxc part is next. `live`: in
    passes, while the guest runs, as `policy` decides. `verify`: after the last pass of a
    live save a VERIFY record and all pages again. `checkpoint`: called after the state of
    every checkpoint with its number, from 1 on, when the CHECKPOINT record has been
    written; whether to make another. `recorded`: batches that were sent before, to be sent
    again as they were, instead of asking the guest for its pages.

    Raises SaveError; whatever the sink and the source raise goes on unchanged, after the
    clean-up (dirty logging is switched off).
    """
    return _Save(source, sink, writer or StreamWriter("libxc"), version, policy).run(
        live=live, verify=verify, checkpoint=checkpoint, recorded=recorded
    )


class _Save:
    def __init__(
        self,
        source: GuestSource,
        sink: Sink,
        writer: StreamWriter,
        version: int,
        policy: Callable[[PrecopyStats], str],
    ) -> None:
        self._source = source
        self._sink = sink
        self._writer = writer
        self._version = version
        self._policy = policy
        self._batches = _Batches(source, sink, writer)
        self._saved = Saved()

    def run(
        self,
        *,
        live: bool,
        verify: bool,
        checkpoint: Callable[[int], bool] | None,
        recorded: Iterable[Recorded] | None,
    ) -> Saved:
        source, sink, writer = self._source, self._sink, self._writer
        if not 0 < source.p2m_size <= MAX_P2M_SIZE:
            raise SaveError(
                f"E2BIG: a guest of {source.p2m_size:#x} pages, at most {MAX_P2M_SIZE:#x} "
                "can be saved"
            )
        start = sink.written
        sink.write(
            writer.image_header(self._version)
            + writer.domain_header(streams.GUEST_X86_HVM, source.xen_version)
        )
        self._static_data()
        logging = live or checkpoint is not None
        try:
            if logging:
                source.log_dirty(True)
                self._live()
            number = 0
            while True:
                if recorded is not None:
                    self._again(recorded)
                else:
                    self._stopped(all_of_it=not logging)
                if verify and live:
                    sink.write(writer.record(streams.LIBXC_VERIFY))
                    self._pass(source.all_pages())
                self._state()
                if checkpoint is None:
                    break
                sink.write(writer.record(streams.LIBXC_CHECKPOINT))
                number += 1
                if not checkpoint(number):
                    break
                source.resume()
        except BaseException:
            if logging:
                self._quietly_stop_logging()
            raise
        if logging:
            source.log_dirty(False)
        sink.write(writer.record(streams.LIBXC_END))
        self._saved.written = sink.written - start
        return self._saved

    def _quietly_stop_logging(self) -> None:
        try:
            self._source.log_dirty(False)
        except Exception:  # the error that led here is the one to tell
            return

    def _static_data(self) -> None:
        if self._version < 3:
            return
        cpuid, msr = self._source.policies()
        numbers = (streams.LIBXC_X86_CPUID_POLICY, streams.LIBXC_X86_MSR_POLICY)
        for number, body in zip(numbers, (cpuid, msr)):
            if body:
                self._sink.write(self._writer.record(number, body))
        self._sink.write(self._writer.record(streams.LIBXC_STATIC_DATA_END))

    def _live(self) -> None:
        size = self._source.p2m_size
        stats = PrecopyStats(dirty_count=size)
        ranges = self._source.all_pages()
        passes = 0
        while True:
            decision = self._policy(stats)
            passes += 1
            if stats.dirty_count > 0 and decision != ABORT:
                self._saved.passes.append(self._pass(ranges))
            if decision == CONTINUE:
                stats.iteration = passes
                stats.total_written += stats.dirty_count
                stats.dirty_count = -1
                decision = self._policy(stats)
            if decision == ABORT:
                raise SaveError("the pre-copy policy aborted the save")
            if decision != CONTINUE:
                return
            bitmap = self._bitmap()
            stats.dirty_count = self._source.fetch_dirty(bitmap)
            ranges = set_ranges(bitmap)

    def _stopped(self, *, all_of_it: bool) -> None:
        """The last pass, with the guest stopped. Pages that could not be had before are
        sent again, but for a save that was not live."""
        source = self._source
        if not source.pause():
            raise SaveError("the domain has not been suspended")
        if all_of_it:
            ranges = source.all_pages()
        else:
            bitmap = self._bitmap()
            source.fetch_dirty(bitmap)
            self._saved.deferred += len(self._batches.deferred)
            for pfn in self._batches.deferred:
                bitmap[pfn >> 3] |= 1 << (pfn & 7)
            self._batches.deferred.clear()
            ranges = set_ranges(bitmap)
        self._saved.passes.append(self._pass(ranges))

    def _again(self, recorded: Iterable[Recorded]) -> None:
        before = self._batches.sent
        for batch in recorded:
            if batch is None:
                self._sink.write(self._writer.record(streams.LIBXC_VERIFY))
            else:
                words, pages = batch
                self._batches.send(words, pages, data_pages(words[7::8]))
        self._saved.passes.append(self._batches.sent - before)

    def _bitmap(self) -> bytearray:
        return bytearray((self._source.p2m_size + 7) // 8)

    def _pass(self, ranges: Iterable[tuple[int, int]]) -> int:
        """How many pages were sent."""
        before = self._batches.sent
        for start, end in ranges:
            self._batches.add(start, min(end, self._source.p2m_size))
        self._batches.flush()
        return self._batches.sent - before

    def _state(self) -> None:
        sink, writer = self._sink, self._writer
        tsc = self._source.tsc_info()
        if tsc is not None:
            sink.write(writer.record(streams.LIBXC_X86_TSC_INFO, tsc.to_bytes()))
        context = self._source.hvm_context()
        if not context:
            raise SaveError("the guest gives no HVM context")
        sink.write(writer.record(streams.LIBXC_HVM_CONTEXT, context))
        params = [(index, value) for index, value in self._source.hvm_params() if value]
        if params:
            body = HvmParams(params).to_bytes()
            sink.write(writer.record(streams.LIBXC_HVM_PARAMS, body))


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
