"""What stands where in an input: headers, records, and how to come at their bodies.

The indexing pass (`indexing`) fills an `Index`; the memory map (`memory_map`) reads it; what
it all means is `Image`'s.
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.errors import FormatError, LengthError, MissingRecordError, TruncatedError
from hvmctx.files.source import Source
from hvmctx.stream.reader import LIBXC, LIBXL, Header, StreamRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.limits import Limits
    from hvmctx.stream.pages import WordCounts

__all__ = [
    "FULL_BATCH", "LARGEST_HEAD", "LARGEST_KEPT", "Index", "IndexedRecord", "Note",
    "cut_off",
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

    def __init__(self, layer: str, number: int, length: int, offset: int) -> None:
        super().__init__(layer, number, length, offset)
        self.count = -1
        self.kept: bytes | memoryview | None = None
        self.odd_padding = b""

    @property
    def words_size(self) -> int:
        """Bytes of the page words of a PAGE_DATA record: of as many as its length has room
        for."""
        return max(0, min(8 * self.count, self.length - streams.PAGE_DATA_HEAD.size & ~7))


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

    `format` is what the input starts with (xl, libxl, libxc, context, legacy);
    `headers` and `records` are in file order, whatever their layer; `problems` are errors;
    where reading had to stop, `stopped` is the one that says so, and `complete` is False;
    `notes` are oddities. `end` is the offset after the last byte that belongs to the image.
    `source` is where bytes are read from. The pass that fills the index leaves here what a pipe
    gives only once: `kept_config`, the xl file's optional data, and `counted_words`, the page
    words by their types (None if they were not counted; `page_words` then does it).
    """

    def __init__(self, source: Source, layer: str) -> None:
        self.source = source
        self.format = layer
        self.headers: list[Header] = []
        self.records: list[IndexedRecord] = []
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
        return [r for r in self.records if r.type == number and r.layer == layer]

    def effective_records(self, layer: str, number: int) -> list[IndexedRecord]:
        """Those of one type that a restore acts on: of a checkpointed stream, what came up to
        its last checkpoint. A secondary only queues the records after the first, and goes on
        from the last whole one however the stream ends (xg_sr_restore.c, 4.7+)."""
        end = self.last_checkpoint(layer)
        return [r for r in self.records_of(layer, number) if end is None or r.offset < end]

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
    def batches(self) -> list[IndexedRecord]:
        """The PAGE_DATA records that a restore acts on, as far as their words are there."""
        return [
            record
            for record in self.effective_records(LIBXC, streams.LIBXC_PAGE_DATA)
            if record.count > 0 and self._has_words(record)
        ]

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
