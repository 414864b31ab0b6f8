"""The save engine: the passes of the genuine xc_domain_save, and what fails."""

from __future__ import annotations

import io
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.errors import HvmctxError
from hvmctx.files.sink import Nowhere, Sink
from hvmctx.image.image import Image, open_image
from hvmctx.save.engine import (
    ABORT,
    CONTINUE,
    DEFERRED,
    STOP,
    Policy2014,
    PrecopyStats,
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


@given(st.binary(max_size=40))
def test_set_ranges(bitmap: bytes) -> None:
    found = [pfn for start, end in set_ranges(bitmap) for pfn in range(start, end)]
    assert found == [n for n in range(8 * len(bitmap)) if bitmap[n >> 3] >> (n & 7) & 1]
    ranges = list(set_ranges(bitmap))
    assert all(end < start for (_, end), (start, _) in pairwise(ranges)), "joined"


def test_set_ranges_of_much() -> None:
    bitmap = bytes(10000) + b"\xff" * 9000 + b"\x01" + bytes(5000)
    assert list(set_ranges(bitmap)) == [(80000, 152001)]
