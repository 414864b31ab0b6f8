"""Which format an input is, from its first bytes."""

from __future__ import annotations

import struct

from hvmctx.abi import streams, x86
from hvmctx.abi.registry import largest_typecode
from hvmctx.stream.reader import CONTEXT, LEGACY, LIBVIRT, LIBXC, LIBXL, XAPI, XL

__all__ = ["ENOUGH", "detect", "legacy_width", "other_format"]

ENOUGH = 64
"""As many bytes as `detect` looks at; fewer where the input is shorter."""

_WORDS = {
    XL: streams.XL_MAGIC[:16], XAPI: streams.XAPI_MAGIC, LIBVIRT: streams.LIBVIRT_MAGIC[:11],
}  # fmt: skip
_LIBXC_ID = streams.LIBXC_ID.to_bytes(4, "big")
_LARGEST_P2M = 1 << 32
"""Pages of 16 TiB. As a descriptor, more has a length."""
_ABSENT = 0xF0000000
_CHUNK_SIZES = {
    **dict.fromkeys((-3, -4, -8, -10, -11, -14, -15, -16, -17, -19, -20, -21), (12, 0, 0)),
    -1: (0, 0, 0), -9: (0, 0, 0), -7: (20, 0, 0), -2: (12, 64, 8), -18: (4, 1, 1),
}  # fmt: skip
"""Chunk of a legacy stream -> its bytes after the id; and of how many things that its first number
counts it has how many bytes more (`stream.legacy` reads them)."""
_PV_BLOCKS = (b"vcpu", b"extv", b"xcnt")
"""What the extended information of a PV guest starts with."""


def detect(head: bytes) -> str | None:
    """One of `streams.LAYERS`; None for anything else.

    A context has no magic of its own when it does not start with a HEADER record, so
    whatever starts like a descriptor is taken for one, an empty input included.
    """
    for layer, words in _WORDS.items():
        if head.startswith(words):
            return layer
    if head[:8] == streams.LIBXL_IDENT.to_bytes(8, "big"):
        return LIBXL
    if head[:8] == streams.LIBXC_MARKER.to_bytes(8, "big") or head[8:12] == _LIBXC_ID:
        return LIBXC
    if _starts_with_header(head):
        return CONTEXT
    if legacy_width(head):
        return LEGACY
    return CONTEXT if _typecode(head) <= largest_typecode() else None


_OTHERS = {
    b"LibvirtQemudSave": "a save file of QEMU or KVM, by libvirt: there is nothing of Xen's in it",
    b"LibvirtQemudPart": "a save file of QEMU or KVM, by libvirt, that was never finished",
    b"conectix": "a VHD disk: the image is within it; make a raw disk of it first",
    b"vhdxfile": "a VHDX disk: the image is within it; make a raw disk of it first",
    b"QFI\xfb": "a qcow2 disk: the image is within it; make a raw disk of it first",
}


def other_format(head: bytes) -> str:
    """What it is in words, of an input that is none of the layers and yet a known one; else
    nothing."""
    return next((words for magic, words in _OTHERS.items() if head.startswith(magic)), "")


def _typecode(head: bytes) -> int:
    return int.from_bytes(head[:2], "little")


def _starts_with_header(head: bytes) -> bool:
    header = x86.DESCRIPTOR.pack(x86.HEADER.typecode, 0, x86.HEADER.size)
    return head[:8] == header


def legacy_width(head: bytes) -> int:
    """Bytes of a long in a legacy stream (Xen 4.5 and older) that starts like this; 0 for
    what cannot be one. It has no magic: a p2m size, then the mark of a PV guest's extended
    information, or the first chunk. Where the p2m size could be a record's typecode, all that is
    there must be such a stream."""
    for width in (8, 4):
        if len(head) < width + 8:
            continue
        p2m_size = int.from_bytes(head[:width], "little")
        if largest_typecode() < p2m_size < _LARGEST_P2M:
            if _starts_a_stream(head, width, p2m_size):
                return width
        elif 0 < p2m_size < _LARGEST_P2M and _is_tiny_stream(head, width, p2m_size):
            return width
    return 0


def _starts_a_stream(head: bytes, width: int, p2m_size: int) -> bool:
    if head[width : 2 * width] == b"\xff" * width:
        total = int.from_bytes(head[2 * width : 2 * width + 4], "little")
        if 0 < total < 1 << 20:
            return True
    (chunk,) = struct.unpack_from("<i", head, width)
    if chunk in _CHUNK_SIZES:
        return True
    return 0 < chunk <= 1024 and _plausible_batch(head[width + 4 :], chunk, width, p2m_size)


def _is_tiny_stream(head: bytes, width: int, p2m_size: int) -> bool:
    """Of a guest of so few pages that their number is a typecode too."""
    if len(head) < ENOUGH:
        return False  # there is more of any stream
    if head[width : 2 * width] == b"\xff" * width:
        return head[2 * width + 4 : 2 * width + 8] in _PV_BLOCKS
    at = width
    while at + 4 <= len(head):
        (chunk,) = struct.unpack_from("<i", head, at)
        at += 4
        if chunk > 0:
            first = at == width + 4
            least = 2 if first else 1  # a body of one byte may look like a page
            return least <= chunk <= (p2m_size if first else 1024) and _plausible_batch(
                head[at:], chunk, width, p2m_size, ascending=first
            )
        if chunk == 0:  # the tail: three pfns, and the length of the context
            return at > width + 4 and head[at + 24 : at + 28] != bytes(4)
        if chunk not in _CHUNK_SIZES:
            return False
        size, each, more = _CHUNK_SIZES[chunk]
        if each:
            size += int.from_bytes(head[at : at + 4], "little") // each * more
        at += size
    return True


def _plausible_batch(
    words: bytes, count: int, width: int, p2m_size: int, *, ascending: bool = True
) -> bool:
    """Whether a page batch starts with pfns that the guest has, each after the last. (The
    zeros of a record's body do not.)"""
    last = -1
    for start in range(0, min(len(words) // width, count, 4) * width, width):
        word = int.from_bytes(words[start : start + width], "little")
        if word == _ABSENT:
            continue
        pfn = word & 0x0FFFFFFF
        if word >> 32 or not last < pfn < p2m_size:
            return False
        last = pfn if ascending else last
    return len(words) >= width or not ascending
