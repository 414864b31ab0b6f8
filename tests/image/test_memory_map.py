from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.errors import (
    InputError,
    LimitError,
    MissingPageError,
    TruncatedError,
    UsageError,
)
from hvmctx.image.image import open_image
from hvmctx.image.memory_map import Memory, MemoryMap, Run, side_by_side
from hvmctx.limits import Limits
from tests.builders.streams import Pipe, libxc_stream, page_data, record, word

TYPES = sorted(streams.PAGE_TYPES)
words = st.builds(word, st.integers(0, 40), st.sampled_from(TYPES))
runs = st.builds(
    lambda start, count, kind: [word(start + n, kind) for n in range(count)],
    st.integers(0, 60), st.integers(1, 20), st.sampled_from(TYPES),
)  # fmt: skip
batches = st.lists(runs | st.lists(words, min_size=1, max_size=12), max_size=6)


@given(batches)
def test_agrees_with_reading_page_by_page(sent: list[list[int]]) -> None:
    data = libxc_stream(*(page_data(*batch, fill=at) for at, batch in enumerate(sent)))
    expected: dict[int, tuple[int, bytes | None]] = {}
    for at, batch in enumerate(sent):
        page = at
        for one in batch:
            kind, pfn = one >> 60, one & streams.PFN_MASK
            has_data = kind in streams.PAGE_TYPES_WITH_DATA
            # page_data fills by the position of the word
            expected[pfn] = (kind, bytes([at + batch.index(one) & 0xFF]) if has_data else None)
            page += 1
    with open_image(data) as image:
        memory = image.memory_map
        assert len(memory) == len(expected)
        for pfn, (kind, fill) in expected.items():
            found = memory.lookup(pfn)
            assert found is not None and found[0] == kind
            assert (found[1] is None) == (fill is None)
        assert memory.lookup(1000) is None
        ends = [0]
        for run in memory.runs:
            assert run.pfn >= ends[-1] and run.count > 0
            ends.append(run.end)
        counts: dict[int, int] = {}
        for kind, _ in expected.values():
            counts[kind] = counts.get(kind, 0) + 1
        assert memory.counts() == dict(sorted(counts.items()))


def test_where_pages_lie() -> None:
    first = page_data(word(5), word(6, 0xE), word(7), word(9), fill=0x10)
    second = page_data(word(7), word(8), fill=0x20)
    data = libxc_stream(first, second)
    with open_image(data) as image:
        memory = image.memory_map
        contents = {}
        for pfn in range(12):
            found = memory.lookup(pfn)
            if found is not None:
                contents[pfn] = None if found[1] is None else data[found[1]]
        assert contents == {5: 0x10, 6: None, 7: 0x20, 8: 0x21, 9: 0x13}
        assert sum(run.count for run in memory.populated()) == 5


def test_a_batch_of_neighbours_is_one_run() -> None:
    data = libxc_stream(*(page_data(*(word(n) for n in range(s, s + 64))) for s in (0, 64)))
    with open_image(data) as image:
        assert [(run.pfn, run.count) for run in image.memory_map.runs] == [(0, 64), (64, 64)]
        assert "64 pfns from 0x40, type 0x0 at" in repr(list(image.memory_map.runs)[1])


def test_batches_of_a_size_are_one_row() -> None:
    """However many: a guest of 16 TiB has four millions of them, sent twice eight."""
    one = b"".join(page_data(*(word(n) for n in range(s, s + 4))) for s in range(0, 4000, 4))
    with open_image(libxc_stream(one + one + page_data(word(9)))) as image:
        for memory in (image.memory_map, image.memory):
            assert len(memory.runs) == 1002 and memory.runs.rows <= 6
            assert [run.type for run in memory.between(0, 4000)] == [0] * 1002
            assert len(memory) == 4000
            assert memory.lookup(9) != memory.lookup(8)


@given(batches, batches)
def test_side_by_side(left: list[list[int]], right: list[list[int]]) -> None:
    found: dict[int, list[int | None]] = {}
    images = [open_image(libxc_stream(*(page_data(*b) for b in some))) for some in (left, right)]
    one, other = (image.memory_map for image in images)
    for start, end, *runs in side_by_side(one, other):
        assert start < end and start not in found
        for run in runs:
            assert run is None or (run.pfn, run.end) == (start, end)
        for pfn in range(start, end):
            found[pfn] = [None if run is None else run.part(pfn, pfn + 1).type for run in runs]
    pfns = [pfn for pfn in range(90) if one.lookup(pfn) or other.lookup(pfn)]
    assert list(found) == pfns
    for pfn in pfns:
        entries = one.lookup(pfn), other.lookup(pfn)
        assert found[pfn] == [entry and entry[0] for entry in entries]


@pytest.mark.parametrize("last", [(1 << 52) - 1, (1 << 52) - 2])
def test_the_highest_pfns_do_not_run_over(last: int) -> None:
    data = libxc_stream(page_data(word(last), word(0, 1), word(1, 1)))
    with open_image(data) as image:
        runs = image.memory_map.runs
        assert [(r.pfn, r.count, r.type) for r in runs] == [(0, 2, 1), (last, 1, 0)]


def test_reserved_bits_do_not_count() -> None:
    data = libxc_stream(page_data(word(3) | 0xFF << 52))
    with open_image(data) as image:
        assert image.memory_map.lookup(3) is not None


def test_runs_sent_again_join() -> None:
    memory = MemoryMap([Run(0, 4, 0xE, None)])
    assert memory.lookup(3) == (0xE, None)
    assert repr(list(memory.runs)) == "[<4 pfns from 0x0, type 0xe>]"


@given(batches, st.integers(0, 7))
def test_what_a_restore_leaves(sent: list[list[int]], verify: int) -> None:
    """Page by page as xg_sr_restore.c goes about it: 400 such streams gave the same memory
    in the genuine restore."""
    pieces = [page_data(*dict.fromkeys(batch), fill=at) for at, batch in enumerate(sent)]
    data = libxc_stream(*pieces[:verify], *([record(0xD)] if verify < len(sent) else []),
                        *pieces[verify:])  # fmt: skip
    made: dict[int, int] = {}
    for at, batch in enumerate(sent):
        for place, one in enumerate(dict.fromkeys(batch)):
            kind, pfn = one >> 60, one & streams.PFN_MASK
            if kind in streams.PAGE_TYPES_WITH_MEMORY:
                made.setdefault(pfn, 0)
            if kind in streams.PAGE_TYPES_WITH_DATA and at < verify:
                made[pfn] = at + place & 0xFF
    with open_image(data) as image:
        found = {}
        for run in image.memory.populated():
            for pfn in range(run.pfn, run.end):
                offset = run.part(pfn, pfn + 1).offset
                found[pfn] = 0 if offset is None else data[offset]
        assert found == made


def test_a_page_that_is_gone_later_stays() -> None:
    """A guest that balloons while it migrates."""
    data = libxc_stream(page_data(word(1), word(2), fill=5), page_data(word(2, 0xF)))
    with open_image(data) as image:
        assert image.memory_map.lookup(2) == (0xF, None)
        kind, offset = image.memory.lookup(2) or (None, None)
        assert kind == 0 and offset is not None and data[offset] == 6


def test_invalid_types_have_no_memory() -> None:
    with open_image(libxc_stream(page_data(word(1, 5), word(2, 8), word(3, 0xE)))) as image:
        assert [run.pfn for run in image.memory.populated()] == [3]


def test_what_is_too_scattered_is_refused() -> None:
    """A count of words in a hole of a file costs nobody gigabytes."""
    limits = Limits(runs=12)
    scattered = [page_data(*(word(2 * n, 0xE) for n in range(k, k + 5))) for k in (0, 5, 10)]
    with open_image(libxc_stream(*scattered[:2]), limits=limits) as image:
        assert len(image.memory_map.runs) == 10
    with open_image(libxc_stream(*scattered), limits=limits) as image:
        for name in ("memory_map", "memory"):
            with pytest.raises(LimitError, match="more than 12 runs"):
                getattr(image, name)


def test_scattered_words_take_time_in_proportion() -> None:
    """With a comparison of all the rest for each word this would take minutes."""
    count = 60_000
    batch = [word(n if n % 2 == 0 else 1, 0xF) for n in range(count - 1)] + [word(count - 1, 0xF)]
    with open_image(libxc_stream(page_data(*batch))) as image:
        assert len(image.memory_map) == count // 2 + 2  # pfn 1 and the last as well


# Reading ------------------------------------------------------------------------------------


def params(*pairs: tuple[int, int]) -> bytes:
    return record(
        streams.LIBXC_HVM_PARAMS,
        struct.pack("<II", len(pairs), 0) + b"".join(struct.pack("<QQ", *pair) for pair in pairs),
    )


@given(batches, st.integers(0, 70 << 12), st.integers(0, 9000))
def test_reading_agrees_with_the_map(sent: list[list[int]], gpa: int, size: int) -> None:
    data = libxc_stream(*(page_data(*batch, fill=at) for at, batch in enumerate(sent)))
    with open_image(data) as image:
        memory = image.memory
        pages: dict[int, bytes] = {}
        for run in memory.populated():
            for pfn in range(run.pfn, run.end):
                _, at = memory.lookup(pfn) or (0, None)
                pages[pfn] = bytes(4096) if at is None else data[at : at + 4096]
        wanted = range(gpa >> 12, (gpa + size + 4095) >> 12) if size else range(0)
        missing = [pfn for pfn in wanted if pfn not in pages]
        if missing:
            with pytest.raises(MissingPageError, match=f"at pfn {missing[0]:#x}: ") as told:
                memory.read(gpa, size)
            assert told.value.pfn == missing[0]
        else:
            whole = b"".join(pages[pfn] for pfn in wanted)
            assert memory.read(gpa, size) == whole[gpa & 4095 :][:size]


def test_reading() -> None:
    data = libxc_stream(
        page_data(word(4), word(5), fill=1),
        page_data(word(6, streams.PAGE_XALLOC), word(7, streams.PAGE_XTAB)),
        params((streams.HVM_PARAM_STORE_PFN, 5), (streams.HVM_PARAM_CONSOLE_PFN, 99)),
    )
    with open_image(data) as image:
        memory = image.memory
        assert memory is image.memory and repr(memory) == "<Memory: 4 pfns in 3 runs>"
        assert memory.read(0x4FFE, 4) == b"\1\1\0\0"  # xenstore's page, which is cleared
        assert memory.read(0x4FFF, 0x2001) == b"\1" + bytes(0x2000)
        assert memory.read(0x6FFF, 1) == b"\0" and memory.read(0x9000, 0) == b""
        for gpa, size, reason in (
            (0x6FFF, 2, "no memory at pfn 0x7: its page is of type absent"),
            (0x3FFF, 2, "no memory at pfn 0x3: the image does not mention it"),
            (0, 1 << 70, "no memory at pfn 0x0: the image does not mention it"),
        ):
            with pytest.raises(MissingPageError, match=reason):
                memory.read(gpa, size)
        for numbers in ((-1, 5), (0x4000, -1)):
            with pytest.raises(UsageError, match="expected no negative number"):
                memory.read(*numbers)
    with open_image(data[: data.index(b"\1" * 4096) + 6000]) as image:
        assert image.memory.read(0x4000, 4096) == b"\1" * 4096
        with pytest.raises(TruncatedError, match="the input ends within a page"):
            image.memory.read(0x4000, 8192)
    with open_image(Pipe(data), keep_words=True) as image, pytest.raises(InputError, match="twice"):
        image.memory.read(0x4000, 1)


def test_what_is_cleared_is_asked_for_once() -> None:
    """As many small reads would take apart the parameters each time."""
    asked = []
    with open_image(libxc_stream(page_data(word(0), word(1)))) as image:

        def params() -> dict[int, int]:
            asked.append(1)
            return {streams.HVM_PARAM_STORE_PFN: 1}

        memory = Memory(image, params)
        read = [memory.read(at, 2) for at in (4094, 4095, 4096, 0)]
    assert read == [b"\x5a\x5a", b"\x5a\0", b"\0\0", b"\x5a\x5a"] and asked == [1]


def test_a_hole_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond it is not looked at, however much was asked for."""
    words = (word(2 * at, streams.PAGE_XALLOC) for at in range(1000))
    steps, made = [], Run.__init__

    def counting(run: Run, *given: Any) -> None:
        steps.append(run)
        made(run, *given)

    with open_image(libxc_stream(page_data(*words))) as image:
        memory = image.memory
        monkeypatch.setattr(Run, "__init__", counting)
        with pytest.raises(MissingPageError):
            memory.read(0, 1 << 40)
    assert len(steps) <= 2
