"""Where a stream goes: buffers gathered into one call, never joined into one."""

from __future__ import annotations

import io
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from hvmctx.buffers import Buffer

__all__ = ["Nowhere", "Sink"]

_MOST_BUFFERS = 512
"""In one `writev`: a system must take 16 at least, Linux takes 1024."""


class Sink:
    """Writes buffers to a binary file, all of them or with an OSError. `written` counts bytes.
    The buffers may be reused as soon as `write` returns."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.written = 0
        try:
            file.flush()
            self._fd: int | None = file.fileno()
        except (OSError, AttributeError, io.UnsupportedOperation):
            self._fd = None

    def write(self, *buffers: Buffer) -> None:
        """All of all buffers, in order."""
        if self._fd is None:
            for buffer in buffers:
                self._file.write(buffer)
                self.written += len(buffer)
            return
        for first in range(0, len(buffers), _MOST_BUFFERS):
            self._all(self._fd, list(buffers[first : first + _MOST_BUFFERS]))

    def _all(self, fd: int, buffers: list[Buffer]) -> None:
        left = sum(map(len, buffers))
        self.written += left
        while left:
            done = os.writev(fd, buffers)
            left -= done
            if left:
                buffers = _unwritten(buffers, done)


def _unwritten(buffers: Iterable[Buffer], done: int) -> list[Buffer]:
    """What is left of buffers of which `done` bytes have been written."""
    left: list[Buffer] = []
    for buffer in buffers:
        if done >= len(buffer):
            done -= len(buffer)
            continue
        left.append(memoryview(buffer)[done:] if done else buffer)
        done = 0
    return left


class Nowhere(Sink):
    """Counts without writing, to plan."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, *buffers: Buffer) -> None:
        self.written += sum(map(len, buffers))
