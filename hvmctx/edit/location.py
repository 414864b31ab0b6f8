"""Where a value lies in the input, and what lies at an offset: `of_path` and `of_offset`.

Offsets are those of the input, of a compressed one those of what is in it. Bytes that are no
value of any path, such as padding or a magic number, are named in words.
"""

from __future__ import annotations

from heapq import merge

from hvmctx.abi import streams, x86
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.fields import Layout
from hvmctx.abi.releases import CPU_COMPAT_SIZE
from hvmctx.context.record import DESCRIPTOR_SIZE
from hvmctx.edit.json_text import JsonText, place_at
from hvmctx.edit.listing import guestinfo_paths, matching, record_names
from hvmctx.edit.paths import step_text, stream_path
from hvmctx.edit.places import GONE_IN_COMPAT, place_of, row_path
from hvmctx.edit.store import Store
from hvmctx.errors import HvmctxError, UsageError
from hvmctx.image import handlers
from hvmctx.stream.pages import pages_start, words_of
from hvmctx.stream.reader import CONTEXT, LIBXC, XL, Header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.context.record import Record
    from hvmctx.image.image import Image
    from hvmctx.image.index import IndexedRecord

    Part = tuple[int, int, list[str], str]
    """Start and size of what lies at an offset, its paths, and what it is in words."""

__all__ = ["Location", "Stretch", "of_offset", "of_path", "stretches"]


class Location:
    """`length` bytes at `offset`: those of the value that `paths` name (of bit fields that share
    their bytes, and of a union, all of them), or what `what` says. They lie in `record` of
    `layer`, which starts at `record_offset`. `byte` is which of them was asked for.

    >>> from hvmctx import open_image
    >>> with open_image("examples/hvm1.save") as image:
    ...     found = of_path(image, "CPU/0.rbx")
    ...     print(found)
    ...     print(of_offset(image, found.offset + 1))
    CPU/0.rbx: offset 0xcd5d, 8 bytes
    offset 0xcd5e: context: CPU/0 at 0xcb4d: CPU/0.rbx, byte 1 of 8
    """

    __slots__ = ("byte", "layer", "length", "offset", "paths", "record", "record_offset", "what")

    def __init__(
        self,
        offset: int,
        length: int,
        paths: list[str],
        what: str = "",
        *,
        layer: str = "",
        record: str = "",
        record_offset: int | None = None,
        byte: int | None = None,
    ) -> None:
        self.offset = offset
        self.length = length
        self.paths = paths
        self.what = what
        self.layer = layer
        self.record = record
        self.record_offset = record_offset
        self.byte = byte

    def __str__(self) -> str:
        names = ", ".join(self.paths) or self.what
        if self.byte is None:
            return f"{names}: offset {self.offset:#x}, {self.length} bytes"
        inside = f"{self.record} at {self.record_offset:#x}: " if self.record else ""
        where = f"offset {self.offset + self.byte:#x}: {self.layer}: {inside}{names}"
        return f"{where}, byte {self.byte} of {self.length}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def as_dict(self) -> dict[str, str | int | list[str] | None]:
        """Every attribute under its own name, for JSON."""
        return {name: getattr(self, name) for name in (
            "offset", "length", "byte", "paths", "what", "layer", "record", "record_offset",
        )}  # fmt: skip


class Stretch:
    """The bytes from `start` to before `end` that are a header, a record of a stream, or a save
    record: `name` and `layer`. `body_end` is where padding begins."""

    __slots__ = ("_at", "body_end", "end", "layer", "name", "start")

    def __init__(
        self, name: str, layer: str, start: int, end: int, body_end: int,
        at: Callable[[int], Location],
    ) -> None:  # fmt: skip
        self.name = name
        self.layer = layer
        self.start = start
        self.end = end
        self.body_end = body_end
        self._at = at

    def __repr__(self) -> str:
        return f"<{self.layer}: {self.name or 'rest'}, {self.start:#x} to {self.end:#x}>"

    def parts(self) -> Iterator[Location]:
        """What its bytes are, one part after the other; bytes that have no names but their
        numbers are one."""
        offset = self.start
        while offset < self.end:
            part = self._at(offset)
            size = part.offset + part.length - offset
            if size == 1 and part.paths and part.paths[0].endswith("]"):
                size = max(1, (self.body_end if offset < self.body_end else self.end) - offset)
                name, _, first = part.paths[0].rpartition("[")
                part.paths = [f"{name}[{first.rstrip(']').partition(':')[0]}:+{size}]"]
            size = min(size, self.end - offset)  # a field of a record that is cut short
            part.offset, part.length, part.byte = offset, size, None
            yield part
            offset += size


def stretches(image: Image) -> Iterator[Stretch]:
    """All of an image but its pages, in the order of the input; each record of the context by
    itself."""
    if image.format == CONTEXT:
        yield from _of_context(image.read_context(), 0)
        return
    context = image.last(LIBXC, streams.LIBXC_HVM_CONTEXT)
    size = image.source.whole_size()
    headers: Iterable[Header | IndexedRecord] = image.headers
    pieces = merge(headers, _without_pages(image), key=lambda one: one.offset)
    for piece in pieces:
        stretch = _stretch(image, piece)
        stretch.end = max(stretch.start, min(stretch.end, size))  # where it is cut off
        stretch.body_end = min(stretch.body_end, stretch.end)
        yield stretch
        if context is not None and piece == context:
            yield from _of_context(image.read_context(), context.body_offset)


def _without_pages(image: Image) -> Iterator[Header | IndexedRecord]:
    for first, many in image.records.rows():
        size = first.end - first.offset
        for number in range(many if first.count < 0 else 0):
            yield _at(first, first.offset + number * size, size)


def _stretch(image: Image, piece: Header | IndexedRecord) -> Stretch:
    start, layer, name = piece.offset, piece.layer, piece.name
    if isinstance(piece, Header):
        config = _config_in(image, piece)
        return Stretch(
            name, layer, start, piece.end, piece.end,
            lambda at: _made(at, layer, name, start, _of_header(piece, at, config)),
        )  # fmt: skip
    end = piece.end
    if piece == image.last(LIBXC, streams.LIBXC_HVM_CONTEXT):
        end = piece.body_offset  # its records are stretches of their own
    return Stretch(
        name, layer, start, end, min(piece.body_end, end), lambda at: _in_record(image, piece, at)
    )


def _of_context(context: HvmContext, base: int) -> Iterator[Stretch]:
    for name, record in record_names(context):
        start = base + (record.offset or 0)
        end = start + DESCRIPTOR_SIZE + len(record.body)

        def at(
            offset: int, name: str = name, record: Record = record, start: int = start
        ) -> Location:
            part = _in_save_record(name, record, offset - start)
            return _made(offset, CONTEXT, name, start, (part[0] + start, *part[1:]))

        yield Stretch(name, CONTEXT, start, end, end, at)
    size = len(context.tail)
    if size:
        start = base + context.size
        yield Stretch(
            "", CONTEXT, start, start + size, start + size,
            lambda at: _in_context(context, at, base),
        )  # fmt: skip


def of_path(image: Image, path: str) -> Location:
    """Where the bytes of a value are, or of all values that a path names: from the first to the
    last of them. Raises UsageError for a path of nothing, and for what is no bytes of the input;
    MissingRecordError for what is not there."""
    store = Store(image)
    try:
        spans = [place_of(store, path).span()]
    except UsageError:
        within = [one for one in matching(store, path) if one != path]
        spans = [place_of(store, one).span() for one in within]
        if not spans:
            raise
    start = min(at for at, _ in spans)
    return Location(start, max(at + size for at, size in spans) - start, [path])


def of_offset(image: Image, offset: int) -> Location:
    """What lies at an offset. Raises UsageError for one beyond the image."""
    if image.format == CONTEXT:
        if 0 <= offset < len(image.context_bytes()):
            return _in_context(image.read_context(), offset, 0)
        raise _beyond(image, offset)
    for header in image.headers:
        if header.offset <= offset < header.end:
            part = _of_header(header, offset, _config_in(image, header))
            return _made(offset, header.layer, header.name, header.offset, part)
    for first, many in image.records.rows():
        size = first.end - first.offset
        if first.offset <= offset < first.offset + many * size:
            return _in_record(image, _at(first, offset, size), offset)
    raise _beyond(image, offset)


def _beyond(image: Image, offset: int) -> UsageError:
    return UsageError(f"{offset:#x} is not within the image, which ends at {image.end:#x}")


def _made(offset: int, layer: str, record: str, record_offset: int, part: Part) -> Location:
    start, size, paths, what = part
    return Location(
        start, size, paths, what, layer=layer, record=record, record_offset=record_offset,
        byte=offset - start,
    )  # fmt: skip


def _at(first: IndexedRecord, offset: int, size: int) -> IndexedRecord:
    """The one of several alike that has that offset."""
    more = (offset - first.offset) // size
    if not more:
        return first
    record = type(first)(first.layer, first.type, first.length, first.offset + more * size)
    record.count = first.count
    return record


def _config_in(image: Image, header: Header) -> tuple[int, JsonText | None]:
    """The length of the configuration in a header, and what it says; 0 where there is none, or it
    is cut off, and None where it is not JSON."""
    if header.layer != XL:
        return 0, None
    size = 0
    try:
        text = image.config_text
        size = len(text)
        return size, JsonText(text)
    except HvmctxError:
        return size, None


def _of_header(header: Header, offset: int, config: tuple[int, JsonText | None]) -> Part:
    form = streams.HEADERS.get((header.layer, header.name))
    start = header.body_offset - (form.size if form else 0)
    if offset < start or form is None:
        return header.offset, start - header.offset, [], "the magic"
    if offset < header.body_offset:
        for name in form.names:
            field = getattr(form.structure, name)
            if start + field.offset <= offset < start + field.offset + field.size:
                path = f"{header.layer}.{header.name.replace(' ', '_')}.{name}"
                return start + field.offset, field.size, [path], ""
    base = header.body_offset
    if header.layer == XL:
        size, text = config
        if base + 4 <= offset < base + 4 + size:
            try:
                if text is None:
                    return base + 4, size, ["config"], ""
                steps, at, end = place_at(text, offset - base - 4)
            except HvmctxError:
                return base + 4, size, ["config"], ""
            path = "config" + "".join(map(step_text, steps))
            if base + 4 + at <= offset < base + 4 + end:
                return base + 4 + at, end - at, [path], ""
            return offset, 1, [], f"before {path}"
        if offset < base + 4:
            return base, 4, [], "the length of the configuration"
    return base, header.length, [], "the data after the header"


def _in_record(image: Image, record: IndexedRecord, offset: int) -> Location:
    context = image.last(LIBXC, streams.LIBXC_HVM_CONTEXT)
    if record == context and record.body_offset <= offset < record.body_end:
        return _in_context(image.read_context(), offset, record.body_offset)
    if offset < record.body_offset:
        part: Part = record.offset, record.body_offset - record.offset, [], "the record's header"
    elif offset >= record.body_end:
        part = record.body_end, record.end - record.body_end, [], "padding"
    elif record.count >= 0:
        part = _in_pages(image, record, offset)
    else:
        part = _in_body(image, record, offset)
    return _made(offset, record.layer, record.name, record.offset, part)


def _in_pages(image: Image, record: IndexedRecord, offset: int) -> Part:
    base, head = record.body_offset, streams.PAGE_DATA_HEAD.size
    words = image.words(record)
    if offset < base + head:
        return base, head, [], "the count"
    if offset < base + head + len(words):
        number = (offset - base - head) // 8
        pfn = words_of(words)[number] & streams.PFN_MASK
        return base + head + 8 * number, 8, [], f"the word of pfn {pfn:#x}"
    number = (offset - base - pages_start(record.count)) // streams.PAGE_SIZE
    held = (
        word & streams.PFN_MASK
        for word in words_of(words)
        if word >> streams.PAGE_TYPE_SHIFT in streams.PAGE_TYPES_WITH_DATA
    )
    start = base + pages_start(record.count) + number * streams.PAGE_SIZE
    for at, pfn in enumerate(held):
        if at == number:
            last = image.memory_map.lookup(pfn)
            paths = [f"pfn[{pfn:#x}]"] if last is not None and last[1] == start else []
            what = "" if paths else f"pfn {pfn:#x}, which is sent again later"
            return start, streams.PAGE_SIZE, paths, what
    return start, record.body_end - start, [], "bytes of no page"


def _in_body(image: Image, record: IndexedRecord, offset: int) -> Part:
    """By row or field where the record's type has such, else by a window of one byte."""
    base, at = record.body_offset, offset - record.body_offset
    kind = handlers.body_type(record.layer, record.type)
    alike = image.records_of(record.layer, record.type)
    name = stream_path(record, alike.index(record))
    if kind is not None and record.name in _TABLES and at >= kind.head.size:
        row = kind.row
        number, inner = divmod(at - kind.head.size, row.size)
        start = kind.head.size + number * row.size
        if start + row.size <= record.length and record == image.last(record.layer, record.type):
            data = bytes(image.body(record))[start : start + row.size]
            for column in row.names:
                field = getattr(row.structure, column)
                if field.offset <= inner < field.offset + field.size:
                    paths = [_TABLES[record.name](row.unpack(data), column)]
                    what = "" if paths[0] else f"the {column} of a row"
                    return base + start + field.offset, field.size, [p for p in paths if p], what
    if kind is not None and at < kind.head.size:
        for column in kind.head.names:
            field = getattr(kind.head.structure, column)
            if field.offset <= at < field.offset + field.size:
                paths = [f"{name}.{column}"] if column in kind.fields else []
                return base + field.offset, field.size, paths, "" if paths else f"the {column}"
    return offset, 1, [f"{name}[{at:#x}:+1]"], ""


def _param(row: tuple[int, ...], column: str) -> str:
    return f"HVM_PARAMS.{streams.param_name(row[0])}" if column == "value" else ""


def _leaf(row: tuple[int, ...], column: str) -> str:
    return "" if column in ("leaf", "subleaf") else f"{row_path('CPUID', row)}.{column}"


def _msr(row: tuple[int, ...], column: str) -> str:
    path = row_path("MSR", row)
    return {"value": path, "flags": f"{path}.flags"}.get(column, "")


_TABLES = {"HVM_PARAMS": _param, "X86_CPUID_POLICY": _leaf, "X86_MSR_POLICY": _msr}


def _in_context(context: HvmContext, offset: int, base: int) -> Location:
    at = offset - base
    for name, record in record_names(context):
        start = record.offset or 0
        end = start + DESCRIPTOR_SIZE + len(record.body)
        if start <= at < end:
            part = _in_save_record(name, record, at - start)
            moved = (part[0] + base + start, *part[1:])
            return _made(offset, CONTEXT, name, base + start, moved)
    start, size = context.size, len(context.tail)
    part = (offset, 1, [f"tail[{at - start:#x}:+1]"], "")
    return (
        _made(offset, CONTEXT, "", base + start, part)
        if size
        else _made(offset, CONTEXT, "", base, (offset, 1, [], "after the context"))
    )


def _in_save_record(name: str, record: Record, at: int) -> Part:
    if at < DESCRIPTOR_SIZE:
        return _of_layout(Layout.of(x86.hvm_save_descriptor), f"{name}.descriptor.", at, 0) or (
            at, 1, [], "the descriptor"
        )  # fmt: skip
    at -= DESCRIPTOR_SIZE
    part = _of_fields(name, record, at) or (at, 1, [f"{name}[{at:#x}:+1]"], "")
    start, size, paths, what = part
    return start + DESCRIPTOR_SIZE, size, paths, what


def _of_fields(name: str, record: Record, at: int) -> Part | None:
    known = record.type
    if known is None:
        return None
    if known.typecode == VMPORT_TYPECODE:
        for start, size, path in _packed(record):
            if start <= at < start + size:
                return start, size, [f"{name}.{path}"], ""
    if at < known.size:
        layout, moved = known.layout, 0
        if record.typecode == x86.CPU.typecode and len(record.body) == CPU_COMPAT_SIZE:
            moved = GONE_IN_COMPAT if at + GONE_IN_COMPAT >= x86.hvm_hw_cpu.tsc.offset else 0
        return _of_layout(layout, f"{name}.", at, moved)
    if known.rest is not None and known.typecode != VMPORT_TYPECODE:
        rest, element = known.rest
        if not hasattr(element, "_fields_"):
            return at, 1, [f"{name}.{rest}[{at - known.size}]"], ""
        layout = Layout.of(element)
        number, inner = divmod(at - known.size, layout.size)
        start = known.size + number * layout.size
        found = _of_layout(layout, f"{name}.{rest}[{number}].", inner, 0)
        if found is not None and start + layout.size <= len(record.body):
            return start + found[0], *found[1:]
    return None


def _of_layout(layout: Layout, prefix: str, at: int, moved: int) -> Part | None:
    """The fields that hold a byte; they are `moved` bytes up in the record that is read."""
    found = [
        slot
        for leaf in layout.leaves()
        if not leaf.alternate and leaf.offset <= at + moved < leaf.offset + leaf.size
        for slot in leaf.slots()
        if slot.offset <= at + moved < slot.offset + slot.size
    ]
    if not found:
        return None
    return found[0].offset - moved, found[0].size, [f"{prefix}{slot.path}" for slot in found], ""


def _packed(record: Record) -> Iterator[tuple[int, int, str]]:
    """Start, size and path of VMPORT's buffers and values."""
    from hvmctx.abi.vmport import used
    from hvmctx.context.vmport import Parts

    body, profile = bytes(record.body), used()
    if len(body) < profile.read_size:
        return
    parts = Parts(body, profile)
    for place, (start, there) in zip(profile.buffers, parts.buffers):
        yield start, there, f"chans[{place.channel}].{place.name}"
    for path, entry in zip(guestinfo_paths(parts), parts.entries):
        yield entry.end - len(entry.value), len(entry.value), path
