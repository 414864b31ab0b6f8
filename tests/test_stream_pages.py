from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.stream import pages


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=50))
def test_types_are_counted_in_bulk_as_one_by_one(words: list[int]) -> None:
    tops = bytes(value >> 56 for value in words)
    counts = [0] * 16
    pages.count_types(tops, counts)
    assert counts == [sum(value >> 60 == number for value in words) for number in range(16)]
    with_data = [value for value in words if value >> 60 in streams.PAGE_TYPES_WITH_DATA]
    assert pages.data_pages(tops) == len(with_data)
    assert sum(map(pages.page_size_of, words)) == 4096 * len(with_data)
    body = 8 + sum(8 + pages.page_size_of(value) for value in words)
    assert pages.length_of(len(words), tops) == body
    assert pages.pages_start(len(words)) == 8 + 8 * len(words)
    data = struct.pack(f"<{len(words)}Q", *words)
    assert list(pages.words_of(data)) == words
    assert pages.bytes_of(pages.words_of(data)) == data
