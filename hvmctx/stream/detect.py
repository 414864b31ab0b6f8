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
_LEGACY_CHUNKS = frozenset((-1, -2, -3, -4, -7, -8, -9, -10, -11, -14, -15, -16, -17, -18, -19,
                            -20, -21))  # fmt: skip


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
    information, or the first chunk."""
    for width in (8, 4):
        if len(head) < width + 8:
            continue
        p2m_size = int.from_bytes(head[:width], "little")
        if not largest_typecode() < p2m_size < _LARGEST_P2M:
            continue
        if head[width : 2 * width] == b"\xff" * width:
            (total,) = (
                struct.unpack_from("<I", head, 2 * width) if len(head) >= 2 * width + 4 else (0,)
            )
            if 0 < total < 1 << 20:
                return width
        (chunk,) = struct.unpack_from("<i", head, width)
        if chunk in _LEGACY_CHUNKS:
            return width
        if 0 < chunk <= 1024 and _plausible_batch(head[width + 4 :], chunk, width, p2m_size):
            return width
    return 0


def _plausible_batch(words: bytes, count: int, width: int, p2m_size: int) -> bool:
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
        last = pfn
    return len(words) >= width
