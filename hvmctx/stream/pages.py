"""Page words in bulk: type << 60 | pfn, little-endian u64s, one for each page of a batch.

Everything here works on whole batches by slices of their bytes; no Python step a page.
Source: docs/specs/libxc-migration-stream.pandoc.
"""

from __future__ import annotations

import struct
from array import array

from hvmctx.abi import streams

__all__ = [
    "WordCounts", "bytes_of", "data_pages", "is_ordinary", "length_of", "page_size_of",
    "pages_start", "words_of",
]  # fmt: skip


def words_of(data: bytes | memoryview) -> array[int]:
    """u64s out of little-endian bytes, in one call."""
    words = array("Q")
    words.frombytes(data)
    if struct.pack("=H", 1) != b"\1\0":
        words.byteswap()
    return words


def bytes_of(words: array[int]) -> bytes:
    """The inverse of `words_of`."""
    if struct.pack("=H", 1) == b"\1\0":
        return words.tobytes()
    swapped = array("Q", words)
    swapped.byteswap()
    return swapped.tobytes()


def data_pages(types: bytes) -> int:
    """How many words carry a page, given the top byte of each word."""
    return len(types.translate(None, _DATALESS))


def pages_start(count: int) -> int:
    """Where the pages start in the body of a PAGE_DATA record of that many words."""
    return streams.PAGE_DATA_HEAD.size + 8 * count


def length_of(count: int, tops: bytes) -> int:
    """Bytes that the body of a PAGE_DATA record of that many words has, given the top byte
    of each word."""
    return pages_start(count) + streams.PAGE_SIZE * data_pages(tops)


class WordCounts:
    """Of the page words of a stream: how many there are of each of the sixteen types, and
    whether each batch begins after the last pfn of the one before, as it does where a
    writer sends every page once."""

    __slots__ = ("_last", "ascending", "of_type")

    def __init__(self) -> None:
        self.of_type = [0] * 16
        self.ascending = True
        self._last = -1

    def add(self, words: bytes) -> None:
        """Whole words of one batch, or a part of it. A batch of one type costs one pass
        over its top bytes."""
        first, last = (
            int.from_bytes(word, "little") & streams.PFN_MASK for word in (words[:8], words[-8:])
        )
        self.ascending &= self._last < first <= last
        self._last = last
        tops = words[7::8]
        while tops:
            top = tops[:1]
            rest = tops.translate(None, top)
            self.of_type[top[0] >> 4] += len(tops) - len(rest)
            tops = rest

    def with_memory(self) -> int:
        """How many words there are of types that a restore gives a page for."""
        return sum(self.of_type[kind] for kind in streams.PAGE_TYPES_WITH_MEMORY)


def page_size_of(word: int) -> int:
    """Bytes of page data that a word announces: 4096 or 0."""
    has_data = word >> streams.PAGE_TYPE_SHIFT in streams.PAGE_TYPES_WITH_DATA
    return streams.PAGE_SIZE if has_data else 0


def is_ordinary(words: bytes, count: int, length: int) -> bool:
    """Whether a PAGE_DATA record of `length` bytes with these words is like almost all of them:
    one valid type, no reserved bit, pfns of `X86_PFN_BITS`, the right length. A few slices
    show this, in place of all rules about page data."""
    if count < 1 or len(words) != 8 * count:
        return False
    tops = words[7::8]
    top = tops[0]
    return (
        length == length_of(count, tops)
        and top in _VALID
        and tops.count(top) == count
        and words[6::8].count(0) == count
        and words[5::8].count(0) == count
    )


_VALID = frozenset(kind << 4 for kind in streams.PAGE_TYPES)
_DATALESS = bytes(top for top in range(256) if top >> 4 not in streams.PAGE_TYPES_WITH_DATA)
