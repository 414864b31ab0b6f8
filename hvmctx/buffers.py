"""What counts as bytes in memory, and any buffer as one row of bytes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class AnyBuffer(Protocol):
        """What `memoryview` takes: bytes, an mmap, an array of any shape."""

        def __buffer__(self, flags: int, /) -> memoryview: ...


__all__ = ["Buffer", "flat"]

Buffer = bytes | bytearray | memoryview


def flat(buffer: Buffer) -> Buffer:
    """The buffer as one row of bytes: itself, or a copy of a view of anything else."""
    if isinstance(buffer, memoryview) and not (
        buffer.format == "B" and buffer.ndim == 1 and buffer.c_contiguous
    ):
        return buffer.tobytes()
    return buffer
