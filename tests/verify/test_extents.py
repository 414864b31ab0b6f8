from __future__ import annotations

from itertools import pairwise

import pytest

from hvmctx.abi import streams
from hvmctx.findings import ERROR, Finding
from hvmctx.image.image import open_image
from hvmctx.verify.extents import measure
from hvmctx.verify.views import judge
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.streams import SMALL, Pipe, page_data, record, strict_hvm, word


def lengths(target: object, *offsets: int, record: str = "something") -> list[int | None]:
    findings = [Finding(ERROR, "r", "t", layer="xl", offset=at, record=record) for at in offsets]
    with open_image(target) as image:  # type: ignore[arg-type]
        measure(image, findings)
    return [one.length for one in findings]


def test_every_header_and_record() -> None:
    """Of all bytes of one what is left of it; where records of a context lie within one of a
    stream, theirs."""
    with open_image(EXAMPLE) as image:
        context = image.last("libxc", streams.LIBXC_HVM_CONTEXT)
        assert context is not None
        spans = {header.offset: header.end for header in image.headers}
        spans |= {one.offset: one.end for one in image.records}
        starts = [context.body_offset + (one.offset or 0) for one in image.context.entries]
        spans |= dict(pairwise([*starts, context.body_end]))
        spans[context.offset] = context.body_offset  # up to the first one within it
    for start, end in spans.items():
        if start == context.offset:
            assert lengths(EXAMPLE, start) == [context.end - start]
            continue
        asked = [start, (start + end) // 2, end - 1]
        assert lengths(EXAMPLE, *asked) == [end - at for at in asked]


def test_the_same_many_times() -> None:
    """Page batches that follow each other are one row of the index."""
    batches = [page_data(word(pfn)) for pfn in range(5)]
    data = strict_hvm(*batches)
    first = data.index(batches[0][:8])
    size = len(batches[0])
    offsets = [first + number * size for number in range(5)]
    assert lengths(data, *offsets, offsets[3] + 1) == [size] * 5 + [size - 1]
    assert lengths(Pipe(data), offsets[2]) == [size]


def test_what_is_in_none_has_no_length() -> None:
    assert lengths(SMALL, len(SMALL) + 5) == [None]
    assert lengths(SMALL, 0, record="") == [None]
    assert lengths(context_bytes() + b"tail", len(context_bytes()) + 1) == [None]


def test_of_a_record_that_is_cut_off_what_is_there() -> None:
    whole = strict_hvm(record(0x44, bytes(64)))
    at = whole.index(record(0x44, bytes(64)))
    assert lengths(whole[: at + 20], at) == [20]
    assert lengths(Pipe(whole[: at + 20]), at) == [None]


@pytest.mark.parametrize("view", ["verifier", "restore", "strict"])
def test_judge_measures(view: str) -> None:
    bad = strict_hvm(record(streams.LIBXC_X86_TSC_INFO, bytes(16)))
    found = judge(bad, view).findings
    found = [one for one in found if one.rule == "tsc-length"]
    one = found[-1]
    assert {one.length for one in found} == {24}
    if view == "restore":
        assert one.releases[-1] == "newest" and one.errno is None
