from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import InputError
from hvmctx.files.copying import copy
from hvmctx.files.opening import open_source
from hvmctx.files.source import CHUNK, BufferSource, FileSource, ObjectSource, PipeSource, Source
from tests.builders.streams import Pipe

DATA = bytes(range(256)) * 10


def file_source(path: Path) -> Source:
    path.write_bytes(DATA)
    return open_source(path)


SOURCES: dict[str, Callable[[Path], Source]] = {
    "buffer": lambda path: open_source(DATA),
    "bytearray": lambda path: open_source(bytearray(DATA)),
    "path": file_source,
    "string": lambda path: open_source(str(file_source(path).name)),
    "object": lambda path: open_source(io.BytesIO(DATA)),
    "pipe": lambda path: open_source(Pipe(DATA, 7)),
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    with SOURCES[request.param](tmp_path / "data") as opened:
        yield opened


def test_reading_and_skipping(source: Source) -> None:
    assert bytes(source.read(10)) == DATA[:10]
    assert source.skip(500) == 500
    assert source.position == 510
    assert bytes(source.read(5)) == DATA[510:515]
    assert source.skip(1 << 60) == len(DATA) - 515
    assert bytes(source.read(1)) == b""
    assert source.position == len(DATA)


def test_copying(source: Source) -> None:
    out = io.BytesIO()
    source.skip(3)
    assert copy(source, 10, out) == 10
    assert source.position == 13
    assert copy(source, 1 << 60, out) == len(DATA) - 13
    assert out.getvalue() == DATA[3:]


def test_claimed_counts_cost_nothing(source: Source) -> None:
    assert bytes(source.read(1 << 50)) == DATA


def test_offsets(source: Source) -> None:
    assert (source.position, source.start, source.compression) == (0, 0, "")
    if source.seekable:
        assert bytes(source.read_at(300, 4)) == DATA[300:304]
        assert bytes(source.read_at(len(DATA) - 2, 100)) == DATA[-2:]
        assert bytes(source.read_at(1 << 40, 5)) == b""
        assert (source.position, source.size) == (0, len(DATA))
    else:
        assert isinstance(source, PipeSource) and source.size is None
        assert source.peek(300) == DATA[:300]
        assert source.read(301) == DATA[:301]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 400)), max_size=20))
def test_pipes_and_buffers_agree(steps: list[tuple[bool, int]]) -> None:
    pipe, buffer = open_source(Pipe(DATA, 7)), open_source(DATA)
    for read, count in steps:
        if read:
            assert bytes(pipe.read(count)) == bytes(buffer.read(count))
        else:
            assert pipe.skip(count) == buffer.skip(count)
        assert pipe.position == buffer.position


def test_buffers_are_not_copied() -> None:
    data = bytearray(DATA)
    source = BufferSource(data)
    assert source.name == "buffer"
    view = source.read(4)
    data[0] = 99
    assert view[0] == 99


def test_named_pipe(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(DATA))
    writer.start()
    with open_source(path) as source:
        assert not source.seekable
        assert source.read(len(DATA) + 1) == DATA
    writer.join()


def test_pipes_have_no_offsets() -> None:
    source = open_source(Pipe(DATA))
    with pytest.raises(InputError, match="cannot be read twice"):
        source.read_at(0, 1)
    with pytest.raises(InputError, match="cannot be read twice"):
        source.whole_size()


def test_descriptors_that_do_not_block() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    pipe = os.fdopen(writing, "wb")
    pipe.write(DATA)
    writer = threading.Timer(0.1, pipe.close)
    writer.start()
    with os.fdopen(reading, "rb", 0) as file, open_source(file) as source:
        assert source.read(1 << 30) == DATA
    writer.join()


class Generous(Pipe):
    def read(self, count: int = -1) -> bytes:
        return super().read(count + 1) if count else b""


def test_objects_that_give_too_much() -> None:
    with pytest.raises(InputError, match="gave 9 bytes, asked for 8"):
        open_source(Generous(DATA))


def test_no_more_is_asked_of_a_pipe_than_is_held() -> None:
    """A count that an input only claims allocates nothing, whatever `read` does with it."""
    asked: list[int] = []

    class Asked(Pipe):
        def read(self, count: int = -1) -> bytes:
            asked.append(count)
            return super().read(count)

    with open_source(Asked(DATA)) as source:
        assert source.read(1 << 50) == DATA
    assert 0 < max(asked) <= CHUNK


def test_a_file_that_gives_less_than_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel does beyond 2 GiB. One that has become shorter gives what there is."""
    whole = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, at: whole(fd, min(count, 100), at))
    with file_source(tmp_path / "data") as source:
        assert source.read_at(3, len(DATA)) == DATA[3:]
        os.truncate(tmp_path / "data", 250)
        assert source.read_at(3, len(DATA)) == DATA[3:250]


def test_what_is_read_ahead_of_a_pipe() -> None:
    """With `at_once`, headers cost no call each; what is given is the same."""
    asked: list[int] = []

    class Asked(Pipe):
        def read(self, count: int = -1) -> bytes:
            asked.append(count)
            return super().read(count)

    source = PipeSource(Asked(DATA), "pipe")
    assert (source.peek(3), source.peek(5), source.read(6)) == (DATA[:3], DATA[:5], DATA[:6])
    assert asked == [3, 2, 1], "no more than is needed"
    asked.clear()
    source = PipeSource(Asked(DATA), "pipe", at_once=100)
    assert (source.peek(3), source.read(8), source.peek(4)) == (DATA[:3], DATA[:8], DATA[8:12])
    assert source.read(92) == DATA[8:100] and asked == [100]
    assert source.read(8) == DATA[100:108] and asked == [100, 100]
    assert source.skip(50) == 50 and source.read(200) == DATA[158:358]
    assert source.skip(1 << 40) == len(DATA) - 358 and source.position == len(DATA)
    assert source.read(1) == source.peek(1) == b"" and source.skip(1) == 0


class Closed(Pipe):
    """Counts how often it is closed."""

    closed_times = 0

    def close(self) -> None:
        self.closed_times += 1


def test_a_source_closes_what_it_owns(tmp_path: Path) -> None:
    file = Closed(DATA)
    with PipeSource(file, "pipe"):
        pass
    assert file.closed_times == 0
    with PipeSource(file, "pipe", owned=file):
        pass
    assert file.closed_times == 1
    for owned in (True, False):
        (tmp_path / "data").write_bytes(DATA)
        fd = os.open(tmp_path / "data", os.O_RDONLY)
        source = FileSource(fd, "data", owned=owned)
        with source:
            assert source.fileno() == fd
        source.close()  # once more does no harm
        assert (source.fileno() == -1) == owned
        if owned:
            with pytest.raises(OSError):
                os.fstat(fd)
        else:
            os.close(fd)


class Failing(io.BytesIO):
    """Raises when it is read, or sought."""

    def __init__(self, error: Exception, *, seeking: bool = False) -> None:
        super().__init__(DATA)
        self._error = error
        self.seeking = seeking
        self.name = "odd"

    def read(self, count: int | None = -1) -> bytes:
        if not self.seeking:
            raise self._error
        return super().read(count)

    def seek(self, at: int, whence: int = 0) -> int:
        if self.seeking and whence == 0:
            raise self._error
        return super().seek(at, whence)


@pytest.mark.parametrize("seeking", [False, True])
@pytest.mark.parametrize(
    ("error", "said"),
    [(OSError(5, "Input/output error"), "Input/output error"), (OSError("plain"), "plain"),
     (ValueError("closed"), "closed"), (EOFError("short"), "short")],
)  # fmt: skip
def test_what_cannot_be_read(error: Exception, said: str, seeking: bool) -> None:
    """An error of the object's own names it."""
    source = ObjectSource(Failing(error, seeking=seeking))
    if seeking and isinstance(error, EOFError):
        return  # seeking does not end
    with pytest.raises(InputError) as caught:
        source.read_at(0, 1)
    assert str(caught.value).startswith("odd: ") and said in str(caught.value)


def test_a_file_from_a_place_on(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(DATA)
    with open(tmp_path / "data", "rb") as file:
        source = FileSource(file.fileno(), "data", start=100, owned=False)
        assert (source.size, source.start, source.whole_size()) == (
            len(DATA) - 100,
            100,
            len(DATA) - 100,
        )
        assert source.read_at(5, 10) == DATA[105:115] and source.read_at(1 << 40, 1) == b""
        assert source.read_at(len(DATA) - 101, 5) == DATA[-1:]
        assert FileSource(file.fileno(), "data", start=1 << 40, owned=False).size == 0
        file.seek(7)
        part = ObjectSource(io.BytesIO(DATA))
        assert part.size == len(DATA) and part.name == "file object"
    with pytest.raises(InputError, match=r"^data: Bad file descriptor"):
        FileSource(1 << 20, "data")
    moved = io.BytesIO(DATA)
    moved.seek(40)
    part = ObjectSource(moved)
    assert part.size == len(DATA) - 40 and part.read_at(2, 3) == DATA[42:45]


def test_a_device_is_as_long_as_one_can_seek() -> None:
    with FileSource(os.open(os.devnull, os.O_RDONLY), "device") as source:
        assert source.size == 0 and source.read_at(0, 1) == b""


def test_a_file_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with file_source(tmp_path / "data") as source:
        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(InputError) as caught:
            source.read(1)
    assert str(caught.value) == f"{tmp_path / 'data'}: Input/output error"


def test_a_source_ends_where_it_did_when_it_was_opened(tmp_path: Path) -> None:
    """Whoever appends to it meanwhile is not listened to."""
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    grown = io.BytesIO(b"12345")
    with open(path, "r+b") as file:
        for source in (FileSource(os.dup(file.fileno()), "file"), ObjectSource(grown)):
            grown.seek(0, io.SEEK_END)
            for one in (grown, file):
                one.seek(0, io.SEEK_END)
                one.write(b"more")
                one.flush()
            assert source.read_at(3, 100) == b"45" and source.read_at(5, 1) == b""


def test_no_more_is_read_than_asked_however_little_comes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Pipe(b"x" * 100, 10)
    source = PipeSource(pipe, "some pipe")
    assert source.name == "some pipe" and Source(3).name == "input"
    assert len(source.read(25)) == 25 and len(pipe.read(100)) == 10, "it stands where we do"
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, at: pread(fd, min(count, 10), at))
    with open_source(path) as file:
        assert len(file.read_at(0, 25)) == 25


def test_without_pread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: the descriptor stays where it was."""
    (tmp_path / "data").write_bytes(bytes(range(100)))
    monkeypatch.delattr(os, "pread")
    with open(tmp_path / "data", "rb", buffering=0) as file:
        file.seek(7)
        source = FileSource(file.fileno(), "data", start=file.tell(), owned=False)
        assert source.read_at(3, 4) == bytes(range(10, 14))
        assert source.read_at(90, 9) == bytes(range(97, 100))
        assert file.tell() == 7
