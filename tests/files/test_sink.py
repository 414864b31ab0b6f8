from __future__ import annotations

import io
import os
import random
from pathlib import Path

import pytest

from hvmctx.files.sink import Nowhere, Sink


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
