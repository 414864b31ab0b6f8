"""Where a stream goes: buffers gathered into one call, never joined into one. Over asyncio
they are joined, as a transport may keep what it cannot send at once."""

from __future__ import annotations

import io
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable
    from socket import socket
    from typing import Protocol

    from hvmctx.buffers import Buffer

    class Writable(Protocol):
        """A binary file, raw or buffered."""

        def write(self, data: Buffer, /) -> int | None: ...


__all__ = ["Nowhere", "Sink", "send"]

_MOST_BUFFERS = 512
"""In one `writev`: a system must take 16 at least, Linux takes 1024."""


class Sink:
    """Writes buffers to a binary file, raw or buffered, or to a socket: all of them or with an
    OSError, however little is taken at a time. `written` counts the bytes that were taken.
    The buffers may be reused as soon as `write` returns."""

    def __init__(self, file: Writable | socket) -> None:
        self._file = file
        self._fd = _descriptor(file)
        self._stopped: BaseException | None = None
        self.written = 0

    def write(self, *buffers: Buffer) -> None:
        """All of all buffers, in order."""
        for first in range(0, len(buffers), _MOST_BUFFERS):
            left = list(buffers[first : first + _MOST_BUFFERS])
            while left:
                if self._stopped is not None:
                    raise self._stopped
                done = self._some(left)
                self.written += done
                left = _unwritten(left, done)

    def stop(self, error: BaseException) -> None:
        """From now on every `write` raises this error; one in another thread does when the
        call of the system that it is in has returned."""
        self._stopped = error

    def _some(self, buffers: list[Buffer]) -> int:
        """Write what is taken at once, and say how much that was."""
        if self._fd is None:
            return _write_some(self._file, buffers[0])
        try:
            return os.writev(self._fd, buffers)
        except BlockingIOError:
            _wait_for_room(self._fd, self._file)
            return 0


def _descriptor(file: Writable | socket) -> int | None:
    """Of a file of the system, or a socket, whose own `write` does nothing but write: not of
    one that compresses or encrypts what comes."""
    if not hasattr(os, "writev"):  # Windows
        return None
    sockets = sys.modules.get("socket")
    kind = type(file)
    if isinstance(file, (io.BufferedWriter, io.BufferedRandom)):
        if type(file.raw) is not io.FileIO or kind.__module__ != "_io":
            return None
        file.flush()
        return file.fileno()
    if isinstance(file, io.FileIO) and kind is io.FileIO:
        return file.fileno()
    if sockets is not None and kind is sockets.socket:
        return file.fileno()  # type: ignore[union-attr]  # a socket, as its type says
    return None


def _write_some(file: Writable | socket, buffer: Buffer) -> int:
    size = len(buffer)
    if not size:
        return 0
    write: Callable[[Buffer], int | None] | None = getattr(file, "write", None)
    done = write(buffer) if write else file.sendall(buffer)  # type: ignore[union-attr]
    if done is None:
        if isinstance(file, io.RawIOBase):
            _wait_for_room(file.fileno(), file)
            return 0
        return size  # a socket of another kind, a file of somebody's own that does not say
    if not done:
        raise OSError(f"nothing is taken of {size} bytes")
    return done


def _wait_for_room(fd: int, file: object) -> None:
    """Raises TimeoutError when a socket's time is over."""
    timeout: float | None = getattr(file, "gettimeout", lambda: None)()
    waiting = select.poll()
    waiting.register(fd, select.POLLOUT)
    if not waiting.poll(timeout * 1000 if timeout else None):
        raise TimeoutError("timed out")


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
        super().__init__(io.BytesIO())

    def write(self, *buffers: Buffer) -> None:
        self.written += sum(map(len, buffers))


async def send(stream: asyncio.StreamWriter, *buffers: Buffer) -> None:
    """All of all buffers, in order, over an asyncio stream: returns when the transport has room
    again. The buffers may be reused then. Raises ConnectionError when the reader has gone."""
    from asyncio import sleep

    await sleep(0)  # even for a fast reader: others get their turn, a cancelled task ends here
    stream.write(b"".join(buffers))
    await stream.drain()
