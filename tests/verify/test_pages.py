from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.image.image import open_image
from hvmctx.limits import DEFAULT, Limits
from hvmctx.verify.pages import PassedPages, mismatches
from tests.builders.streams import libxc_head, page_data, record, word

words = st.builds(word, st.integers(0, 12), st.sampled_from([0, 1, 0xD, 0xE, 0xF]))
batches = st.lists(st.lists(words, min_size=1, max_size=8), max_size=6)


def packed(batch: list[int]) -> bytes:
    return struct.pack(f"<{len(batch)}Q", *batch)


@given(batches)
def test_against_a_page_by_page_account(sent: list[list[int]]) -> None:
    passed = PassedPages()
    contents: dict[int, int] = {}
    kinds: dict[int, int] = {}
    for batch in sent:
        numbers = [one & streams.PFN_MASK for one in batch]
        twice = passed.add(packed(batch), DEFAULT)
        assert bool(twice) == (len(set(numbers)) < len(numbers))
        assert all(numbers.count(pfn) > 1 for pfn in twice)
        for pfn, kind in ((one & streams.PFN_MASK, one >> 60) for one in batch):
            kinds[pfn] = kind
            contents[pfn] = contents.get(pfn, 0) + (kind in streams.PAGE_TYPES_WITH_DATA)
    found = {rule: (count, first) for rule, count, first in passed.findings()}

    def expected(pfns: list[int]) -> tuple[int, int] | None:
        return (len(pfns), min(pfns)) if pfns else None

    absent = (0xD, 0xF)
    resent = [pfn for pfn, times in contents.items() if times > 1]
    gone = [pfn for pfn, kind in kinds.items() if kind in absent and contents[pfn]]
    missing = [pfn for pfn in range(max(kinds, default=0)) if pfn not in kinds]
    assert found.get("pages-resent") == expected(resent)
    assert found.get("page-gone") == expected(gone)
    assert found.get("pages-missing") == expected(missing)
    for pfn in range(14):
        held = pfn in kinds and (kinds[pfn] not in absent or contents[pfn] > 0)
        assert passed.populated(pfn) == held


def test_too_scattered() -> None:
    limits = Limits(strict_runs=2)  # and one for each batch
    passed = PassedPages()
    passed.add(packed([0, 2, 4]), limits)
    passed.add(packed([0, 2]), limits)
    assert [rule for rule, _, _ in passed.findings()] == ["scattered"]


def test_mismatches() -> None:
    stream = (
        libxc_head()
        + record(16)
        + page_data(*(word(pfn) for pfn in range(300)))
        + page_data(word(7), fill=9)
        + record(streams.LIBXC_VERIFY)
        + page_data(word(0), word(1), word(7), fill=0x5A)
        + page_data(word(299), word(300), word(2, 0xF), fill=0x5A + 299)
        + record(0)
    )
    with open_image(stream) as image:
        (verify,) = image.records_of("libxc", streams.LIBXC_VERIFY)
        found = list(mismatches(image, verify.offset))
    # page 7 was sent again before VERIFY, and now is what neither was
    assert [pfn for pfn, _ in found] == [7]
    assert found[0][1] == verify.end + 8 + 8 + 3 * 8 + 2 * 4096
