"""What a guest may answer: pages put off while they are read, pages that cannot be mapped,
shutdown reasons, timeouts; and the clean-up after all of it."""

from __future__ import annotations

import asyncio
import errno
import io
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from hvmctx.abi import streams
from hvmctx.errors import HvmctxError
from hvmctx.files.sink import Nowhere, Sink
from hvmctx.image.image import open_image
from hvmctx.save.engine import Save, save
from hvmctx.save.simulated import Script, SimulatedGuest
from hvmctx.save.source import (
    NOT_NOW,
    SHUTDOWN_REASONS,
    SUSPEND,
    GuestSource,
    PageError,
    SaveError,
    SaveTimeout,
)
from tests.builders.samples import context_bytes


class Guest(SimulatedGuest):
    """Its pages hold their pfn; page 5 is absent. `trouble` says what stands in the place of a
    page."""

    def __init__(self, pages: int, script: dict[int, list[tuple[int, int]]] | None = None) -> None:
        super().__init__(pages, Script(script or {}), context=context_bytes())
        self.trouble: Callable[[int], Any] = lambda pfn: None
        self.reason: int | None = None
        self.calls: list[str] = []

    def page_types(self, pfns: memoryview) -> bytes:
        return bytes(streams.PAGE_XTAB if pfn == 5 else 0 for pfn in pfns)

    def pages(self, pfns: memoryview, types: bytes) -> Iterable[Any]:
        for pfn, kind in zip(pfns, types):
            if kind == 0:
                yield self.trouble(pfn) or pfn.to_bytes(8, "little") * 512

    def log_dirty(self, on: bool) -> None:
        self.calls.append(f"logging {'on' if on else 'off'}")

    def shutdown_reason(self) -> int | None:
        return self.reason

    def cleanup(self) -> None:
        self.calls.append("clean")


def test_pages_are_put_off_while_they_are_read() -> None:
    guest = Guest(20)
    guest.trouble = lambda pfn: NOT_NOW if pfn in (0, 7, 19) and guest.paused_at is None else None
    out = io.BytesIO()
    done = save(guest, Sink(out), live=True)
    assert (done.passes, done.deferred) == ([20, 3], 3)
    with open_image(out.getvalue()) as image:
        first, last = (record for record in image.records if record.count > 0)
        tops = bytes(image.words(first)[7::8])
        assert [at for at, top in enumerate(tops) if top] == [0, 5, 7, 19]
        assert last.count == 3
        for pfn in set(range(20)) - {5}:
            kind, offset = image.memory_map.lookup(pfn) or (-1, None)
            assert kind == 0 and offset is not None
            assert bytes(image.source.read_at(offset, 8)) == pfn.to_bytes(8, "little")
    assert repr(NOT_NOW) == "NOT_NOW"


@pytest.mark.parametrize("live", [False, True])
def test_but_not_when_the_guest_has_stopped(live: bool) -> None:
    guest = Guest(20, {1: [(0, 9)]})
    guest.trouble = lambda pfn: NOT_NOW if pfn == 7 and guest.paused_at is not None else None
    with pytest.raises(SaveError, match="pfn 0x7: not to be had, though the domain has stopped"):
        save(guest, Nowhere(), live=live)
    assert guest.calls == (["logging on", "logging off"] if live else []) + ["clean"]


def test_more_answers_than_pages() -> None:
    guest = Guest(3)
    guest.pages = lambda pfns, types: [NOT_NOW] * 4  # type: ignore[method-assign]
    with pytest.raises(SaveError, match="more pages than the 3 that were asked for"):
        save(guest, Nowhere(), live=True)


def test_a_page_that_cannot_be_mapped() -> None:
    guest = Guest(20)
    guest.trouble = lambda pfn: PageError(pfn, errno.EINVAL, 0x1234) if pfn == 7 else None
    with pytest.raises(PageError) as caught:
        save(guest, Nowhere())
    error = caught.value
    assert (error.pfn, error.errno, error.mfn) == (7, errno.EINVAL, 0x1234)
    assert str(error) == "pfn 0x7 (mfn 0x1234) cannot be mapped: Invalid argument (errno 22)"
    assert guest.calls == ["clean"] and isinstance(error, HvmctxError)
    assert str(PageError(1, errno.ENOENT)).startswith("pfn 0x1 cannot be mapped: No such file")


@pytest.mark.parametrize(
    ("reason", "said"),
    [(0, "poweroff"), (1, "reboot"), (3, "crash"), (5, "soft reset"), (77, "reason 77")],
)
def test_a_domain_that_has_shut_down_for_another_reason(reason: int, said: str) -> None:
    guest = Guest(20)
    guest.reason = reason
    with pytest.raises(SaveError, match=f"has not been suspended: it has shut down, {said}$"):
        save(guest, Nowhere(), live=True)
    assert guest.calls == ["logging on", "logging off", "clean"]


def test_a_domain_that_is_suspended_or_paused() -> None:
    assert SHUTDOWN_REASONS[SUSPEND] == "suspend"
    for reason in (None, SUSPEND):
        guest = Guest(20)
        guest.reason = reason
        assert save(guest, Nowhere()).passes == [20]
        assert guest.calls == ["clean"]


def test_a_timeout_is_told_apart() -> None:
    guest = Guest(20)

    def pause() -> bool:
        raise TimeoutError

    guest.pause = pause  # type: ignore[method-assign]
    with pytest.raises(SaveTimeout, match="did not suspend in time"):
        save(guest, Nowhere())

    async def slow() -> bool:
        async def suspend() -> bool:
            await asyncio.Event().wait()
            return True

        return await asyncio.wait_for(suspend(), 0.001)

    async def run() -> None:
        async for _ in Save(guest, live=True):
            pass

    guest.pause = slow  # type: ignore[method-assign, assignment]
    with pytest.raises(SaveTimeout, match="did not suspend in time"):
        asyncio.run(run())
    assert guest.calls == ["clean", "logging on", "logging off", "clean"]
    guest.pause = lambda: False  # type: ignore[method-assign]
    with pytest.raises(SaveError, match="not been suspended") as caught:
        save(guest, Nowhere())
    assert type(caught.value) is SaveError


def test_hooks_have_answers() -> None:
    class Mine(GuestSource):
        """It defines neither."""

    mine = Mine()  # type: ignore[abstract]
    assert mine.shutdown_reason() is None
    assert mine.cleanup() is None


def test_the_clean_up_can_fail() -> None:
    def cleanup() -> None:
        raise OSError(5, "cannot unmap")

    guest = Guest(20)
    guest.cleanup = cleanup  # type: ignore[method-assign]
    with pytest.raises(OSError, match="cannot unmap"):
        save(guest, Nowhere())
    guest.reason = 1
    with pytest.raises(SaveError, match="reboot"):
        save(guest, Nowhere())


@pytest.mark.parametrize("ranges", [[(5, 9), (3, 5)], [(0, 5), (4, 9)]])
def test_pages_that_are_not_ascending(ranges: list[tuple[int, int]]) -> None:
    guest = Guest(20)
    guest.all_pages = lambda: ranges  # type: ignore[method-assign]
    with pytest.raises(SaveError, match=r"pfn 0x[34] after 0x[84]: pages must be ascending"):
        save(guest, Nowhere())
