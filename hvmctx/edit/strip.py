"""An image without page contents: small enough to send, and still an image.

Every word of a page that has data becomes allocate-only (0xe), so that a restore gives
the guest the same memory, blank. Records of absent pages (0xf) only say nothing that a
restore needs; they go too. All else stays as it is, byte for byte, holes as holes, up to the
end of the image: what follows belongs to something else.
"""

from __future__ import annotations

from hvmctx.abi import streams, x86
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import FormatError, LengthError, UnsupportedError
from hvmctx.files.copying import copy
from hvmctx.files.opening import open_source
from hvmctx.files.source import Source
from hvmctx.image.image import recognise
from hvmctx.image.index import LARGEST_KEPT, cut_off
from hvmctx.image.indexing import not_read, walk
from hvmctx.stream.grammar import END, LEGACY_STREAM
from hvmctx.stream.libxc import PageData
from hvmctx.stream.pages import data_pages, length_of
from hvmctx.stream.reader import CONTEXT, LEGACY, LIBXC, StreamReader, StreamRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from hvmctx.edit.redact import Redactor
    from hvmctx.files.opening import Target
    from hvmctx.limits import Limits
    from hvmctx.stream.reader import Header

__all__ = ["Stripped", "strip"]

_ALLOCATE_ONLY = bytes(
    streams.PAGE_XALLOC << 4 | top & 0xF if top >> 4 in streams.PAGE_TYPES_WITH_DATA else top
    for top in range(256)
)
_ABSENT = bytes(range(streams.PAGE_XTAB << 4, 256))


class Stripped:
    """What a strip did: pages emptied, records and words of absent pages left out. `end` is
    the offset in the input after the image, and `trailing` says whether more follows, which is
    left out too."""

    __slots__ = ("absent_words", "end", "pages", "records", "trailing")

    def __init__(self) -> None:
        self.end = 0
        self.trailing = False
        self.pages = 0
        self.records = 0
        self.absent_words = 0


def strip(
    target: Target,
    out: BinaryIO,
    *,
    layer: str | None = None,
    keep_holes: bool = False,
    redactor: Redactor | None = None,
    limits: Limits | None = None,
) -> Stripped:
    """Write `target` (see `open_image`) without its page contents to `out`, in one pass.

    `keep_holes` keeps the records that hold only absent pages. A `redactor` takes names,
    passwords and the like too, and counts them. Compressed input is not
    compressed again. `limits` are as for `open_image`. Raises FormatError for a damaged or
    legacy image, UsageError for an unknown layer; what has been written is then of no use.
    """
    done = Stripped()
    with open_source(target, limits) as source:
        layer = recognise(source, layer)
        if layer == LEGACY:
            raise UnsupportedError(
                "only images of Xen 4.6 and newer can be stripped", layer=layer, offset=0,
                expected="an xl, libxl or libxc stream; convert a legacy one first",
            )  # fmt: skip
        if layer == CONTEXT:  # which has no pages to begin with
            _copy_context(source, out, done, redactor)
            return done
        reader = StreamReader(layer)
        for item in walk(source, reader):
            if isinstance(item, StreamRecord) and _is_page_data(item):
                _strip_pages(source, item, out, keep_holes, done)
            elif redactor is not None:
                _redact(source, item, out, redactor)
            else:
                out.write(item.raw)
                copy(source, item.end - item.body_offset, out)  # the walk misses what is not
            if not reader.need and reader.state.name != END:
                raise not_read(layer, item, legacy=reader.state.name == LEGACY_STREAM)
        source.raise_trouble()
        done.end, done.trailing = source.position, bool(source.peek(1))
    return done


def _redact(source: Source, item: Header | StreamRecord, out: BinaryIO, redactor: Redactor) -> None:
    """A header or a record without what is private."""
    if item.length > LARGEST_KEPT:
        raise LengthError(
            "too long to be looked through", layer=item.layer, offset=item.offset,
            record=item.name, found=f"{item.length} bytes", expected=f"{LARGEST_KEPT} at most",
        )  # fmt: skip
    size = item.end - item.body_offset
    read = bytes(source.read(size))
    if len(read) < size:
        raise cut_off(item, len(read))
    body = read[: item.length]
    if isinstance(item, StreamRecord):
        kept = redactor.keeps(item)
        body = body if kept else redactor.body_of(item, body)
        head, padding = (
            (item.raw, bytes(size - len(body)))
            if kept
            else streams.record_around(item.layer, item.type, len(body))
        )
        out.write(head + body + padding)
        return
    if body:
        body = redactor.data_of(item, body)
        form = streams.HEADERS[item.layer, item.name]
        fields = {**item.fields, streams.DATA_LENGTHS[item.layer]: len(body)}
        out.write(item.raw[: -form.size] + form.encode(fields))
    else:
        out.write(item.raw)
    out.write(body)


def _copy_context(source: Source, out: BinaryIO, done: Stripped, redactor: Redactor | None) -> None:
    """All up to the END record; all there is where there is none. Raises FormatError for nothing,
    and for what begins with END, as zeros do."""
    limits = source.limits
    data = source.read(limits.input + 1)
    context = HvmContext.from_bytes(data, damaged=True, limits=limits)
    if not data or (context.entries and context.entries[0].typecode == x86.END.typecode):
        raise FormatError(
            "nothing that Xen saves", layer=CONTEXT, offset=0,
            found="an END record" if data else "0 bytes",
            expected="a context, or an image of a guest",
        )  # fmt: skip
    done.end = context.size if context.has_end else len(data)
    done.trailing = done.end < len(data)
    if not done.trailing:
        source.raise_trouble()
        if len(data) > limits.input:
            raise limits.over("input", "bytes", layer=CONTEXT, offset=limits.input)
    whole = data[: done.end]
    out.write(whole if redactor is None else redactor.context(bytes(whole)))


def _is_page_data(record: StreamRecord) -> bool:
    return record.layer == LIBXC and record.type == streams.LIBXC_PAGE_DATA


def _strip_pages(
    source: Source, record: StreamRecord, out: BinaryIO, keep_holes: bool, done: Stripped
) -> None:
    head = source.read(min(streams.PAGE_DATA_HEAD.size, record.length))
    if len(head) < min(streams.PAGE_DATA_HEAD.size, record.length):
        raise cut_off(record, len(head))
    try:
        count, _ = PageData.parse_head(head)
    except FormatError as error:
        raise error.moved(record.body_offset) from None
    if 8 * count > min(record.length, LARGEST_KEPT):
        raise LengthError(
            "the count is more words than the record can hold", layer=LIBXC, offset=record.offset,
            record=record.name, found=f"count {count}", expected="words within the record",
        )  # fmt: skip
    words = bytearray(source.read(8 * count))
    if len(words) < 8 * count:
        raise cut_off(record, len(head) + len(words))
    tops = bytes(words[7::8])
    expected = length_of(count, tops)
    if record.length != expected:
        raise LengthError(
            "length, count and page types do not match", layer=LIBXC, offset=record.offset,
            record=record.name, found=f"length {record.length}", expected=str(expected),
        )  # fmt: skip
    if count and not tops.translate(None, _ABSENT) and not keep_holes:
        done.records += 1
        done.absent_words += count
        return
    done.pages += data_pages(tops)
    words[7::8] = tops.translate(_ALLOCATE_ONLY)
    out.write(streams.RECORD_HEADER.pack(record.type, len(head) + len(words)))
    out.write(head)
    out.write(words)
