"""A source that reads ahead gives what the one below gives, with fewer reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import InputError
from hvmctx.files.access import Access
from hvmctx.files.ahead import AheadSource
from hvmctx.files.opening import open_source
from hvmctx.files.source import CHUNK, BufferSource, PipeSource
from hvmctx.image.image import open_image
from tests.builders.samples import EXAMPLE

DATA = bytes(range(256)) * 4


class Counting(BufferSource):
    """Notes what is read of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[tuple[int, int]] = []

    def read_at(self, offset: int, count: int) -> memoryview:
        self.reads.append((offset, count))
        return super().read_at(offset, count)


@given(
    st.integers(1, 300),
    st.lists(st.tuples(st.integers(0, len(DATA) + 9), st.integers(0, 400)), max_size=40),
)
def test_the_same_bytes(ahead: int, reads: list[tuple[int, int]]) -> None:
    inner = Counting(DATA)
    source = AheadSource(inner, ahead)
    for offset, count in reads:
        assert bytes(source.read_at(offset, count)) == DATA[offset : offset + count]
    assert all(count >= ahead for _, count in inner.reads)
    assert len(inner.reads) <= len(reads)


def test_what_is_at_hand_is_not_read_again() -> None:
    inner = Counting(DATA)
    source = AheadSource(inner, 100)
    assert source.peek(8) == DATA[:8] and source.read(60) == DATA[:60] and source.skip(20) == 20
    assert source.read(20) == DATA[80:100] and inner.reads == [(0, 100)]
    assert source.read(1) == DATA[100:101] and source.read_at(3, 4) == DATA[3:7]
    assert inner.reads == [(0, 100), (100, 100)]


def test_only_the_last_pieces_are_held() -> None:
    inner = Counting(DATA)
    source = AheadSource(inner, 10)
    for offset in (*range(0, 1000, 50), 950, 0):
        source.read_at(offset, 1)
    assert inner.reads[-2:] == [(950, 10), (0, 10)]


def test_long_pieces_are_not_held() -> None:
    inner = Counting(bytes(3 * CHUNK))
    source = AheadSource(inner, 16)
    assert len(source.read_at(0, 2 * CHUNK)) == 2 * CHUNK
    source.read_at(0, 1)
    assert len(inner.reads) == 2


def test_an_image(tmp_path: Path) -> None:
    inner = Counting(EXAMPLE.read_bytes())
    with open_image(AheadSource(inner, 1 << 16)) as image:
        assert image.context.vcpus.ids == [0] and image.params
    assert len(inner.reads) == 1
    path = tmp_path / "image"
    path.write_bytes(b"x")
    path.chmod(0o640)
    with AheadSource(open_source(path), 16) as source:
        assert source.name == str(path) and source.access is not None
        assert source.access.mode == 0o640
        source.access = Access(1, 2, 0o600)
        assert source.access.uid == 1


def test_what_is_read_once() -> None:
    with EXAMPLE.open("rb") as file, pytest.raises(InputError, match="cannot be read twice"):
        AheadSource(PipeSource(file, "pipe"), 16)
