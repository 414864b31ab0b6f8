from __future__ import annotations

import io
import struct
import tracemalloc

import pytest

from hvmctx.abi import streams
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import (
    MissingRecordError,
    TruncatedError,
)
from hvmctx.image.image import open_image
from hvmctx.image.index import Index, IndexedRecord, Records
from hvmctx.image.indexing import Watcher
from hvmctx.limits import DEFAULT, Limits
from tests.builders.samples import context_bytes
from tests.builders.streams import (
    CONTEXT,
    SMALL,
    Pipe,
    libxc_head,
    libxc_stream,
    libxl_head,
    page_data,
    record,
    word,
)


class Counting(io.BytesIO):
    """Counts the bytes that are really read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def checkpointed(number: int) -> bytes:
    """What one checkpoint sends: a page, a context whose rip is its number, a parameter."""
    context = HvmContext.from_bytes(context_bytes())
    context.vcpus[0].cpu.rip = number
    return (
        page_data(word(1), fill=number) + record(9, context.to_bytes())
        + record(10, struct.pack("<II2Q", 1, 0, 17, number)) + record(14)
    )  # fmt: skip


def test_pipes_cannot_be_read_twice() -> None:
    with open_image(Pipe(SMALL)) as image:
        with pytest.raises(MissingRecordError, match="can be read only once"):
            _ = image.memory_map
        assert image.page_words.of_type[0] == 1 and image.page_words.of_type[0xF] == 1
        (batch,) = image.records_of("libxc", streams.LIBXC_PAGE_DATA)
        with pytest.raises(MissingRecordError):
            image.body(batch)
    with open_image(SMALL) as image:
        assert image.page_words.of_type[0] == 1 and image.page_words.of_type[0xF] == 1


def test_page_data_is_not_touched() -> None:
    pages = page_data(*(word(n) for n in range(256)))
    file = Counting(libxc_stream(pages, CONTEXT))
    with open_image(file) as image:
        assert image.context.damage is None
        assert file.count < len(context_bytes()) + 512
        assert len(image.memory_map) == 256
        assert file.count < len(context_bytes()) + 256 * 8 + 512


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_checkpoint_that_breaks_off_does_not_count(piped: bool, wrapped: bool) -> None:
    """As in the genuine restore (--remus): the state is that of the last whole one."""
    head = (libxl_head() + record(1) if wrapped else b"") + libxc_head() + record(16)

    def emulator(number: int) -> bytes:
        return record(3, struct.pack("<II", 2, 0) + bytes([number]) * 8) + record(4)

    one, two = (checkpointed(n) + (emulator(n) if wrapped else b"") for n in (1, 2))
    end = record(0) + (record(0) if wrapped else b"")
    for cut in range(8, len(two) - 8, 40):
        data = head + one + two[:cut]
        with open_image(Pipe(data) if piped else data, keep_words=True) as image:
            assert not image.complete
            inner = not wrapped or cut < len(checkpointed(2))
            number = 1 if inner else 2
            assert (image.context.vcpus[0].cpu.rip, image.params) == (number, {17: number})
            if wrapped:
                assert [bytes(e.payload)[0] for e in image.emulators] == [1]
            if not piped:
                found = image.memory_map.lookup(1)
                assert found is not None and data[found[1] or 0] == number
    with open_image(head + one + two + end) as image:
        assert image.complete and image.params == {17: 2}


@pytest.mark.parametrize("piped", [False, True])
def test_a_cut_within_page_words(piped: bool) -> None:
    """What was whole before it still counts, in a file as in a pipe."""
    data = libxc_stream(page_data(word(1), word(2)), page_data(*map(word, range(3, 103))))
    start = data.index(struct.pack("<2Q", word(3), word(4)))
    for cut in (start + 9, start + 799):
        with open_image(Pipe(data[:cut]) if piped else data[:cut], keep_words=True) as image:
            assert sum(image.page_words.of_type) == 2
            assert len(image.memory_map) == 2
    with open_image(Pipe(data[: start + 5000]) if piped else data[: start + 5000]) as image:
        assert sum(image.page_words.of_type) == 102  # the words are there, though not all pages


def test_what_is_kept_of_a_pipe_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """And of what nobody decodes only the start is."""
    monkeypatch.setattr("hvmctx.image.indexing.LARGEST_KEPT", 200_000)
    bodies = [record(0x80000055, bytes(100_000))] + [record(11, bytes(100_000))] * 5
    words = page_data(*(word(n, 0xF) for n in range(50_000)))
    stream = libxc_stream(*bodies, words)
    with open_image(Pipe(stream), keep_words=True, limits=Limits(kept=320_000)) as image:
        assert image.complete
        kept = [len(r.kept or b"") for r in image.records if r.length == 100_000]
        assert kept == [4096, 100_000, 100_000, 100_000, 4096, 4096]
        assert image.page_words.of_type[0xF] == 50_000
        unknown, *_, last = (r for r in image.records if r.length == 100_000)
        with pytest.raises(MissingRecordError, match=r"read only once$"):
            image.body(unknown)
        with pytest.raises(MissingRecordError, match="--limits kept=N keeps more"):
            image.body(last)
    with open_image(Pipe(stream), limits=Limits(kept=310_000)) as image:
        assert "more than 310000 bytes: --limits kept=N" in str(image.stopped)


@pytest.mark.parametrize("piped", [False, True])
def test_a_body_that_is_cut_off_is_called_so(piped: bool) -> None:
    """In a pipe as in a file: it did not go by, it is not there."""
    data = libxc_stream(record(10, struct.pack("<II2Q", 1, 0, 17, 5)))
    cut = data[: data.index(struct.pack("<II2Q", 1, 0, 17, 5)) + 12]
    with (
        open_image(Pipe(cut) if piped else cut) as image,
        pytest.raises(TruncatedError, match="found 12 bytes, expected 24"),
    ):
        _ = image.params


class Collecting(Watcher):
    """Every record as it was read."""

    def __init__(self) -> None:
        self.seen: list[IndexedRecord] = []

    def record(self, index: Index, record: IndexedRecord, whole: bool) -> None:
        self.seen.append(record)


def test_batches_that_are_held_as_rows_come_back_as_they_were() -> None:
    """Among others, of several lengths, with odd padding, too short for a count."""
    one, absent = page_data(word(1)), page_data(word(1, 0xF))
    odd = record(streams.LIBXC_PAGE_DATA, struct.pack("<IIQ", 1, 0, 1) + b"abc", pad=b"x")
    stream = libxc_stream(
        one, one, one, absent, absent, record(streams.LIBXC_VERIFY), one, odd, odd,
        record(streams.LIBXC_PAGE_DATA, bytes(4)), one, one,
    )  # fmt: skip

    def plain(record: IndexedRecord) -> tuple[object, ...]:
        return record, record.count, record.odd_padding, record.name

    watcher = Collecting()
    with open_image(stream, watcher=watcher) as image:
        expected = [plain(record) for record in watcher.seen]
        records = image.records
        assert [plain(record) for record in records] == expected and len(records) == 13
        assert [plain(records[number]) for number in range(-13, 13)] == expected * 2
        assert [plain(record) for record in records[2:-1:3]] == expected[2:-1:3]
        with pytest.raises(IndexError):
            records[13]
        assert [many for _, many in records.rows()] == [3, 2, 1, 1, 1, 1, 1, 2, 1]
        assert repr(records) == "<Records: 13 in 9 rows>"
        assert records[1] == records[1] != records[2] and records[1] is not records[1]
        assert image.records_of("libxc", streams.LIBXC_PAGE_DATA) == [
            record for record in watcher.seen if record.type == streams.LIBXC_PAGE_DATA
        ]
        assert [item.offset for item in image.items()] == sorted(
            [header.offset for header in image.headers] + [record.offset for record in records]
        )
        assert all(image.words(record)[:8] == image.words(records[0]) for record in image.batches
                   if record.length == records[0].length)  # fmt: skip


def test_batches_that_are_all_different_take_little_each() -> None:
    records = Records()
    many, offset = 20_000, 0
    tracemalloc.start()
    try:
        for number in range(many):
            batch = IndexedRecord("libxc", streams.LIBXC_PAGE_DATA, 8 + 8 * number, offset)
            batch.count = number
            records.append(batch)
            offset = batch.end
        assert tracemalloc.get_traced_memory()[1] < 40 * many
    finally:
        tracemalloc.stop()
    assert DEFAULT.batches * 28 < 300_000_000
    assert [record.count for record in records] == list(range(many))
