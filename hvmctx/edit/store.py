"""`Store`: an image and what has been changed of it, part by part, and the edits that write it.

Nobody but the editor and its places uses it. The image itself stays as it is.
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import MissingRecordError, UsageError
from hvmctx.image.index import IndexedRecord
from hvmctx.stream.reader import CONTEXT, LIBVIRT, LIBXC, XAPI, XL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.edit.json_text import JsonText
    from hvmctx.edit.splice import Edit
    from hvmctx.image.image import Image
    from hvmctx.stream.reader import Header

__all__ = ["Store"]


class _Added(IndexedRecord):
    """A record that is to be inserted at its offset; its body is the store's."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


_DESCRIBED = {
    LIBVIRT: "; what describes the guest here is XML, such as XML.name",
    XAPI: "; what describes the guest here is its Xenops record, such as XENOPS.vm.name",
}


class Store:
    """Records of the streams are those of the image's index, and those that were added."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self._context: HvmContext | bytes | None = None
        """Changed: taken apart, or as it was put. None while it is the image's own."""
        self._unchanged: HvmContext | None = None
        self._bodies: dict[IndexedRecord, bytes] = {}
        self._added: list[_Added] = []
        self._gone: set[IndexedRecord] = set()
        self._headers: dict[int, tuple[Header, dict[str, int]]] = {}
        """By offset."""
        self._config: bytes | None = None
        self._json: JsonText | None = None
        """The configuration as it is now, once it has been taken apart."""
        self._pages: dict[int, bytes] = {}
        """By the offset of the first byte."""
        self._xml: bytes | None = None

    # ------------------------------------------------------------------------- the HVM context

    @property
    def context(self) -> HvmContext:
        """To be changed. Raises MissingRecordError."""
        if self._context is None:
            self._context = self._read_context()
        elif not isinstance(self._context, HvmContext):
            self._context = self._taken_apart(self._context)
        return self._context

    @context.setter
    def context(self, context: HvmContext) -> None:
        self._context = context

    @property
    def changes_context(self) -> bool:
        return self._context is not None

    def look(self) -> HvmContext:
        """To be looked at only: not one that `edits` writes."""
        if self._context is not None:
            return self.context
        if self._unchanged is None:
            self._unchanged = self._read_context()
        return self._unchanged

    def _read_context(self) -> HvmContext:
        image, record = self.image, self.context_record()
        if image.format == CONTEXT or record == image.last(LIBXC, streams.LIBXC_HVM_CONTEXT):
            return image.read_context()
        if record is None:
            raise MissingRecordError("the HVM_CONTEXT record has been removed")
        return self._taken_apart(bytes(image.body(record)))

    def _taken_apart(self, data: bytes) -> HvmContext:
        return HvmContext.from_bytes(data, damaged=True, limits=self.image.limits)

    def whole_context(self) -> bytes:
        """Its bytes."""
        if isinstance(self._context, bytes):
            return self._context
        return self.look().to_bytes()

    def put_context(self, payload: bytes) -> None:
        """Raises MissingRecordError for an image that has no place for it."""
        self._context_edit(payload)
        self._context = payload

    def context_record(self) -> IndexedRecord | None:
        """The record that a restore takes it from; of a bare context none."""
        return self.last(LIBXC, streams.LIBXC_HVM_CONTEXT)

    def _context_edit(self, context: bytes) -> list[Edit]:
        image = self.image
        if image.format == CONTEXT:
            return [(0, image.source.whole_size(), context)]
        record = self.context_record()
        if record is None:
            raise MissingRecordError("the image has no HVM_CONTEXT record")
        if isinstance(record, _Added):
            return []  # `_additions` has it
        if record.end > image.end:
            image.raise_stopped()
        return [record_edit(record, context)]

    # --------------------------------------------------------------------- records of the streams

    def records(self, layer: str, number: int, *, effective: bool = True) -> list[IndexedRecord]:
        """Those of one type, in order, that a restore acts on. Without `effective` all, also
        those that have been removed, so that each keeps its number: see `is_gone`."""
        image = self.image
        added = [one for one in self._added if (one.layer, one.type) == (layer, number)]
        if not effective:
            return [*image.records_of(layer, number), *added]
        found = image.effective_records(layer, number)
        return [*(one for one in found if one not in self._gone), *added]

    def is_gone(self, record: IndexedRecord) -> bool:
        """Whether it has been removed."""
        return record in self._gone

    def last(self, layer: str, number: int) -> IndexedRecord | None:
        found = self.records(layer, number)
        return found[-1] if found else None

    def body(self, record: IndexedRecord) -> bytes | memoryview:
        changed = self._bodies.get(record)
        if changed is not None:
            return changed
        if self._context is not None and record == self.context_record():
            return self.whole_context()
        return self.image.body(record)

    def put_body(self, record: IndexedRecord, body: bytes) -> None:
        if record == self.context_record():
            self.put_context(body)
            return
        if not isinstance(record, _Added):  # it must all be there to be replaced
            self.image.start_of(record, record.length)
        self._bodies[record] = body

    def insert(self, layer: str, number: int, body: bytes) -> None:
        """Add a record where a writer puts it: before the end of the guest's static data what
        belongs to them, else before the end of the stream, or of its last checkpoint. Raises
        MissingRecordError for an image without such a stream."""
        image = self.image
        ends = image.records_of(layer, _END)
        if layer == LIBXC and number in _STATIC:
            ends = image.records_of(LIBXC, streams.LIBXC_STATIC_DATA_END) or ends
        if not ends:
            image.raise_stopped()
            raise MissingRecordError(f"the image has no {layer} stream to add it to")
        checkpoint = image.last_checkpoint(layer)
        at = ends[0].offset if checkpoint is None else min(ends[0].offset, checkpoint)
        record = _Added(layer, number, 0, at)
        self._added.append(record)
        self._bodies[record] = body
        if (layer, number) == (LIBXC, streams.LIBXC_HVM_CONTEXT):
            self._context, self._unchanged = body, None

    def drop(self, record: IndexedRecord) -> None:
        """Remove a record."""
        if record == self.context_record():
            self._context = self._unchanged = None
        self._bodies.pop(record, None)
        if isinstance(record, _Added):
            self._added.remove(record)
        else:
            if record.end > self.image.end:
                self.image.raise_stopped()
            self._gone.add(record)

    # ------------------------------------------------------------- headers, configuration, pages

    def fields_of(self, header: Header) -> dict[str, int]:
        """What a header says."""
        return self._headers.get(header.offset, (header, header.fields))[1]

    def put_header(self, header: Header, fields: dict[str, int]) -> None:
        """Raises FieldError."""
        streams.HEADERS[header.layer, header.name].encode(fields)
        self._headers[header.offset] = header, fields

    def config(self) -> bytes:
        """The configuration as it stands in an xl file."""
        return self.image.config_text if self._config is None else self._config

    def config_or_words(self) -> bytes:
        """The configuration; of another wrapper what it says of its guest, in xl's words. Raises
        MissingRecordError, FormatError."""
        if self.image.format in (LIBVIRT, XAPI):
            words = self.image.config
            if words is not None:
                import json

                return json.dumps(words).encode()
        self.xl_header()
        text = self.config()
        if not text:
            raise MissingRecordError("the image has no configuration")
        return text

    def config_json(self, *, to_change: bool = True) -> JsonText:
        """The same, to be looked into, or, if it is an xl file's, `to_change`. Raises FieldError
        for what is not JSON, and as `config_or_words`."""
        if to_change:
            self.xl_header()
        if self._json is None:
            from hvmctx.edit.json_text import JsonText

            self._json = JsonText(self.config_or_words())
        return self._json

    def put_config(self, text: bytes) -> None:
        """Raises MissingRecordError for an image that has no place for it."""
        header = self.xl_header()
        self.image.config_text  # noqa: B018 - it must be there to be replaced
        self._config, self._json = text, None
        changed = len(text) - len(self.image.config_text)
        length = header.length + changed if header.length else 4 + len(text)
        self.put_header(header, {**self.fields_of(header), "optional_data_len": length})

    def xl_header(self) -> Header:
        """Raises MissingRecordError."""
        header = self.image.header(XL)
        if header is None:
            instead = _DESCRIBED.get(self.image.format, "")
            raise MissingRecordError(
                f"the image has no configuration: only an xl file has one{instead}"
            )
        return header

    def xml(self) -> bytes:
        """A libvirt file's, without its NUL. Raises MissingRecordError."""
        return self.image.xml if self._xml is None else self._xml

    def put_xml(self, text: bytes) -> None:
        """Raises MissingRecordError for an image that has no place for it."""
        self.image.xml_data()
        self._xml = bytes(text).rstrip(b"\0")

    def page_at(self, offset: int) -> bytes:
        """The page there, or what has been put there."""
        put = self._pages.get(offset)
        if put is not None:
            return put
        return bytes(self.image.source.read_at(offset, streams.PAGE_SIZE))

    def put_page(self, offset: int, page: bytes) -> None:
        """The whole page there."""
        self._pages[offset] = page

    # ------------------------------------------------------------------------------------- edits

    def edits(self) -> list[Edit]:
        """What to replace in the image."""
        edits = [
            record_edit(record, body)
            for record, body in self._bodies.items()
            if not isinstance(record, _Added)
        ]
        edits += [(record.offset, record.end, b"") for record in self._gone]
        edits += [(offset, offset + len(page), page) for offset, page in self._pages.items()]
        if self._context is not None:
            edits += self._context_edit(self.whole_context())
        for header, fields in self._headers.values():
            data = streams.HEADERS[header.layer, header.name].encode(fields)
            edits.append((header.body_offset - len(data), header.body_offset, data))
        if self._config is not None:
            edits.append(self._config_edit(self._config))
        if self._xml is not None:
            edits.append(_xml_edit(self.image.headers[0], self._xml))
        return edits + self._additions()

    def _config_edit(self, text: bytes) -> Edit:
        """The length before it, and the text; what follows it stays."""
        header, size = self.xl_header(), len(self.image.config_text)
        start = header.body_offset
        end = start + 4 + size if header.length else start
        return start, end, len(text).to_bytes(4, "little") + text

    def _additions(self) -> list[Edit]:
        """Those at one place together, in the order in which they came."""
        places: dict[int, bytes] = {}
        for record in self._added:
            is_context = record == self.context_record() and self._context is not None
            body = self.whole_context() if is_context else self._bodies[record]
            places[record.offset] = places.get(record.offset, b"") + _whole(record, body)
        return [(offset, offset, data) for offset, data in places.items()]


_STATIC = (
    streams.LIBXC_X86_PV_INFO, streams.LIBXC_X86_CPUID_POLICY, streams.LIBXC_X86_MSR_POLICY,
)  # fmt: skip
_END = 0
"""The type of the record that ends a stream, of libxl and libxc alike."""


def record_edit(record: IndexedRecord, body: bytes) -> Edit:
    """The edit that gives a record of the streams another body: that alone where the length
    stays, else header, body and zero padding. Raises UsageError for one that has none."""
    if len(body) == record.length:
        return record.body_offset, record.body_end, body
    if not record.has_body:
        raise UsageError(f"{record.name}: records of this type have no body")
    return record.offset, record.end, _whole(record, body)


def _whole(record: IndexedRecord, body: bytes) -> bytes:
    head, padding = streams.record_around(record.layer, record.type, len(body))
    return head + body + padding


def _xml_edit(header: Header, text: bytes) -> Edit:
    """The edit that gives a libvirt file another XML, and says how long it is."""
    from hvmctx.stream.libvirt import xml_to_bytes

    data = xml_to_bytes(text)
    fields = streams.LIBVIRT_HEADER.encode({**header.fields, "xml_len": len(data)})
    return header.offset, header.end, streams.LIBVIRT_MAGIC + fields + data
