"""What counts as bytes in memory, and any buffer as one row of bytes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class AnyBuffer(Protocol):
        """What `memoryview` takes: bytes, an mmap, an array of any shape."""

        def __buffer__(self, flags: int, /) -> memoryview: ...


__all__ = ["Buffer", "flat", "utf8"]

Buffer = bytes | bytearray | memoryview


def flat(buffer: Buffer) -> Buffer:
    """The buffer as one row of bytes: itself, or a copy of a view of anything else."""
    if isinstance(buffer, memoryview) and not (
        buffer.format == "B" and buffer.ndim == 1 and buffer.c_contiguous
    ):
        return buffer.tobytes()
    return buffer


def utf8(text: str) -> bytes:
    """A text that may be out of JSON: surrogates that stand for bytes are these bytes; with others
    in it, which UTF-8 does not have, it gets question marks.

    >>> utf8("\\udc80"), utf8("\\ud800")
    (b'\\x80', b'?')
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
