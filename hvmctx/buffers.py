"""Buffers of any kind as rows of bytes. Floor 1: everybody takes bytes."""

from __future__ import annotations


def flat(buffer: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
    """The buffer as one row of bytes: a copy of a view that is none."""
    if isinstance(buffer, memoryview) and not (
        buffer.format == "B" and buffer.ndim == 1 and buffer.c_contiguous
    ):
        return buffer.tobytes()
    return buffer
