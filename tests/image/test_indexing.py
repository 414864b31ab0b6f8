"""The pass that makes an image's index: what a walk gives, what a watcher is told, and notes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import LimitError, TruncatedError
from hvmctx.files.opening import open_source
from hvmctx.image.image import open_image
from hvmctx.image.index import LARGEST_HEAD, Index, IndexedRecord, Note
from hvmctx.image.indexing import Watcher, not_read, walk
from hvmctx.limits import Limits
from hvmctx.stream.reader import LIBXC, XL, Header, StreamReader, StreamRecord
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


def test_words_of_a_pipe_are_kept_up_to_a_limit() -> None:
    """What comes later is seen once, by who watches."""
    data = libxc_head() + page_data(word(1), word(2)) * 3 + record(9, context_bytes()) + record(0)
    words = _Words()
    with open_image(
        Pipe(data), keep_words=True, watcher=words, limits=Limits(words=2 * 24)
    ) as image:
        assert [one.kept is None for one in image.records] == [False, False, True, False, False]
    assert words.seen == 3 * [struct.pack("<2Q", word(1), word(2))]


class _Words(Watcher):
    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def record(self, index: Index, record: IndexedRecord, whole: bool) -> None:
        if record.count > 0:
            self.seen.append(index.words(record))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"Xen", "xl: offset 0x0: header: the input ends: found 3 bytes, expected 48"),
        (xl_head() + libxl_head() + b"\1",
         "libxl: offset 0x40: record header: the input ends: found 1 bytes, expected 8"),
        (xl_head() + libxl_head() + record(3, bytes(16))[:20],
         "libxl: offset 0x40: EMULATOR_CONTEXT: the input ends within the body: found 12 bytes, expected 16"),
        (xl_head() + libxl_head() + record(3, bytes(9))[:-2],
         "libxl: offset 0x40: EMULATOR_CONTEXT: the input ends within the padding: found 14 bytes, expected 16"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("piped", [False, True])
def test_where_an_input_ends_in_words(data: bytes, said: str, piped: bool) -> None:
    source = open_source(Pipe(data) if piped else data)
    with pytest.raises(TruncatedError) as caught:
        list(walk(source, StreamReader(XL)))
    assert str(caught.value) == said


@pytest.mark.parametrize("piped", [False, True])
def test_problems_in_words(piped: bool) -> None:
    """What a restore does not take, with which the index goes on."""
    strange = "libxc: offset 0x18: domain header: not a guest that Xen writes: found type {}, page shift {}, expected type 1 (PV) or 2 (HVM), page shift 12"
    for guest, shift, problems in (
        (1, 12, []), (2, 12, []), (3, 12, [strange.format(3, 12)]), (2, 13, [strange.format(2, 13)]),
    ):  # fmt: skip
        data = libxc_head(guest=guest, page_shift=shift) + record(0)
        with open_image(Pipe(data) if piped else data) as image:
            assert [str(problem) for problem in image.problems] == problems
            assert image.complete
    data = libxc_stream(record(0x55, b"abc"))
    with open_image(Pipe(data) if piped else data) as image:
        assert [str(problem) for problem in image.problems] == [
            "libxc: offset 0x28: type 0x55: unknown mandatory record: found 3 bytes, expected a type that a restore knows"
        ]
        assert image.complete
    data = xl_head() + libxl_head() + record(0x80000055) + record(0)
    with open_image(Pipe(data) if piped else data) as image:
        assert len(image.problems) == 1, "libxl has no optional records"


def test_a_legacy_stream_in_words() -> None:
    with open_image(xl_head(flags=1)) as image:
        assert [str(problem) for problem in image.problems] == [
            "legacy: offset 0x30: the xl file holds a legacy stream (Xen 4.5 or older): found no stream v2 header, expected a stream of Xen 4.6 or newer; convert it first"
        ]
        assert not image.complete


def test_the_end_of_an_index() -> None:
    """After the last item; where the item starts that is not whole."""
    whole = libxc_stream(record(8, bytes(24)))
    for data, end in (
        (whole, len(whole)),
        (whole + b"x", len(whole)),
        (whole[:-4], len(whole) - 8),
    ):
        with open_image(data) as image:
            assert image.end == end


@pytest.mark.parametrize(
    ("limit", "data"),
    [
        ("stream_records", libxc_stream(record(8, bytes(24)), page_data(word(1)))),
        ("batches", libxc_stream(*[page_data(*map(word, range(256)))] * 3)),
        ("findings", libxc_stream(*[record(0x80000055)] * 2, record(0x55))),
    ],
)  # fmt: skip
def test_limits_of_what_is_indexed(limit: str, data: bytes) -> None:
    """Three of each are in the data."""
    with open_image(data, limits=Limits(**{limit: 3})) as image:
        assert image.complete
    with pytest.raises(LimitError, match=f"more than 2 [a-z ]+: --limits {limit}=N"):
        open_image(data, limits=Limits(**{limit: 2})).raise_stopped()


def test_the_room_for_what_a_pipe_had() -> None:
    data = libxc_head() + record(9, bytes(5000)) + record(8, bytes(24)) + record(0)
    with open_image(Pipe(data), limits=Limits(kept=5024)) as image:
        assert [len(one.kept or b"") for one in image.records] == [5000, 24, 0]
    with open_image(Pipe(data), limits=Limits(kept=5023)) as image:
        assert not image.complete and "kept" in str(image.problems[-1])
    with open_image(Pipe(libxc_head() + record(9, bytes(5000))), limits=Limits(kept=5000)) as image:
        assert [len(one.kept or b"") for one in image.records] == [5000]
    unknown = libxc_head() + record(0x80000055, bytes(5000)) + record(0)
    with open_image(Pipe(unknown)) as image:
        assert [len(one.kept or b"") for one in image.records] == [LARGEST_HEAD, 0]


def test_what_only_its_own_reader_can_read() -> None:
    item = StreamRecord(LIBXC, 1, 8, 0x100)
    error = not_read(XL, item, legacy=False)
    assert str(error) == (
        "xl: offset 0x110: PAGE_DATA: only its own reader can tell where this ends: found a record "
        "without a length, expected one with a length"
    )
    assert (error.layer, error.offset, error.record) == (XL, 0x110, "PAGE_DATA")


@pytest.mark.parametrize("piped", [False, True])
def test_a_batch_without_a_count_of_its_pages(piped: bool) -> None:
    for data, count in (
        (libxc_stream(record(1, b"\1\0\0")), -1), (libxc_stream(page_data(word(1), word(2))), 2),
    ):  # fmt: skip
        with open_image(Pipe(data) if piped else data) as image:
            assert image.records[0].count == count and image.complete
