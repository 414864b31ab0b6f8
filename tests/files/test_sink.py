from __future__ import annotations

import asyncio
import gzip
import io
import os
import random
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from hvmctx.files.sink import Nowhere, Sink, send


def buffers(seed: int, count: int) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(rng.choice((0, 1, 16, 5000))) for _ in range(count)]


@pytest.mark.parametrize("count", [0, 1, 3, 511, 512, 513, 1500])
def test_all_of_it_in_order(tmp_path: Path, count: int) -> None:
    data = buffers(count, count)
    with open(tmp_path / "out", "wb") as file:
        file.write(b"before")
        sink = Sink(file)
        sink.write(*data)
        sink.write(b"x", memoryview(b"y"), bytearray(b"z"))
        assert sink.written == len(b"".join(data)) + 3
    assert (tmp_path / "out").read_bytes() == b"before" + b"".join(data) + b"xyz"
    memory, nowhere = io.BytesIO(), Nowhere()
    for sink in (Sink(memory), nowhere):
        sink.write(*data)
        assert sink.written == len(b"".join(data))
    assert memory.getvalue() == b"".join(data)


def test_what_the_system_takes_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = os.writev

    def little(fd: int, parts: list[bytes]) -> int:
        return genuine(fd, [bytes(parts[0])[:7]]) if parts[0] else genuine(fd, parts)

    monkeypatch.setattr(os, "writev", little)
    data = buffers(1, 9)
    with open(tmp_path / "out", "wb") as file:
        Sink(file).write(*data)
    assert (tmp_path / "out").read_bytes() == b"".join(data)


def test_errors_go_on() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as file, pytest.raises(BrokenPipeError):
        Sink(file).write(b"x" * 10000, b"y")


class Sips(io.RawIOBase):
    """A raw file that takes seven bytes at a time."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += bytes(data)[:7]
        return min(7, len(data))


def test_a_raw_file_that_takes_little() -> None:
    """Of 20 bytes 7 were written, and 20 counted."""
    file = Sips()
    sink = Sink(file)
    sink.write(bytes(range(20)), b"", memoryview(b"xyz"))
    assert (bytes(file.data), sink.written) == (bytes(range(20)) + b"xyz", 23)


def test_files_of_somebodys_own() -> None:
    class Mute:
        """Takes all, and does not say so."""

        parts = b""

        def write(self, data: Any) -> None:
            self.parts += bytes(data)

    class Full:
        def write(self, data: Any) -> int:
            return 0

    mute = Mute()
    sink = Sink(mute)
    sink.write(b"abc", b"def")
    assert (mute.parts, sink.written) == (b"abcdef", 6)
    sink = Sink(Full())
    with pytest.raises(OSError, match="nothing is taken of 3 bytes"):
        sink.write(b"abc")
    assert sink.written == 0


def test_bytes_go_through_what_changes_them(tmp_path: Path) -> None:
    """The descriptor of a gzip file is that of the file below: it was written to directly."""
    data = buffers(3, 20)
    with gzip.open(tmp_path / "out.gz", "wb") as file:
        sink = Sink(file)
        sink.write(*data)
    assert gzip.decompress((tmp_path / "out.gz").read_bytes()) == b"".join(data)
    assert sink.written == len(b"".join(data))

    class Upper(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(bytes(data).upper())

    with Upper(str(tmp_path / "upper"), "wb") as raw:
        Sink(raw).write(b"abc")
    assert (tmp_path / "upper").read_bytes() == b"ABC"


class Reader(threading.Thread):
    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.sock = sock
        self.data = b""
        self.start()

    def run(self) -> None:
        while data := self.sock.recv(3000):
            self.data += data
        self.sock.close()


@pytest.mark.parametrize("how", ["blocking", "timeout", "non-blocking", "raw file", "file"])
def test_sockets(how: str) -> None:
    """A slow reader, so that the system takes a part of what is there."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.settimeout({"timeout": 60, "non-blocking": 0}.get(how))
    reader = Reader(theirs)
    data = [*buffers(4, 30), bytes(range(256)) * 1000]
    with ours:
        if how == "raw file":
            sink = Sink(ours.makefile("wb", buffering=0))
        else:
            sink = Sink(ours.makefile("wb") if how == "file" else ours)
        sink.write(*data)
        if how == "file":
            sink._file.flush()  # type: ignore[union-attr]
        ours.shutdown(socket.SHUT_RDWR)
    reader.join()
    assert reader.data == b"".join(data)
    assert sink.written == len(reader.data)


def test_a_pipe_that_does_not_block() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    data = bytes(range(256)) * 1000
    taken = []

    def read() -> None:
        while part := os.read(reading, 5000):
            taken.append(part)

    thread = threading.Thread(target=read)
    thread.start()
    with os.fdopen(writing, "wb", buffering=0) as file:
        sink = Sink(file)
        sink.write(data)
    thread.join()
    os.close(reading)
    assert b"".join(taken) == data and sink.written == len(data)


def test_a_socket_whose_reader_does_not_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.01)
        sink = Sink(ours)
        with pytest.raises(TimeoutError):
            sink.write(bytes(1 << 24))
        assert 0 < sink.written < 1 << 24


def test_stop() -> None:
    file = io.BytesIO()
    sink = Sink(file)
    sink.write(b"abc")
    sink.stop(ValueError("enough"))
    for _ in range(2):
        with pytest.raises(ValueError, match="enough"):
            sink.write(b"def")
    assert (file.getvalue(), sink.written) == (b"abc", 3)


def test_asyncio() -> None:
    """Buffers may change as soon as `send` has returned, whatever the transport keeps."""

    async def run() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        _, stream = await asyncio.open_connection(sock=ours)
        buffer = bytearray(b"a" * 300_000)

        async def write() -> None:
            for letter in b"abc":
                buffer[:] = bytes((letter,)) * len(buffer)
                await send(stream, buffer, memoryview(b"."))
            stream.close()

        writing = asyncio.create_task(write())
        data = b""
        while part := await asyncio.get_running_loop().sock_recv(theirs, 1 << 16):
            data += part
        await writing
        theirs.close()
        assert data == b".".join(letter * 300_000 for letter in (b"a", b"b", b"c")) + b"."

    asyncio.run(run())
