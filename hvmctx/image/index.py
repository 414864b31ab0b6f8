"""What stands where in an input: headers, records, and how to come at their bodies.

The indexing pass (`indexing`) fills an `Index`; the memory map (`memory_map`) reads it; what
it all means is `Image`'s.
"""

from __future__ import annotations

import struct

from hvmctx.abi import streams
from hvmctx.errors import FormatError, LengthError, MissingRecordError, TruncatedError
from hvmctx.files.source import Source
from hvmctx.stream.reader import LIBXC, LIBXL, Header, StreamRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import overload

    from hvmctx.limits import Limits
    from hvmctx.stream.pages import WordCounts

__all__ = [
    "FULL_BATCH", "LARGEST_HEAD", "LARGEST_KEPT", "Index", "IndexedRecord", "Note",
    "Records", "cut_off",
]  # fmt: skip

LARGEST_KEPT = streams.LARGEST_RECORD
"""Bodies beyond this are not read: the most that a libxc reader takes (4.10+)."""
LARGEST_HEAD = 4096
"""What is kept of a body that is not kept."""
FULL_BATCH = 256
"""Pages of a batch that does not count as a small record: Xen writes 1024 at once."""


class Note:
    """Something odd that stops no reader."""

    __slots__ = ("kind", "layer", "offset", "text")

    BYTE_ORDER, OPTIONAL, PADDING, TRAILING = "byte order", "optional", "padding", "trailing"
    """A mark that xl refuses, an unknown optional record, padding that is not zero, bytes
    after the end."""

    def __init__(self, kind: str, layer: str, offset: int, text: str) -> None:
        self.kind = kind
        self.layer = layer
        self.offset = offset
        self.text = text

    def __str__(self) -> str:
        return f"{self.layer}: offset {self.offset:#x}: {self.text}"


class IndexedRecord(StreamRecord):
    """A record of an image. `count` is that of a PAGE_DATA record (-1 for any other, and
    where the body is too short to hold one); `kept` its body where the input cannot be
    read again; `odd_padding` the bytes after the body where they are not all zero."""

    __slots__ = ("count", "kept", "odd_padding")

    def __init__(self, layer: str, number: int, claimed: int, offset: int) -> None:
        super().__init__(layer, number, claimed, offset)
        self.count = -1
        self.kept: bytes | memoryview | None = None
        self.odd_padding = b""

    def __eq__(self, other: object) -> bool:
        """Whether the other one is of the same place and says the same: that of a page batch
        is another object each time."""
        return (
            isinstance(other, IndexedRecord)
            and self.offset == other.offset
            and self.layer == other.layer
            and self.raw == other.raw
        )

    def __hash__(self) -> int:
        return hash(self.offset)

    @property
    def words_size(self) -> int:
        """Bytes of the page words of a PAGE_DATA record: of as many as its length has room
        for."""
        return max(0, min(8 * self.count, self.length - streams.PAGE_DATA_HEAD.size & ~7))


_ROW = struct.Struct("<QQII")
"""Of a row: the number of its first record, and offset, length and count of that."""


class Records:
    """The records of an image in file order, as a sequence that grows at its end.

    Page batches, of which a big guest has millions, take no object each: those that follow each
    other with the same length and count are one row. They become an `IndexedRecord` whenever
    somebody asks for them, each time another one.
    """

    __slots__ = ("_last", "_others", "_packed", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._packed = bytearray()
        """The rows. An `array` for each column would do as well, but importing that module
        takes a tenth of a dump's time."""
        self._others: dict[int, IndexedRecord] = {}
        """By row: what is more than a batch in the input."""
        self._last = (-1, 0, 0)
        """Offset, length and count of a batch that would belong to the last row; the offset is
        below zero if none would."""

    def append(self, record: IndexedRecord) -> None:
        """Add one that will not change."""
        number, self._size = self._size, self._size + 1
        offset, length, count = record.offset, record.length, record.count
        if count < 0 or record.kept is not None or record.odd_padding:
            self._others[self._rows] = record
            self._last = -1, 0, 0
            length = 0  # that of a record of XAPI's has 64 bits
        else:
            last, self._last = self._last, (record.end, length, count)
            if last == (offset, length, count):
                return
        self._packed += _ROW.pack(number, offset, length, max(0, count))

    @property
    def _rows(self) -> int:
        return len(self._packed) // _ROW.size

    def __repr__(self) -> str:
        return f"<Records: {self._size} in {self._rows} rows>"

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[IndexedRecord]:
        for record, many in self.rows():
            yield record
            if many > 1:
                length, count, size = record.length, record.count, record.end - record.offset
                for offset in range(record.end, record.offset + many * size, size):
                    yield _batch(offset, length, count)

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, place: int) -> IndexedRecord: ...
        @overload
        def __getitem__(self, place: slice) -> list[IndexedRecord]: ...

    def __getitem__(self, place: int | slice) -> IndexedRecord | list[IndexedRecord]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(self._size))]
        from bisect import bisect_right

        number = range(self._size)[place]
        row = bisect_right(range(self._rows), number, key=self._number) - 1
        first = self._first(row)
        more = number - self._number(row)
        if not more:
            return first
        return _batch(first.offset + more * (first.end - first.offset), first.length, first.count)

    def rows(self) -> Iterator[tuple[IndexedRecord, int]]:
        """Every record that is not like the one before, and how many are: itself, and what
        follows it with the same type, length and count."""
        rows = self._rows
        for row in range(rows):
            end = self._number(row + 1) if row + 1 < rows else self._size
            yield self._first(row), end - self._number(row)

    def of(self, layer: str, number: int) -> Iterator[IndexedRecord]:
        """Those of one type."""
        some: Iterable[IndexedRecord] = self
        if (layer, number) != (LIBXC, streams.LIBXC_PAGE_DATA):
            some = self._others.values()
        return (r for r in some if r.type == number and r.layer == layer)

    def _number(self, row: int) -> int:
        number: int = _ROW.unpack_from(self._packed, row * _ROW.size)[0]
        return number

    def _first(self, row: int) -> IndexedRecord:
        other = self._others.get(row)
        return other or _batch(*_ROW.unpack_from(self._packed, row * _ROW.size)[1:])


def _batch(offset: int, length: int, count: int) -> IndexedRecord:
    record = IndexedRecord(LIBXC, streams.LIBXC_PAGE_DATA, length, offset)
    record.count = count
    return record


def cut_off(item: Header | StreamRecord, have: int) -> TruncatedError:
    """The input ends after `have` bytes of the item's body."""
    what = "padding" if have >= item.length else "body"
    return TruncatedError(
        f"the input ends within the {what}",
        layer=item.layer,
        offset=item.offset,
        record=item.name,
        found=f"{have} bytes",
        expected=str(item.end - item.body_offset),
    )


class Index:
    """Where everything lies.

    `format` is what the input starts with (one of `streams.LAYERS`);
    `headers` and `records` are in file order, whatever their layer; `problems` are errors;
    where reading had to stop, `stopped` is the one that says so, and `complete` is False;
    `notes` are oddities. `end` is the offset after the last byte that belongs to the image.
    `source` is where bytes are read from. The pass that fills the index leaves here what a pipe
    gives only once: `kept_config`, the data after a wrapper's header, and `counted_words`, the
    page words by their types (None if they were not counted; `page_words` then does it).
    """

    def __init__(self, source: Source, layer: str) -> None:
        self.source = source
        self.format = layer
        self.headers: list[Header] = []
        self.records = Records()
        self.problems: list[FormatError] = []
        self.stopped: FormatError | None = None
        self.notes: list[Note] = []
        self.complete = False
        self.end = 0
        self._checkpoints: dict[str, int | None] = {}
        self.kept_config: bytes | memoryview = b""
        self.counted_words: WordCounts | None = None
        self._words_of: tuple[IndexedRecord | None, bytes, bool] = (None, b"", False)

    @property
    def limits(self) -> Limits:
        """How much is taken of the input."""
        return self.source.limits

    def close(self) -> None:
        """Close what was opened. Bodies can no longer be read."""
        self.source.close()

    def stop(self, error: FormatError) -> None:
        """Note that reading cannot go on, and why."""
        self.stopped = error
        self.problems.append(error)

    def raise_stopped(self) -> None:
        """Raise what reading stopped at, where somebody cannot do with a part."""
        if self.stopped is not None:
            raise self.stopped

    @property
    def compression(self) -> str:
        """gzip, xz, zstd, lz4, or nothing."""
        return self.source.compression

    def header(self, layer: str, name: str = "header") -> Header | None:
        """The first header of that name (`header`; libxc has `image header` and
        `domain header`)."""
        for header in self.headers:
            if header.layer == layer and header.name == name:
                return header
        return None

    def records_of(self, layer: str, number: int) -> list[IndexedRecord]:
        """All records of one type, in order."""
        return list(self.records.of(layer, number))

    def effective_records(self, layer: str, number: int) -> list[IndexedRecord]:
        """Those of one type that a restore acts on: of a checkpointed stream, what came up to
        its last checkpoint. A secondary only queues the records after the first, and goes on
        from the last whole one however the stream ends (xg_sr_restore.c, 4.7+)."""
        return list(self._effective(layer, number))

    def _effective(self, layer: str, number: int) -> Iterator[IndexedRecord]:
        end = self.last_checkpoint(layer)
        return (r for r in self.records.of(layer, number) if end is None or r.offset < end)

    def last(self, layer: str, number: int) -> IndexedRecord | None:
        """The last record of one type that a restore acts on: later ones replace earlier."""
        found = self.effective_records(layer, number)
        return found[-1] if found else None

    def last_checkpoint(self, layer: str) -> int | None:
        """Where a stream's last whole checkpoint ends for that layer; None where all its
        records count. libxl takes up again what follows the end of the libxc stream."""
        if layer not in self._checkpoints:
            marks: list[IndexedRecord] = []
            if layer == LIBXC:
                marks = self.records_of(LIBXC, streams.LIBXC_CHECKPOINT)
            elif layer == LIBXL and not self.complete:
                marks = self.records_of(LIBXL, streams.LIBXL_CHECKPOINT_END)
            whole = [mark.offset for mark in marks if mark.end <= self.end]
            self._checkpoints[layer] = whole[-1] if whole else None
        return self._checkpoints[layer]

    @property
    def batches(self) -> Iterator[IndexedRecord]:
        """The PAGE_DATA records that a restore acts on, as far as their words are there: one
        after the other, as a big guest has millions."""
        return (
            record
            for record in self._effective(LIBXC, streams.LIBXC_PAGE_DATA)
            if record.count > 0 and self._has_words(record)
        )

    def data_of(self, header: Header, what: str) -> bytes | memoryview:
        """The data after a wrapper's header; `what` they are is for the message. Raises LimitError
        where they are longer than any configuration."""
        if header.length > self.limits.config:
            raise self.limits.over(
                "config", "bytes", layer=header.layer, offset=header.body_offset, record=what
            )
        return self.kept_config or self.source.read_at(header.body_offset, header.length)

    def items(self) -> Iterator[Header | IndexedRecord]:
        """Headers and records in file order, whatever their layer."""
        from heapq import merge

        both: list[Iterable[Header | IndexedRecord]] = [self.headers, self.records]
        return merge(*both, key=lambda item: item.offset)

    def _has_words(self, record: IndexedRecord) -> bool:
        if record.end <= self.end:
            return True
        if record.kept is not None:
            return len(record.kept) >= streams.PAGE_DATA_HEAD.size + record.words_size
        size = self.source.size
        words_end = record.body_offset + streams.PAGE_DATA_HEAD.size + record.words_size
        return size is not None and words_end <= size

    def body(self, record: IndexedRecord) -> bytes | memoryview:
        """The body of a record. Raises TruncatedError where the input ended before it, and
        MissingRecordError for page data of a pipe, which are not kept."""
        return self._bytes_of(record, record.length)

    def words(self, record: IndexedRecord) -> bytes:
        """The page words of a PAGE_DATA record, 8 bytes each, without its pages. Those of
        the record that was asked for last are at hand."""
        return self._batch(record)[1]

    def ordinary_pages(self, record: IndexedRecord) -> bool:
        """Whether no rule applies to a PAGE_DATA record (see `stream.pages.is_ordinary`)."""
        return self._batch(record)[2]

    def _batch(self, record: IndexedRecord) -> tuple[IndexedRecord | None, bytes, bool]:
        if self._words_of[0] is not record:
            from hvmctx.stream.pages import is_ordinary

            head, words = self._head_and_words(record)
            ordinary = head[4:] == bytes(4) and is_ordinary(words, record.count, record.length)
            self._words_of = record, words, ordinary
        return self._words_of

    def _head_and_words(self, record: IndexedRecord) -> tuple[bytes, bytes]:
        size = streams.PAGE_DATA_HEAD.size
        start = bytes(self._bytes_of(record, size + record.words_size))
        return start[:size], start[size:]

    def start_of(self, record: IndexedRecord, size: int) -> bytes | memoryview:
        """The first `size` bytes of a body, or all of a shorter one."""
        return self._bytes_of(record, min(size, record.length))

    def _bytes_of(self, record: IndexedRecord, size: int) -> bytes | memoryview:
        if record.kept is not None and len(record.kept) >= size:
            return record.kept[:size]
        kept = record.kept
        cut = self.stopped is not None and record.end > self.end
        if cut and kept is not None and len(kept) < record.length and len(kept) != LARGEST_HEAD:
            raise cut_off(record, len(kept))
        if size > LARGEST_KEPT:
            raise LengthError(
                "too long to be read", layer=record.layer, offset=record.offset,
                record=record.name, found=f"{size} bytes", expected=f"{LARGEST_KEPT} at most",
            )  # fmt: skip
        if not self.source.seekable:
            raise MissingRecordError(
                f"{record.name} at {record.offset:#x} was not kept: {self.source.name} can be "
                f"read only once{self._could_be_kept(record)}"
            )
        data = self.source.read_at(record.body_offset, size)
        if len(data) < size:
            raise cut_off(record, len(data))
        return data

    def _could_be_kept(self, record: IndexedRecord) -> str:
        """In a message: what would have kept it."""
        page_data = record.layer == LIBXC and record.type == streams.LIBXC_PAGE_DATA
        return "" if page_data or not record.known else "; --limits kept=N keeps more"

    @property
    def page_words(self) -> WordCounts:
        """The page words by their types; a pfn sent twice counts twice."""
        if self.counted_words is None:
            from hvmctx.stream.pages import WordCounts

            self.counted_words = WordCounts()
            for record in self.batches:
                self.counted_words.add(self._head_and_words(record)[1])
        return self.counted_words
