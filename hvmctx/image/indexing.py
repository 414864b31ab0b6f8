"""The pass over a stream that makes an image's index: headers, records, and what is wrong
or odd about them. Of a seekable input it reads record headers only; of a pipe it keeps the
small bodies and drops page data as they pass.
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.errors import FormatError, TruncatedError, UnknownRecordError, UnsupportedError
from hvmctx.files.source import CHUNK, Source
from hvmctx.stream.reader import LEGACY, LIBXC, LIBXL, XL, Header, StreamReader, StreamRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvmctx.image.image import Image
    from hvmctx.stream.pages import WordCounts

LARGEST_KEPT = streams.LARGEST_RECORD
"""Bodies beyond this are not read: the most that a libxc reader takes (4.10+)."""
MOST_KEPT = 256 << 20
"""Of all bodies of an input that cannot be read again."""
LARGEST_CONFIG = 16 << 20
"""A configuration is read whole; xl's are kilobytes."""
LARGEST_HEAD = 4096
"""What is kept of a body that is too long to be kept."""


class Note:
    """Something odd that stops no reader."""

    __slots__ = ("kind", "layer", "offset", "text")

    BYTE_ORDER, OPTIONAL, PADDING, BEHIND = "byte order", "optional", "padding", "behind"
    """A mark that xl refuses, an unknown optional record, padding that is not zero, bytes
    behind the end."""

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
    read again; `odd_padding` the bytes behind the body where they are not all zero."""

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
        return max(0, min(8 * self.count, self.length - streams.PAGE_HEAD_SIZE & ~7))


def walk(source: Source, reader: StreamReader) -> Iterator[Header | StreamRecord]:
    """Every header and record of a stream, in order. While one is being looked at, its
    body may be read from `source`; what is left of it is skipped. Raises TruncatedError
    where the input ends, FormatError where it is no stream any more."""
    while reader.need:
        data = source.read(reader.need)
        if len(data) < reader.need:
            raise TruncatedError(
                "the input ends",
                layer=reader.layer,
                offset=reader.offset,
                record=reader.expecting,
                found=f"{len(data)} bytes",
                expected=str(reader.need),
            )
        item = reader.feed(bytes(data))
        yield item
        missing = item.end - source.position
        if missing > 0 and source.skip(missing) < missing:
            raise cut_off(item, max(0, source.position - item.body_offset))


def cut_off(item: Header | StreamRecord, have: int) -> TruncatedError:
    """The input ends behind `have` bytes of the item's body."""
    what = "padding" if have >= item.length else "body"
    return TruncatedError(
        f"the input ends within the {what}",
        layer=item.layer,
        offset=item.offset,
        record=item.name,
        found=f"{have} bytes",
        expected=str(item.end - item.body_offset),
    )


class Watcher:
    """What is told of every header and record while the index is made: at that moment the
    image can answer for the record (its start, its words, a small body), whatever the
    input. `whole` is False for the record that the input ends in."""

    def header(self, image: Image, header: Header) -> None:
        """A header has been read."""

    def record(self, image: Image, record: IndexedRecord, whole: bool) -> None:
        """A record has gone by."""


class Indexer:
    """One pass over a stream that makes the index of an image."""

    def __init__(self, image: Image, keep_words: bool, watcher: Watcher | None) -> None:
        self._image = image
        self._source = image.source
        self._keep_words = keep_words
        self._watcher = watcher
        self._room = MOST_KEPT
        self._going_by: IndexedRecord | None = None

    def run(self) -> None:
        """Index everything, or up to what stops it."""
        image = self._image
        reader = StreamReader(image.format)
        try:
            for item in walk(self._source, reader):
                self._went_by(whole=True)
                if isinstance(item, Header):
                    self._header(item)
                else:
                    self._record(item)
                image.end = item.end
            self._went_by(whole=True)
        except FormatError as error:
            cut = self._going_by is not None and self._going_by.offset == error.offset
            self._went_by(whole=not cut)
            image.stop(error)
            image.end = error.offset  # where the item that is not whole starts
            return
        if image.format == XL and image.header(LIBXL) is None:
            text = "the xl file holds a legacy stream (Xen 4.5 or older)"
            image.stop(legacy_problem(image.end, text))
            return
        image.complete = True
        self._trailing()

    def _went_by(self, *, whole: bool) -> None:
        """The record before has been read or skipped as far as it goes."""
        record, self._going_by = self._going_by, None
        if record is None:
            return
        if self._watcher is not None:
            self._watcher.record(self._image, record, whole)
        if record.count >= 0 and not self._keep_words:
            record.kept = None

    def _header(self, header: Header) -> None:
        image = self._image
        image.headers.append(header)
        if header.length and not self._source.seekable:
            image._kept_config = self._source.read(min(header.length, LARGEST_CONFIG))
        if header.layer == XL and header.fields["byteorder"] != streams.XL_BYTEORDER:
            text = f"byte order mark is {header.fields['byteorder']:#x}, which xl refuses"
            image.notes.append(Note(Note.BYTE_ORDER, XL, header.offset, text))
        if header.name == "domain header":
            known = header.fields["type"] in (streams.GUEST_X86_PV, streams.GUEST_X86_HVM)
            if not known or header.fields["page_shift"] != streams.PAGE_SHIFT:
                image.problems.append(
                    UnsupportedError(
                        "no guest that any Xen writes", layer=LIBXC, offset=header.offset,
                        record=header.name,
                        found=f"type {header.fields['type']}, "
                              f"page shift {header.fields['page_shift']}",
                        expected="type 1 (PV) or 2 (HVM), page shift 12",
                    )
                )  # fmt: skip
        if self._watcher is not None:
            self._watcher.header(image, header)

    def _record(self, item: StreamRecord) -> None:
        image, source = self._image, self._source
        record = IndexedRecord(item.layer, item.type, item.length, item.offset)
        image.records.append(record)
        self._going_by = record
        if record.type == streams.LIBXC_PAGE_DATA and record.layer == LIBXC:
            self._page_data(record)
        elif not source.seekable:
            room = min(LARGEST_KEPT, self._room)
            record.kept = source.read(record.length if record.length <= room else LARGEST_HEAD)
            self._room -= len(record.kept)
        if not record.known:
            self._unknown(record)
        if record.padding:
            self._padding(record)

    def _page_data(self, record: IndexedRecord) -> None:
        head = self._source.read(min(streams.PAGE_HEAD_SIZE, record.length))
        if len(head) == streams.PAGE_HEAD_SIZE:
            record.count = int.from_bytes(head[:4], "little")
            if not self._source.seekable:
                self._words_go_by(record, bytes(head))

    def _words_go_by(self, record: IndexedRecord, head: bytes) -> None:
        """Of a pipe: the words are counted, and kept where somebody will ask for them."""
        keep = self._keep_words or self._watcher is not None
        keep &= record.words_size <= LARGEST_KEPT
        pieces = [head]
        left = record.words_size
        while left:
            words = bytes(self._source.read(min(left, CHUNK)))
            if len(words) < min(left, CHUNK):
                return  # the walk says so
            self._counts().add(words)
            left -= len(words)
            if keep:
                pieces.append(words)
        if keep:
            record.kept = b"".join(pieces)

    def _counts(self) -> WordCounts:
        if self._image._page_words is None:
            from hvmctx.stream.pages import WordCounts

            self._image._page_words = WordCounts()
        return self._image._page_words

    def _unknown(self, record: IndexedRecord) -> None:
        if record.optional and record.layer == LIBXC:
            text = f"unknown optional record {record.type:#x}, which a restore ignores"
            self._image.notes.append(Note(Note.OPTIONAL, record.layer, record.offset, text))
            return
        self._image.problems.append(
            UnknownRecordError(
                "unknown mandatory record", layer=record.layer, offset=record.offset,
                record=record.name, found=f"{record.length} bytes",
                expected="a type that a restore knows",
            )
        )  # fmt: skip

    def _padding(self, record: IndexedRecord) -> None:
        source = self._source
        missing = record.body_end - source.position
        if missing > 0 and source.skip(missing) < missing:
            return  # the walk says so
        padding = bytes(source.read(record.padding))
        if padding.strip(b"\0"):
            record.odd_padding = padding
            text = f"{record.name}: padding is not zero: {padding.hex()}"
            self._image.notes.append(Note(Note.PADDING, record.layer, record.body_end, text))

    def _trailing(self) -> None:
        source = self._source
        more = source.size - source.position if source.size is not None else len(source.read(1))
        if more > 0:
            count = f"{more} bytes" if source.size is not None else "bytes"
            self._image.notes.append(
                Note(
                    Note.BEHIND,
                    self._image.format,
                    self._image.end,
                    f"{count} follow the end of the stream",
                )
            )


def legacy_problem(offset: int, problem: str) -> UnsupportedError:
    """That there is a legacy stream at `offset`, where a newer one is needed."""
    return UnsupportedError(
        problem, layer=LEGACY, offset=offset, found="no stream v2 header",
        expected="a stream of Xen 4.6 or newer; convert it first",
    )  # fmt: skip
