from __future__ import annotations

import fcntl
import io
import os
import struct
from pathlib import Path

import pytest

from hvmctx.errors import InputError
from hvmctx.files.copying import copy, copy_range
from hvmctx.files.opening import open_source
from hvmctx.files.source import CHUNK


@pytest.fixture(params=["kernel", "by hand"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as the kernel copies, once as on a file system for which it does not."""
    if request.param == "kernel":
        return

    def refuse(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)


@pytest.mark.usefixtures("either_way")
def test_stretches_of_a_file(tmp_path: Path) -> None:
    data = os.urandom(CHUNK) * 3
    (tmp_path / "in").write_bytes(data)
    with open_source(tmp_path / "in") as source, open(tmp_path / "out", "w+b") as out:
        copy_range(source, 0, CHUNK + 5, out)
        out.write(b"other")
        copy_range(source, CHUNK + 6, len(data) + 100, out)
        out.write(b"end")
    expected = data[: CHUNK + 5] + b"other" + data[CHUNK + 6 :] + b"end"
    assert (tmp_path / "out").read_bytes() == expected


def test_to_what_is_no_file() -> None:
    out = io.BytesIO()
    copy_range(open_source(bytes(range(200))), 10, 1 << 50, out)
    assert out.getvalue() == bytes(range(10, 200))


def sparse(path: Path) -> None:
    """64 MiB with something at the start and in the middle."""
    with open(path, "wb") as file:
        file.write(b"head")
        file.seek(32 * CHUNK)
        file.write(b"middle")
        file.truncate(64 * CHUNK)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("more", [b"", b"more"])
def test_holes_stay_holes(more: bytes, tmp_path: Path) -> None:
    sparse(tmp_path / "in")
    with open_source(tmp_path / "in") as source, open(tmp_path / "out", "w+b") as out:
        source.skip(4)
        out.write(b"Head")
        assert copy(source, 1 << 50, out) == 64 * CHUNK - 4
        out.write(more)
    status = os.stat(tmp_path / "out")
    assert (status.st_size, status.st_blocks * 512 < CHUNK) == (64 * CHUNK + len(more), True)
    expected = bytearray((tmp_path / "in").read_bytes())
    expected[:4] = b"Head"
    assert (tmp_path / "out").read_bytes() == expected + more


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("appends", [False, True])
def test_holes_clear_what_is_there_and_append(appends: bool, tmp_path: Path) -> None:
    """In the middle of a file, or at the end of one that appends, zeros are written."""
    sparse(tmp_path / "in")
    before = b"\xff" * (CHUNK + 1)
    (tmp_path / "out").write_bytes(before)
    flags = os.O_RDWR | (os.O_APPEND if appends else 0)
    with (
        open_source(tmp_path / "in") as source,
        os.fdopen(os.open(tmp_path / "out", flags), "r+b") as out,
    ):
        copy_range(source, 4, CHUNK, out)
        out.write(b"more")
    copied = bytes(CHUNK - 4) + b"more"
    expected = before + copied if appends else copied + before[len(copied) :]
    assert (tmp_path / "out").read_bytes() == expected


@pytest.mark.usefixtures("either_way")
def test_from_the_middle_of_a_file(tmp_path: Path) -> None:
    """A source may begin where a file object stands."""
    sparse(tmp_path / "in")
    with open(tmp_path / "in", "rb") as file, open(tmp_path / "out", "w+b") as out:
        file.seek(31 * CHUNK)
        copy_range(open_source(file), 0, 1 << 50, out)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()[31 * CHUNK :]


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("left", [0, 5, 10 * CHUNK])
def test_a_file_that_loses_bytes_meanwhile(left: int, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x" * (20 * CHUNK))
    with open_source(tmp_path / "in") as source, open(tmp_path / "out", "w+b") as out:
        os.truncate(tmp_path / "in", left)
        with pytest.raises(InputError, match="has become shorter"):
            copy_range(source, 0, 20 * CHUNK, out)


class Sharing:
    """A file system that shares blocks, as XFS does: it takes whole blocks only. `asked` are
    the ranges that it shared."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def __call__(self, to: int, request: int, what: bytes) -> int:
        fd, start, length, place = struct.unpack("qQQQ", what)
        block = os.fstat(to).st_blksize
        if request != 0x4020940D or start % block or length % block or place % block:
            raise OSError(22, "Invalid argument")
        self.asked.append((start, start + length))
        os.pwrite(to, os.pread(fd, length, start), place)
        return 0


def test_blocks_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a part of the same length was put into the place of another, all whole blocks
    around it; the rest is copied."""
    data = os.urandom(300_000)
    (tmp_path / "in").write_bytes(data)
    shares = Sharing()
    monkeypatch.setattr(fcntl, "ioctl", shares)
    with open_source(tmp_path / "in") as source, open(tmp_path / "out", "w+b") as out:
        copy_range(source, 0, 100_000, out)
        out.write(b"other")
        copy_range(source, 100_005, len(data), out)
        out.write(b"end")
    assert (tmp_path / "out").read_bytes() == data[:100_000] + b"other" + data[100_005:] + b"end"
    assert shares.asked == [(0, 98_304), (102_400, 299_008)]


@pytest.mark.parametrize("shift", [b"x", b""])
def test_blocks_that_cannot_be_shared(
    shift: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shifted by a byte, nobody asks; on another file system the answer is an error."""
    data = os.urandom(300_000)
    (tmp_path / "in").write_bytes(data)
    asked = []

    def refuse(*_: object) -> int:
        asked.append(1)
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    with open_source(tmp_path / "in") as source, open(tmp_path / "out", "w+b") as out:
        out.write(shift)
        copy_range(source, 0, len(data), out)
    assert (tmp_path / "out").read_bytes() == shift + data
    assert len(asked) == (not shift)
