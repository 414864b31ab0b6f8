"""The pass over a stream that makes an image's index: headers, records, and what is wrong
or odd about them. Of a seekable input it reads record headers only; of a pipe it keeps the
small bodies and drops page data as they pass.
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.errors import (
    FormatError,
    LimitError,
    TruncatedError,
    UnknownRecordError,
    UnsupportedError,
)
from hvmctx.files.source import CHUNK, Source
from hvmctx.image.index import (
    FULL_BATCH,
    LARGEST_HEAD,
    LARGEST_KEPT,
    Index,
    IndexedRecord,
    Note,
    cut_off,
)
from hvmctx.stream.grammar import END, LEGACY_STREAM
from hvmctx.stream.reader import (
    LEGACY,
    LIBVIRT,
    LIBXC,
    XAPI,
    XL,
    Header,
    StreamReader,
    StreamRecord,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvmctx.stream.pages import WordCounts

__all__ = ["WRAPPERS", "Indexer", "Watcher", "Watchers", "legacy_problem", "not_read", "walk"]


def walk(source: Source, reader: StreamReader) -> Iterator[Header | StreamRecord]:
    """Every header and record of a stream, in order. While one is being looked at, its
    body may be read from `source`; what is left of it is skipped. Raises TruncatedError
    where the input ends, FormatError where it stops being a stream."""
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
            raise cut_off(item, source.position - item.body_offset)


class Watcher:
    """What is shown every header and record while the index is made. At that moment the image
    has the start of the record, its words, and a small body, whatever the input. `whole` is
    False for the record in which the input ends."""

    def header(self, index: Index, header: Header) -> None:
        """A header has been read."""

    def record(self, index: Index, record: IndexedRecord, whole: bool) -> None:
        """A record has been read, or skipped."""


class Watchers(Watcher):
    """Several watchers as one."""

    def __init__(self, watchers: list[Watcher]) -> None:
        self._watchers = watchers

    def header(self, index: Index, header: Header) -> None:
        for watcher in self._watchers:
            watcher.header(index, header)

    def record(self, index: Index, record: IndexedRecord, whole: bool) -> None:
        for watcher in self._watchers:
            watcher.record(index, record, whole)


class Indexer:
    """One pass over a stream that makes the index of an input."""

    def __init__(self, index: Index, keep_words: bool, watcher: Watcher | None) -> None:
        self._index = index
        self._source = index.source
        self._keep_words = keep_words
        self._watcher = watcher
        self._limits = index.limits
        self._room = self._limits.kept
        self._words = self._limits.words
        self._small = self._limits.stream_records
        self._batches = self._limits.batches
        self._current: IndexedRecord | None = None

    def run(self) -> None:
        """Index everything, or up to what stops it."""
        index = self._index
        reader = StreamReader(index.format)
        last: Header | StreamRecord | None = None
        try:
            for item in walk(self._source, reader):
                self._finish(whole=True)
                if isinstance(item, Header):
                    self._header(item)
                else:
                    self._record(item)
                index.end = item.end
                last = item
            self._finish(whole=True)
        except FormatError as error:
            cut = self._current is not None and self._current.offset == error.offset
            self._finish(whole=not cut)
            index.stop(error)
            index.end = error.offset  # where the item that is not whole starts
            return
        if last is not None and reader.state.name != END:
            legacy = reader.state.name == LEGACY_STREAM
            index.stop(not_read(index.format, last, legacy=legacy))
            return
        index.complete = True
        self._trailing()

    def _finish(self, *, whole: bool) -> None:
        """The record before has been read or skipped as far as it goes."""
        record, self._current = self._current, None
        if record is None:
            return
        if self._watcher is not None:
            self._watcher.record(self._index, record, whole)
        if record.count >= 0 and record.kept is not None:
            self._words -= len(record.kept)
            if not self._keep_words or self._words < 0:
                record.kept = None
        self._index.records.append(record)

    def _header(self, header: Header) -> None:
        index = self._index
        index.headers.append(header)
        if header.length and not self._source.seekable:
            index.kept_config = self._source.read(min(header.length, self._limits.config))
        if header.layer == XL and header.fields["byteorder"] != streams.XL_BYTEORDER:
            text = f"byte order mark is {header.fields['byteorder']:#x}, which xl refuses"
            index.notes.append(Note(Note.BYTE_ORDER, XL, header.offset, text))
        if header.name == "domain header":
            known = header.fields["type"] in (streams.GUEST_X86_PV, streams.GUEST_X86_HVM)
            if not known or header.fields["page_shift"] != streams.PAGE_SHIFT:
                index.problems.append(
                    UnsupportedError(
                        "not a guest that Xen writes", layer=LIBXC, offset=header.offset,
                        record=header.name,
                        found=f"type {header.fields['type']}, "
                              f"page shift {header.fields['page_shift']}",
                        expected="type 1 (PV) or 2 (HVM), page shift 12",
                    )
                )  # fmt: skip
        if self._watcher is not None:
            self._watcher.header(index, header)

    def _record(self, item: StreamRecord) -> None:
        source = self._source
        record = IndexedRecord(item.layer, item.type, item.claimed, item.offset)
        self._current = record
        if record.type == streams.LIBXC_PAGE_DATA and record.layer == LIBXC:
            self._page_data(record)
        elif not source.seekable:
            self._keep(record)
        if record.count >= FULL_BATCH:
            self._batches -= 1
            if self._batches < 0:
                raise self._over("batches", "page batches", record)
        else:
            self._small -= 1
            if self._small < 0:
                raise self._over("stream_records", "records", record)
        if not record.known:
            self._unknown(record)
        if record.padding:
            self._padding(record)

    def _over(self, name: str, what: str, record: IndexedRecord) -> LimitError:
        return self._limits.over(name, what, layer=record.layer, offset=record.offset)

    def _keep(self, record: IndexedRecord) -> None:
        """Of a pipe: a body that somebody may decode is kept if there is room, else its start."""
        room = min(LARGEST_KEPT, self._room)
        whole = record.length <= LARGEST_HEAD or (record.length <= room and _is_read(record))
        size = record.length if whole else LARGEST_HEAD
        if size > self._room:
            raise self._over("kept", "bytes", record)
        record.kept = self._source.read(size)
        self._room -= len(record.kept)

    def _page_data(self, record: IndexedRecord) -> None:
        head = self._source.read(min(streams.PAGE_DATA_HEAD.size, record.length))
        if len(head) == streams.PAGE_DATA_HEAD.size:
            record.count = int.from_bytes(head[:4], "little")
            if not self._source.seekable:
                self._words_of_pipe(record, bytes(head))

    def _words_of_pipe(self, record: IndexedRecord, head: bytes) -> None:
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
        if self._index.counted_words is None:
            from hvmctx.stream.pages import WordCounts

            self._index.counted_words = WordCounts()
        return self._index.counted_words

    def _unknown(self, record: IndexedRecord) -> None:
        if record.optional and record.layer == LIBXC:
            text = f"unknown optional record {record.type:#x}, which a restore ignores"
            self._note(Note(Note.OPTIONAL, record.layer, record.offset, text))
            return
        self._room_for(record.offset)
        self._index.problems.append(
            UnknownRecordError(
                "unknown mandatory record", layer=record.layer, offset=record.offset,
                record=record.name, found=f"{record.length} bytes",
                expected="a type that a restore knows",
            )
        )  # fmt: skip

    def _note(self, note: Note) -> None:
        self._room_for(note.offset)
        self._index.notes.append(note)

    def _room_for(self, offset: int) -> None:
        """Raises LimitError for one oddity or problem too many."""
        index = self._index
        if len(index.notes) + len(index.problems) >= self._limits.findings:
            raise self._limits.over("findings", "findings", layer=index.format, offset=offset)

    def _padding(self, record: IndexedRecord) -> None:
        source = self._source
        missing = record.body_end - source.position
        if missing > 0 and source.skip(missing) < missing:
            return  # the walk says so
        padding = bytes(source.read(record.padding))
        if padding.strip(b"\0"):
            record.odd_padding = padding
            text = f"{record.name}: padding is not zero: {padding.hex()}"
            self._note(Note(Note.PADDING, record.layer, record.body_end, text))

    def _trailing(self) -> None:
        source = self._source
        more = source.size - source.position if source.size is not None else len(source.read(1))
        if more > 0:
            count = f"{more} bytes" if source.size is not None else "bytes"
            self._index.notes.append(
                Note(
                    Note.TRAILING,
                    self._index.format,
                    self._index.end,
                    f"{count} follow the end of the stream",
                )
            )


def _is_read(record: IndexedRecord) -> bool:
    """Whether somebody may ask for its body. Only a record that no specification has takes a
    look at the handlers, which a dump does without."""
    if record.known:
        return True
    from hvmctx.image.handlers import is_read

    return is_read(record.layer, record.type)


WRAPPERS = {XL: "xl file", XAPI: "XAPI suspend image", LIBVIRT: "libvirt file"}
"""The layers around the streams, in words."""


def not_read(layer: str, item: Header | StreamRecord, *, legacy: bool) -> UnsupportedError:
    """That what follows the item cannot be read, though the image may go on after it."""
    if legacy:
        text = f"the {WRAPPERS[layer]} holds a legacy stream (Xen 4.5 or older)"
        return legacy_problem(item.end, text)
    return UnsupportedError(
        "only its own reader can tell where this ends", layer=layer, offset=item.end,
        record=item.name, found="a record without a length", expected="one with a length",
    )  # fmt: skip


def legacy_problem(offset: int, problem: str) -> UnsupportedError:
    """That there is a legacy stream at `offset`, where a newer one is needed."""
    return UnsupportedError(
        problem, layer=LEGACY, offset=offset, found="no stream v2 header",
        expected="a stream of Xen 4.6 or newer; convert it first",
    )  # fmt: skip
