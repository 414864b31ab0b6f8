"""The save engine: the passes of the genuine xc_domain_save, and what fails."""

from __future__ import annotations

import asyncio
import io
import socket
from array import array
from collections.abc import Iterable
from contextlib import aclosing, closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.errors import HvmctxError, UsageError
from hvmctx.files.sink import Nowhere, Sink
from hvmctx.image.image import Image, open_image
from hvmctx.save.engine import (
    ABORT,
    CONTINUE,
    DEFERRED,
    LOGGING_OFF_HVMCTX,
    LOGGING_OFF_XEN,
    STOP,
    Policy2014,
    PrecopyStats,
    Save,
    Saved,
    SaveError,
    default_policy,
    save,
    set_ranges,
)
from hvmctx.save.guests import ImageSource
from hvmctx.save.simulated import Script, SimulatedGuest
from hvmctx.stream.libxc import TscInfo
from hvmctx.stream.pages import words_of
from tests.builders.guests import Ends
from tests.builders.samples import EXAMPLE, IMAGES, STREAMS, context_bytes

Ranges = dict[int, list[tuple[int, int]]]


def saved(guest: Any, **how: Any) -> tuple[bytes, Saved]:
    out = io.BytesIO()
    done = save(guest, Sink(out), **how)
    assert done.written == len(out.getvalue())
    return out.getvalue(), done


def pfns_of(image: Image) -> list[list[int]]:
    """Of every batch."""
    return [
        [word & streams.PFN_MASK for word in words_of(image.words(record))]
        for record in image.records
        if record.count > 0
    ]


def passes(pages: int, script: Ranges, **how: Any) -> list[int]:
    return save(SimulatedGuest(pages, Script(script)), Nowhere(), live=True, **how).passes


def test_a_genuine_live_save() -> None:
    """05-live-2iter.xc: 20 pages dirty after the first pass, 7 more at suspend."""
    script = {1: [(4, 16), (33, 34), (35, 36), (37, 43)], 2: [(5, 7), (100, 105)]}
    guest = SimulatedGuest(128, Script(script), context=context_bytes(), params=[(1, 120), (9, 0)])
    guest.tsc = TscInfo(0, 1, 2, 3)
    data, done = saved(guest, live=True)
    assert done.passes == [128, 20, 7]
    with open_image(data) as image:
        assert [record.name for record in image.records] == [
            "STATIC_DATA_END", "PAGE_DATA", "PAGE_DATA", "PAGE_DATA", "X86_TSC_INFO",
            "HVM_CONTEXT", "HVM_PARAMS", "END",
        ]  # fmt: skip
        genuine = open_image(next(path for path in STREAMS if path.stem == "05-live-2iter"))
        assert pfns_of(image) == pfns_of(genuine)
        assert image.params == {1: 120}


@pytest.mark.parametrize(
    ("pages", "script", "expected"),
    [
        (10, {}, [10, 0]),  # below 50 pages the set is known to be small: it is sent, no more
        (49, {1: [(0, 9)]}, [49, 9]),
        (100, {}, [100, 0]),
        (100, {1: [(0, 50)]}, [100, 50, 0, 0][:3]),
        (100, {1: [(0, 49)], 2: [(1, 3)]}, [100, 49, 2]),
        (100, {n: [(0, 60)] for n in range(1, 9)}, [100, 60, 60, 60, 60, 60]),
        (3000, {1: [(1000, 1100)], 2: [(0, 1)]}, [3000, 100, 1, 0]),
    ],
)
def test_passes_of_the_default_policy(pages: int, script: Ranges, expected: list[int]) -> None:
    assert passes(pages, script) == expected


@pytest.mark.parametrize(
    ("pages", "script", "expected"),
    [
        (50, {1: [(0, 9)]}, [50, 9]),  # no dirty passes for the smallest guests
        (51, {1: [(0, 9)], 2: [(3, 4)]}, [51, 9, 1]),
        (100, {1: [(0, 51)], 2: [(0, 50)], 3: [(0, 2)]}, [100, 51, 50, 2]),
        (100, {n: [(0, 60)] for n in range(1, 9)}, [100, 60, 60, 60, 60, 60]),
        (100, {}, [100, 0]),
    ],
)
def test_passes_of_2014(pages: int, script: Ranges, expected: list[int]) -> None:
    assert passes(pages, script, policy=Policy2014()) == expected


def test_a_policy_of_ones_own() -> None:
    def never(stats: PrecopyStats) -> str:
        return STOP

    # the genuine engine sends the first set before it stops
    assert passes(100, {1: [(0, 60)]}, policy=never) == [100, 60]
    seen = []

    def abort(stats: PrecopyStats) -> str:
        seen.append((stats.iteration, stats.total_written, stats.dirty_count))
        return ABORT if stats.iteration == 1 else CONTINUE

    guest = SimulatedGuest(100, Script({1: [(0, 60)]}))
    with pytest.raises(SaveError, match="aborted"):
        save(guest, Nowhere(), live=True, policy=abort)
    assert seen == [(0, 0, 100), (1, 100, -1)]
    assert default_policy(PrecopyStats(0, 0, 49)) == STOP
    assert default_policy(PrecopyStats(4, 0, 50)) == CONTINUE


def test_batches_are_of_1024() -> None:
    data, done = saved(SimulatedGuest(2500, Script({}), context=context_bytes()))
    with open_image(data) as image:
        assert [r.count for r in image.records if r.count > 0] == [1024, 1024, 452]
    assert done.passes == [2500]


def test_verify() -> None:
    data, _ = saved(SimulatedGuest(60, Script({})), live=True, verify=True)
    with open_image(data) as image:
        assert [(r.name, r.count) for r in image.records][1:4] == [
            ("PAGE_DATA", 60), ("VERIFY", -1), ("PAGE_DATA", 60),
        ]  # fmt: skip


class Deferring(SimulatedGuest):
    """Page 3 cannot be had while the guest runs, page 5 is absent."""

    def page_types(self, pfns: memoryview) -> bytes:
        kinds = bytearray(super().page_types(pfns))
        for at, pfn in enumerate(pfns):
            if pfn == 3 and self.paused_at is None:
                kinds[at] = DEFERRED
            elif pfn == 5:
                kinds[at] = streams.PAGE_XTAB
        return bytes(kinds)

    def pages(self, pfns: memoryview, types: bytes) -> Iterable[Any]:
        return (bytes(4096) for kind in types if kind == 0)


def test_what_is_put_off_is_sent_in_the_end() -> None:
    data, done = saved(Deferring(64, Script({})), live=True)
    assert (done.passes, done.deferred) == ([64, 1], 1)
    with open_image(data) as image:
        first, last = (r for r in image.records if r.count > 0)
        assert image.words(first)[3 * 8 :][:8] == (3 | 0xF << 60).to_bytes(8, "little")
        assert image.words(last) == (3).to_bytes(8, "little")
        assert image.memory_map.lookup(3) == (0, last.body_offset + 16)
    # a save that is not live does not send them again
    guest = Deferring(64, Script({}))
    guest.pause = lambda: True  # type: ignore[method-assign]
    assert saved(guest)[1].passes == [64]


def test_checkpoints() -> None:
    guest = SimulatedGuest(100, Script({2: [(0, 2)], 3: [(1, 5)]}), context=context_bytes())
    data, done = saved(guest, checkpoint=lambda number: number < 2)
    assert done.passes == [100, 2, 4]
    with open_image(data) as image:
        names = [record.name for record in image.records]
    assert names == [
        "STATIC_DATA_END", "PAGE_DATA", "PAGE_DATA", "HVM_CONTEXT", "CHECKPOINT", "PAGE_DATA",
        "HVM_CONTEXT", "CHECKPOINT", "END",
    ]  # fmt: skip


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_recorded_batches_again(path: Path) -> None:
    with open_image(path) as image:
        guest = ImageSource(image)
        header = image.header("libxc", "image header")
        assert header is not None
        data, _ = saved(guest, version=header.fields["version"], recorded=guest.recorded())
    assert data == path.read_bytes()


@pytest.mark.parametrize("path", [*IMAGES, EXAMPLE, *STREAMS], ids=lambda path: path.stem)
def test_an_image_saved_again_restores_alike(path: Path) -> None:
    with open_image(path) as image:
        data, _ = saved(ImageSource(image))
        with open_image(data) as again:
            assert again.context.to_bytes() == image.context.to_bytes()
            assert again.params == image.params and again.tsc_info == image.tsc_info
            total, other_total = (
                sum(run.count for run in one.memory_map.populated()) for one in (image, again)
            )
            assert total == other_total
            for run in image.memory_map.populated():
                for pfn in {run.pfn, run.end - 1}:
                    kind, offset = image.memory_map.lookup(pfn) or (0, None)
                    other, moved = again.memory_map.lookup(pfn) or (0, None)
                    assert kind == other and (offset is None) == (moved is None)
                    if offset is not None and moved is not None:
                        page = bytes(image.source.read_at(offset, 4096))
                        assert page == bytes(again.source.read_at(moved, 4096))


class Failing(SimulatedGuest):
    logging: list[bool]

    def log_dirty(self, on: bool) -> None:
        self.logging = [*getattr(self, "logging", []), on]
        if not on and self.clock < 0:
            raise OSError("cannot switch it off")


def test_what_fails() -> None:
    with pytest.raises(SaveError, match="E2BIG"):
        save(SimulatedGuest(0x10000000, Script({})), Nowhere())
    guest = SimulatedGuest(5, Script({}))
    guest.pause = lambda: False  # type: ignore[method-assign]
    with pytest.raises(SaveError, match="has not been suspended"):
        save(guest, Nowhere())
    with pytest.raises(SaveError, match="no HVM context"):
        save(SimulatedGuest(5, Script({}), context=b""), Nowhere())
    guest = SimulatedGuest(5, Script({}))
    guest.pages = lambda pfns, types: (b"short",)  # type: ignore[method-assign]
    with pytest.raises(SaveError, match="5 bytes of page data for 5 pages"):
        save(guest, Nowhere())
    guest.page_types = lambda pfns: b""  # type: ignore[method-assign]
    with pytest.raises(SaveError, match="0 page types for 5 pfns"):
        save(guest, Nowhere())
    with pytest.raises(HvmctxError, match="HVM_PARAMS: "):
        save(SimulatedGuest(5, Script({}), params=[(1, 1 << 64)]), Nowhere())


def test_the_first_error_survives_the_clean_up() -> None:
    guest = Failing(5, Script({}))
    guest.clock = -1
    guest.pause = lambda: False  # type: ignore[method-assign]
    with pytest.raises(SaveError, match="has not been suspended"):
        save(guest, Nowhere(), live=True)
    assert guest.logging == [True, False]


class LoggingFails(SimulatedGuest):
    """It goes on, and not off."""

    def log_dirty(self, on: bool) -> None:
        if not on:
            raise OSError(22, "cannot switch it off")


def test_when_logging_goes_off() -> None:
    """This project's way: before END, or the save has failed. Xen's: after END, whatever
    comes of it."""
    order: list[str] = []

    class Told(Nowhere):
        def write(self, *buffers: Any) -> None:
            if bytes(buffers[-1]) == bytes(8):
                order.append("END")

    class Guest(SimulatedGuest):
        def log_dirty(self, on: bool) -> None:
            order.append("on" if on else "off")

        def cleanup(self) -> None:
            order.append("clean")

    for how, expected in (
        (LOGGING_OFF_HVMCTX, ["on", "off", "END", "clean"]),
        (LOGGING_OFF_XEN, ["on", "END", "off", "clean"]),
    ):
        save(Guest(5, Script({})), Told(), live=True, logging_off=how)
        assert order == expected
        order.clear()
    out = io.BytesIO()
    with pytest.raises(OSError, match="cannot switch it off"):
        save(LoggingFails(5, Script({})), Sink(out), live=True)
    with open_image(out.getvalue()) as image:
        assert not image.complete
    data, _ = saved(LoggingFails(5, Script({})), live=True, logging_off=LOGGING_OFF_XEN)
    with open_image(data) as image:
        assert image.complete
    with pytest.raises(UsageError, match="logging_off 'never'; expected hvmctx or xen"):
        save(SimulatedGuest(5, Script({})), Nowhere(), logging_off="never")


class Versions(SimulatedGuest):
    """Its pages hold how often they were written; `arrived` is what the other side has."""

    def __init__(self, pages: int, script: Ranges) -> None:
        super().__init__(pages, Script(script), context=context_bytes())
        self.now = [0] * pages
        self.arrived = [-1] * pages

    def pages(self, pfns: memoryview, types: bytes) -> Iterable[Any]:
        for pfn in pfns:
            self.arrived[pfn] = self.now[pfn]
        return super().pages(pfns, types)

    def fetch_dirty(self, bitmap: bytearray) -> int:
        count = super().fetch_dirty(bitmap)
        for start, end in set_ranges(bitmap):
            for pfn in range(start, min(end, self.p2m_size)):
                self.now[pfn] += 1
        return count

    @property
    def lost(self) -> int:
        """Pages that a restore would have with old contents."""
        return sum(old != new for old, new in zip(self.arrived, self.now))


def loop_of_june_2014(guest: Versions) -> None:
    """The first posting's loop, as it decides: leave below 50 dirty pages, which are no longer
    marked by then."""

    def send(ranges: Iterable[tuple[int, int]]) -> None:
        for start, end in ranges:
            guest.pages(memoryview(array("Q", range(start, end))), b"")

    send(guest.all_pages())
    for _ in range(4):
        bitmap = bytearray(guest.p2m_size // 8)
        if guest.fetch_dirty(bitmap) < 50:
            break
        send(set_ranges(bitmap))
    guest.pause()
    bitmap = bytearray(guest.p2m_size // 8)
    guest.fetch_dirty(bitmap)
    send(set_ranges(bitmap))


@pytest.mark.parametrize("dirty", [1, 49, 50, 2000])
def test_no_policy_here_loses_pages_as_the_loop_of_june_2014(dirty: int) -> None:
    """docs/saving.md has the numbers."""
    script = {1: [(0, 3000)], 2: [(100, 100 + dirty)], 3: [(5000, 5010)]}
    for policy in (default_policy, Policy2014()):
        guest = Versions(8192, script)
        save(guest, Nowhere(), live=True, policy=policy)
        assert guest.lost == 0
    guest = Versions(8192, script)
    loop_of_june_2014(guest)
    assert guest.lost == (dirty if dirty < 50 else 10 if dirty >= 50 else 0)


class Waits(SimulatedGuest):
    """Every answer that may be one is a coroutine's."""

    def __init__(self, pages: int, script: Ranges) -> None:
        super().__init__(pages, Script(script), context=context_bytes(), params=[(1, 7)])
        self.awaited: set[str] = set()


def _waiting(name: str) -> Any:
    genuine = getattr(SimulatedGuest, name)

    async def answer(self: Waits, *args: Any) -> Any:
        await asyncio.sleep(0)
        self.awaited.add(name)
        return genuine(self, *args)

    return answer


ANSWERS = (
    "page_types", "pages", "log_dirty", "fetch_dirty", "pause", "shutdown_reason", "resume",
    "policies", "tsc_info", "hvm_context", "hvm_params", "cleanup",
)  # fmt: skip
for _name in ANSWERS:
    setattr(Waits, _name, _waiting(_name))

SCRIPT: Ranges = {1: [(0, 60)], 2: [(0, 3)], 3: [(7, 8)]}


async def gathered(saving: Save) -> bytes:
    return b"".join([b"".join(buffers) async for buffers in saving])


def test_one_engine_for_all_drivers() -> None:
    """`for`, `async for` and a sink give the same bytes and figures, whoever waits."""

    def guest() -> SimulatedGuest:
        return SimulatedGuest(3000, Script(SCRIPT), context=context_bytes(), params=[(1, 7)])

    def more(number: int) -> bool:
        return number < 2

    async def soon(number: int) -> bool:
        await asyncio.sleep(0)
        return more(number)

    async def policy(stats: PrecopyStats) -> str:
        return default_policy(stats)

    expected, done = saved(guest(), live=True, checkpoint=more)
    saving = Save(guest(), live=True, checkpoint=more)
    assert b"".join(b"".join(buffers) for buffers in saving) == expected
    assert saving.saved == done
    saving = Save(guest(), live=True, checkpoint=more)
    assert asyncio.run(gathered(saving)) == expected and saving.saved == done
    waits = Waits(3000, SCRIPT)
    saving = Save(waits, live=True, checkpoint=soon, policy=policy, suspended=lambda: soon(0))
    assert asyncio.run(gathered(saving)) == expected and saving.saved == done
    assert waits.awaited == set(ANSWERS)


@pytest.mark.filterwarnings("error")
def test_a_guest_that_has_to_be_awaited() -> None:
    for live in (False, True):
        with pytest.raises(UsageError, match="has to be awaited"):
            save(Waits(5, {}), Nowhere(), live=live)


def test_when_the_guest_has_stopped() -> None:
    guest = SimulatedGuest(100, Script({}), context=context_bytes())
    fetched: list[tuple[bool, int]] = []
    save(
        guest,
        Nowhere(),
        checkpoint=lambda number: number < 2,
        suspended=lambda: fetched.append((guest.paused_at is not None, len(guest.fetches))),
    )
    assert fetched == [(True, 1), (True, 2)], "before its dirty pages are asked for, each time"


def test_leaving_a_loop_early() -> None:
    guest = Ends(10000)
    with closing(iter(Save(guest, live=True))) as pieces:
        for _ in pieces:
            if guest.batches == 2:
                break
    assert (guest.batches, guest.ended) == (2, ["logging off", "clean"])

    async def run() -> None:
        guest = Ends(10000)
        async with aclosing(aiter(Save(guest, live=True))) as pieces:
            async for _ in pieces:
                if guest.batches == 2:
                    break
        assert (guest.batches, guest.ended) == (2, ["logging off", "clean"])

    asyncio.run(run())
    guest = Ends(5)
    list(Save(guest, live=True))
    assert guest.ended == ["logging off", "clean"]


async def _connected() -> tuple[socket.socket, asyncio.StreamWriter]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    _, stream = await asyncio.open_connection(sock=ours)
    return theirs, stream


def test_a_slow_reader_slows_the_save() -> None:
    """20 MB: what has been asked of the guest and not yet been read is never more than two
    batches, and what the system holds for the socket."""

    async def run() -> None:
        theirs, stream = await _connected()
        guest = Ends(5000)
        task = asyncio.create_task(Save(guest).send(stream))
        held, pending, read = 0, 0, 0
        batch = 4096 * 1024
        while not task.done() or stream.transport.get_write_buffer_size():
            if task.done():
                stream.close()
            with suppress(BlockingIOError):
                read += len(theirs.recv(10000))
            pending = max(pending, stream.transport.get_write_buffer_size())
            held = max(held, min(guest.batches * batch, 5000 * 4096) - read)
            await asyncio.sleep(0)
        assert task.result().passes == [5000]
        assert batch // 2 < pending < batch + 100_000
        assert held < 2 * batch
        stream.transport.abort()
        theirs.close()

    asyncio.run(run())


def test_cancelling_is_prompt() -> None:
    """Whether the reader reads or not: no further batch, the guest cleaned up, within a few
    turns of the loop."""

    async def run(reads: bool) -> None:
        theirs, stream = await _connected()
        loop = asyncio.get_running_loop()

        async def read() -> None:
            while await loop.sock_recv(theirs, 1 << 20):
                pass

        reading = asyncio.create_task(read()) if reads else None
        guest = Ends(1 << 18)
        task = asyncio.create_task(Save(guest, live=True).send(stream))
        while not guest.batches:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not task.done()
        batches = guest.batches
        task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert task.cancelled()
        assert guest.batches <= batches + 1 and guest.ended == ["logging off", "clean"]
        stream.transport.abort()
        if reading:
            await reading
        theirs.close()

    asyncio.run(run(reads=True))
    asyncio.run(run(reads=False))


def test_a_second_cancel_does_not_end_the_clean_up() -> None:
    class Slow(Ends):
        async def log_dirty(self, on: bool) -> None:  # type: ignore[override]
            for _ in range(5):
                await asyncio.sleep(0)
            super().log_dirty(on)

    async def run() -> None:
        theirs, stream = await _connected()
        guest = Slow(1 << 18)
        task = asyncio.create_task(Save(guest, live=True).send(stream))
        while not guest.batches:
            await asyncio.sleep(0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert guest.ended == ["logging off", "clean"]
        stream.transport.abort()
        theirs.close()

    asyncio.run(run())


def test_a_reader_that_goes() -> None:
    async def run() -> None:
        theirs, stream = await _connected()
        guest = Ends(1 << 18)
        task = asyncio.create_task(Save(guest, live=True).send(stream))
        while guest.batches < 1:
            await asyncio.sleep(0)
        theirs.close()
        with pytest.raises(ConnectionError):
            await task
        assert guest.ended == ["logging off", "clean"]
        stream.transport.abort()

    asyncio.run(run())


@given(st.binary(max_size=40))
def test_set_ranges(bitmap: bytes) -> None:
    found = [pfn for start, end in set_ranges(bitmap) for pfn in range(start, end)]
    assert found == [n for n in range(8 * len(bitmap)) if bitmap[n >> 3] >> (n & 7) & 1]
    ranges = list(set_ranges(bitmap))
    assert all(end < start for (_, end), (start, _) in pairwise(ranges)), "joined"


def test_set_ranges_of_much() -> None:
    bitmap = bytes(10000) + b"\xff" * 9000 + b"\x01" + bytes(5000)
    assert list(set_ranges(bitmap)) == [(80000, 152001)]
