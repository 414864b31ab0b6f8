"""Page words in bulk: type << 60 | pfn, little-endian u64s, one for each page of a batch.

Everything here works on whole batches by slices of their bytes; no Python step a page.
Source: docs/specs/libxc-migration-stream.pandoc.
"""

from __future__ import annotations

import struct
from array import array

from hvmctx.abi import streams

HEAD_SIZE = 8
"""Of a PAGE_DATA record's body: u32 count, u32 reserved."""


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
    return HEAD_SIZE + 8 * count


def length_of(count: int, tops: bytes) -> int:
    """Bytes that the body of a PAGE_DATA record of that many words has, given the top byte
    of each word."""
    return pages_start(count) + streams.PAGE_SIZE * data_pages(tops)


def count_types(tops: bytes, counts: list[int]) -> None:
    """Add to `counts`, one place for each of the sixteen page types, the types of the
    words whose top bytes are given. A batch of one type costs one pass over its bytes."""
    while tops:
        top = tops[:1]
        rest = tops.translate(None, top)
        counts[top[0] >> 4] += len(tops) - len(rest)
        tops = rest


def page_size_of(word: int) -> int:
    """Bytes of page data that a word announces: 4096 or 0."""
    has_data = word >> streams.PAGE_TYPE_SHIFT in streams.PAGE_TYPES_WITH_DATA
    return streams.PAGE_SIZE if has_data else 0


def is_plain(words: bytes, count: int, length: int) -> bool:
    """Whether a PAGE_DATA record of `length` bytes with these words is as nearly all are:
    one valid type, no reserved bit, pfns of `X86_PFN_BITS`, the length that goes with them. Some
    slices tell, and stand for every rule that there is about page data."""
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
