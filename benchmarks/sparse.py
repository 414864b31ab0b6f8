"""Sparse libxc streams of any size: real headers and page words, holes as page data."""

from __future__ import annotations

import os
import struct
from array import array

from hvmctx.abi import streams

BATCH = 1024


def write_sparse_stream(path: str, gib: int, context: bytes) -> None:
    """A stream of an HVM guest of `gib` GiB in full batches, with `context`."""
    pages = gib << 18
    with open(path, "wb") as file:
        file.write(
            streams.IMAGE_HEADER.encode(
                {
                    "marker": streams.LIBXC_MARKER,
                    "id": streams.LIBXC_ID,
                    "version": 3,
                    "options": 0,
                    "reserved1": 0,
                    "reserved2": 0,
                }
            )
        )
        file.write(
            streams.DOMAIN_HEADER.encode(
                {"type": 2, "page_shift": 12, "reserved": 0, "xen_major": 4, "xen_minor": 17}
            )
        )
        file.write(streams.RECORD_HEADER.pack(streams.LIBXC_STATIC_DATA_END, 0))
        length = 8 + BATCH * (8 + streams.PAGE_SIZE)
        for first in range(0, pages, BATCH):
            file.write(streams.RECORD_HEADER.pack(streams.LIBXC_PAGE_DATA, length))
            file.write(struct.pack("<II", BATCH, 0))
            file.write(array("Q", range(first, first + BATCH)).tobytes())
            file.seek(BATCH * streams.PAGE_SIZE, os.SEEK_CUR)
        file.write(streams.RECORD_HEADER.pack(streams.LIBXC_HVM_CONTEXT, len(context)))
        file.write(context + bytes(-len(context) % 8))
        file.write(streams.RECORD_HEADER.pack(streams.LIBXC_END, 0))
