"""The pass that makes an image's index: what a walk gives, what a watcher is told, and notes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import TruncatedError
from hvmctx.files.opening import open_source
from hvmctx.image.image import open_image
from hvmctx.image.index import Index, IndexedRecord, Note
from hvmctx.image.indexing import Watcher, walk
from hvmctx.stream.reader import LIBXC, XL, Header, StreamReader
from tests.builders.samples import context_bytes
from tests.builders.streams import (
    SMALL,
    Pipe,
    libxc_head,
    libxc_stream,
    libxl_head,
    page_data,
    record,
    word,
    xl_head,
)


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("eager", [False, True])
def test_a_walk_over_all_layers(piped: bool, eager: bool) -> None:
    """Whether a body is read while it goes by or not."""
    source = open_source(Pipe(SMALL) if piped else SMALL)
    again = b""
    for item in walk(source, StreamReader(XL)):
        again += bytes(item.raw)
        size = item.end - item.body_offset
        again += bytes(source.read(size)) if eager else SMALL[item.body_offset : item.end]
    assert again == SMALL


@given(st.integers(0, len(SMALL) - 1), st.booleans())
def test_a_walk_ends_where_the_input_does(cut: int, piped: bool) -> None:
    source = open_source(Pipe(SMALL[:cut]) if piped else SMALL[:cut])
    items: list[object] = []
    with pytest.raises(TruncatedError, match="the input ends") as caught:
        items.extend(walk(source, StreamReader(XL)))
    assert caught.value.offset <= cut and caught.value.expected


class Told(Watcher):
    """Writes down what it is told, with what the image can answer at that moment."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.starts: list[bytes] = []

    def header(self, index: Index, header: Header) -> None:
        self.items.append(header.name)

    def record(self, index: Index, record: IndexedRecord, whole: bool) -> None:
        self.items.append(record.name if whole else f"part of {record.name}")
        self.starts.append(bytes(index.start_of(record, 4)) if whole else b"")


@pytest.mark.parametrize("piped", [False, True])
def test_a_watcher_is_told_of_everything_in_turn(piped: bool) -> None:
    data = libxc_stream(page_data(word(3)), record(8, b"tsc " + bytes(20)), record(0x80000055))
    told = Told()
    open_image(Pipe(data) if piped else data, watcher=told).close()
    assert told.items == [
        "image header", "domain header", "PAGE_DATA", "X86_TSC_INFO", "type 0x80000055", "END",
    ]  # fmt: skip
    assert told.starts == [b"\1\0\0\0", b"tsc ", b"", b""]
    told = Told()
    cut = data[: data.index(b"tsc ") + 9]
    open_image(Pipe(cut) if piped else cut, watcher=told).close()
    assert told.items[2:] == ["PAGE_DATA", "part of X86_TSC_INFO"]


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        (libxc_stream(record(0x80000055)), Note.OPTIONAL,
         "libxc: offset 0x28: unknown optional record 0x80000055, which a restore ignores"),
        (libxc_stream(record(9, b"x", pad=b"\2")), Note.PADDING,
         "libxc: offset 0x31: HVM_CONTEXT: padding is not zero: 02020202020202"),
        (libxc_stream() + b"more", Note.TRAILING,
         "libxc: offset 0x30: 4 bytes follow the end of the stream"),
        (xl_head(byteorder=5) + libxl_head() + record(1) + libxc_stream() + record(0),
         Note.BYTE_ORDER, "xl: offset 0x0: byte order mark is 0x5, which xl refuses"),
    ],
)  # fmt: skip
def test_notes(data: bytes, kind: str, text: str) -> None:
    with open_image(data) as image:
        assert [(note.kind, str(note)) for note in image.notes] == [(kind, text)]
        assert image.complete and not image.problems


def test_bytes_behind_a_pipe_are_not_counted() -> None:
    with open_image(Pipe(libxc_stream() + b"more")) as image:
        assert [note.text for note in image.notes] == ["bytes follow the end of the stream"]


@pytest.mark.parametrize(
    ("count", "length", "size"),
    [(-1, 0, 0), (0, 8, 0), (2, 24, 16), (2, 23, 8), (2, 4, 0), (0xFFFFFFFF, 24, 16), (1, 4112, 8)],
)
def test_words_of_a_record(count: int, length: int, size: int) -> None:
    made = IndexedRecord(LIBXC, 1, length, 0)
    made.count = count
    assert made.words_size == size


def test_words_of_a_pipe_are_kept_for_those_who_ask() -> None:
    data = libxc_head() + page_data(word(1), word(2)) + record(9, context_bytes()) + record(0)
    for keep in (False, True):
        with open_image(Pipe(data), keep_words=keep) as image:
            assert (image.records[0].count, image.records[1].count) == (2, -1)
            assert (image.records[0].kept is not None) == keep
            assert image.records[1].kept == context_bytes()
    with open_image(data) as image:
        assert [one.kept for one in image.records] == [None] * 3, "it can be read again"
