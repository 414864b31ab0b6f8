from __future__ import annotations

import gzip
import io
import mmap
import struct
from array import array
from pathlib import Path
from typing import Any

import pytest

from hvmctx.errors import InputError
from hvmctx.files.opening import open_seekable, open_source
from hvmctx.files.source import FileSource
from tests.builders.streams import Pipe

DATA = bytes(range(256)) * 10


def test_file_objects_are_read_from_where_they_stand() -> None:
    file = io.BytesIO(b"before" + DATA)
    file.seek(6)
    with open_source(file) as source:
        assert source.size == len(DATA)
        assert bytes(source.read(3)) == DATA[:3]
    assert not file.closed


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/no/such/file", "No such file"),
        ("", "^the name of the input file is empty$"),
        ("/", "Is a directory"),
        ("a\0b", "null"),
        (5, "cannot read from int"),
        (io.StringIO("text"), "opened as text"),
    ],
)
def test_what_cannot_be_opened(target: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        open_source(target)


def test_a_closed_file_object() -> None:
    file = io.BytesIO(DATA)
    file.close()
    with pytest.raises(InputError, match="closed"):
        open_source(file)


class Broken(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        if count == 0:
            return b""
        raise OSError(5, "Input/output error")


def test_a_pipe_that_breaks() -> None:
    with pytest.raises(InputError, match="Input/output error"):
        open_source(Broken())


def test_what_can_be_read_once_is_spooled(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(DATA))
    for target in (Pipe(DATA), path, Pipe(gzip.compress(DATA)), DATA):
        with open_seekable(target) as source:
            assert source.seekable and source.whole_size() == len(DATA)
            assert bytes(source.read_at(5, 1 << 40)) == DATA[5:]


def test_an_open_source_is_taken_as_it_is() -> None:
    file = io.BytesIO(DATA)
    assert open_source(source := open_seekable(file)) is source
    assert bytes(source.read(4)) == DATA[:4]


def test_descriptors_take_offsets(tmp_path: Path) -> None:
    """A file that Python has opened is read by offset, from where it stands, and no more
    of it than is asked for."""
    path = tmp_path / "file"
    path.write_bytes(b"before" + DATA)
    for buffering in (0, -1):
        with open(path, "rb", buffering) as file:
            file.seek(6)
            source = open_source(file)
            assert isinstance(source, FileSource) and source.whole_size() == len(DATA)
            assert bytes(source.read_at(3, 5)) == DATA[3:8] and file.tell() == 6
            source.close()
            assert not file.closed
    with open(path, "w+b") as file:
        file.write(DATA)
        file.seek(100)
        assert open_source(file).read(1 << 40) == DATA[100:]


def test_mapped_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        mapped.seek(7)
        source = open_source(mapped)
        assert source.seekable and source.read(5) == DATA[7:12]
        del source


def test_arrays() -> None:
    assert open_source(array("I", [1, 2])).read(99) == struct.pack("<II", 1, 2)
