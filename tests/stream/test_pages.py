from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.stream import pages


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=50))
def test_types_are_counted_in_bulk_as_one_by_one(words: list[int]) -> None:
    tops = bytes(value >> 56 for value in words)
    counts = pages.WordCounts()
    counts.add(struct.pack(f"<{len(words)}Q", *words))
    of_type = [sum(value >> 60 == number for value in words) for number in range(16)]
    assert counts.of_type == of_type
    assert counts.with_memory() == sum(of_type[:5]) + sum(of_type[9:13]) + of_type[14]
    with_data = [value for value in words if value >> 60 in streams.PAGE_TYPES_WITH_DATA]
    assert pages.data_pages(tops) == len(with_data)
    assert sum(map(pages.page_size_of, words)) == 4096 * len(with_data)
    body = 8 + sum(8 + pages.page_size_of(value) for value in words)
    assert pages.length_of(len(words), tops) == body
    assert pages.pages_start(len(words)) == 8 + 8 * len(words)
    data = struct.pack(f"<{len(words)}Q", *words)
    assert list(pages.words_of(data)) == words
    assert pages.bytes_of(pages.words_of(data)) == data


def test_batches_that_ascend() -> None:
    def ascending(*batches: tuple[int, ...]) -> bool:
        counts = pages.WordCounts()
        for batch in batches:
            counts.add(struct.pack(f"<{len(batch)}Q", *batch))
        return counts.ascending

    assert ascending((0, 1, 2), (3,), (0xF << 60 | 7, 8))
    assert not ascending((0, 1, 2), (2, 3))
    assert not ascending((5, 4))
    assert not ascending((5,), (0xF << 60 | 4,))
