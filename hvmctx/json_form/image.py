"""The dataclasses-json models of a whole image: lossless.

An image is the list of its headers and records, in file order, and the bytes that follow
the last of them. A record's body is taken apart where that can be undone exactly, and hex
where not; page contents are hex too, so strip an image first that has many.

After an edit `length`, `name`, `padding` and, in the header of an xl or libvirt file,
`optional_data_len` or `xml_len` may be left out; `offset` is ignored when read.
"""

from __future__ import annotations

from ctypes import sizeof
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hvmctx.abi import checked, streams
from hvmctx.abi.checked import Disagreement, within
from hvmctx.abi.fields import Layout
from hvmctx.abi.forms import (
    Anything,
    Count,
    Escaped,
    Form,
    Hex,
    Listed,
    Members,
    Number,
    Object,
    OneOf,
    Row,
    Text,
    Words,
)
from hvmctx.abi.streams import LIBVIRT, LIBXC, LIBXL, XAPI, record_name
from hvmctx.errors import FieldError, HvmctxError
from hvmctx.image import handlers
from hvmctx.image.image import Image
from hvmctx.image.index import IndexedRecord
from hvmctx.json_form.context import context_parts, context_to_plain
from hvmctx.json_form.decoded import body_of, plain_of
from hvmctx.json_form.emulator import EmulatorForm
from hvmctx.json_form.models import ContextModel, Many, Model, member, modelled, optional
from hvmctx.stream import body, libvirt, xlfile
from hvmctx.stream.grammar import FIRST
from hvmctx.stream.reader import Header, StreamRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.limits import Limits

__all__ = [
    "CONTEXT_RECORD", "FORMATS", "HeaderModel", "ImageModel", "StreamRecordModel",
    "header_form", "image_parts", "payload_form",
]  # fmt: skip

FORMATS = tuple(FIRST)
CONTEXT_RECORD = (LIBXC, streams.LIBXC_HVM_CONTEXT)
_DATA_LENGTHS = tuple(streams.DATA_LENGTHS.values())
_DEVICE_MODELS = (
    (LIBXL, streams.LIBXL_EMULATOR_CONTEXT), (XAPI, streams.XAPI_QEMU_TRAD),
)  # fmt: skip


def header_form(header: streams.Flat) -> Members:
    """The form of a header's `fields`. Reserved ones may be left out, and the length of what
    follows the header."""
    fields = Layout.of(header.structure).fields
    needed = [field.name for field in fields if not field.is_reserved]
    members: dict[str, Form] = {field.name: Number(field.width) for field in fields}
    needed = [name for name in needed if name not in _DATA_LENGTHS]
    return Members(members, needed, _DATA_LENGTHS)


@lru_cache(maxsize=64)
def payload_form(layer: str, number: int) -> Form | None:
    """The form of a record's `payload`, None for a type whose body is never taken apart."""
    if (layer, number) == CONTEXT_RECORD:
        return ContextModel.FORM
    known = handlers.body_type(layer, number)
    if known is None:
        return None
    members = {name: _part_form(part) for name, part in known.fields.items()}
    if (layer, number) in _DEVICE_MODELS:
        return EmulatorForm(known, members)
    return Members(members, members)


def _part_form(part: Any) -> Form:
    """Of a field of a body's head, or of what follows the head."""
    if isinstance(part, body.Words):
        return Words()
    if isinstance(part, body.Rows):
        return Listed(Row(part.row.structure))
    if isinstance(part, body.Strings):
        return Listed(Listed(Hex(), 2))
    if isinstance(part, body.Chars):
        return Escaped()
    if isinstance(part, body.Rest):
        return Hex()
    return Hex(sizeof(part)) if body.is_bytes(part) else Number(8 * sizeof(part))


@modelled("header")
@dataclass(kw_only=True)
class HeaderModel(Model):
    """A header of an image: its `fields`, and the data that follow that of an xl or libvirt
    file, as the text of a `config` (JSON, XML) where that gives the same bytes back."""

    layer: str = member(Text())
    header: str = member(Text())
    offset: int | None = optional(Count(64))
    fields: dict[str, Any] = member(Object())
    config: str | None = optional(Text())
    data: bytes | None = optional(Hex())

    @classmethod
    def of(cls, image: Image, header: Header) -> HeaderModel:
        made = cls(
            layer=header.layer,
            header=header.name,
            offset=header.offset,
            fields=dict(header.fields),
        )
        if header.length:
            data = bytes(image.source.read_at(header.body_offset, header.length))
            short = len(data) <= image.limits.config
            made.config = _config(header.layer, data) if short else None
            made.data = data if made.config is None else None
        return made

    def to_bytes(self) -> bytes:
        """Raises FieldError for what does not fit."""
        header = streams.HEADERS.get((self.layer, self.header))
        if header is None:
            named = checked.shown(self.header)
            raise FieldError(f"no header {named} in layer {checked.shown(self.layer)}")
        values = header_form(header).read(self.fields, "")
        data, length = self._data(), streams.DATA_LENGTHS.get(self.layer)
        if length is not None:
            checked.agrees(length, values.get(length), len(data), "config or data")
            values[length] = len(data)
        elif self.config is not None or self.data is not None:
            raise FieldError(f"the {self.layer} {self.header} has no config or data")
        magic = streams.MAGICS.get(self.layer, b"")
        return magic + header.encode({**dict.fromkeys(header.names, 0), **values}) + data

    def _data(self) -> bytes:
        if self.config is None:
            return self.data or b""
        if self.data is not None:
            raise FieldError("found both data and config, expected one of them")
        try:
            return _config_data(self.layer, self.config)
        except UnicodeEncodeError as error:
            raise FieldError(f"config: not text: {error.reason}") from None


def _config(layer: str, data: bytes) -> str | None:
    """The text of a configuration, or of a domain's XML, where it alone gives `data` back."""
    try:
        text = data if layer == LIBVIRT else xlfile.config_text(data)
        config = text.decode("utf-8").removesuffix("\0")
    except (HvmctxError, UnicodeDecodeError):
        return None
    return config if _config_data(layer, config) == data else None


def _config_data(layer: str, config: str) -> bytes:
    text = config.encode()
    return libvirt.xml_to_bytes(text) if layer == LIBVIRT else xlfile.config_to_bytes(text)


@modelled("stream_record")
@dataclass(kw_only=True)
class StreamRecordModel(Model):
    """A record of an image: its `payload`, what another package's handler has `decoded`, or the
    bytes of its `body`; `padding` where that is not zero."""

    layer: str = member(OneOf(LIBXL, LIBXC, XAPI))
    type: int = member(Count(64))
    name: str | None = optional(Text())
    offset: int | None = optional(Count(64))
    length: int | None = optional(Count(64))
    payload: dict[str, Any] | None = optional(Object())
    decoded: Any = optional(Anything())
    body: bytes | None = optional(Hex())
    padding: bytes | None = optional(Hex())

    @classmethod
    def of(
        cls,
        image: Image,
        record: IndexedRecord,
        of_context: Callable[[HvmContext], dict[str, Any]] = context_to_plain,
    ) -> StreamRecordModel:
        """`of_context` makes the payload of an HVM_CONTEXT record."""
        body = bytes(image.body(record))
        made = cls(
            layer=record.layer,
            type=record.type,
            name=record.name,
            offset=record.offset,
            length=record.claimed,
        )
        made.payload = _payload(record, body, image.limits, of_context)
        if made.payload is None and payload_form(record.layer, record.type) is None:
            made.decoded = _decoded(record, body)
        if made.payload is None and made.decoded is None and body:
            made.body = body
        padding = bytes(image.source.read_at(record.body_end, record.padding))
        if any(padding):
            made.padding = padding
        return made

    def to_bytes(self) -> bytes:
        """Raises FieldError for what does not fit."""
        if self.name not in (None, record_name(self.layer, self.type), f"type {self.type:#x}"):
            raise Disagreement(
                f"name {checked.shown(self.name)} does not match type {self.type:#x} of "
                f"{self.layer}; leave it out"
            )
        body = self._body()
        if StreamRecord(self.layer, self.type, 0, 0).has_body:
            checked.agrees(
                "length", self.length, len(body), "body" if self.payload is None else "payload"
            )
        elif body:
            raise Disagreement(f"records of type {self.type:#x} have no body; leave it out")
        head, zeros = streams.record_around(self.layer, self.type, self.length or len(body))
        padding = zeros if self.padding is None else self.padding
        if len(padding) != len(zeros):
            room = len(zeros)
            raise Disagreement(
                f"padding of {len(padding)} bytes where there is room for {room}; leave it out"
            )
        return head + body + padding

    def _body(self) -> bytes:
        form = payload_form(self.layer, self.type)
        if self.decoded is not None:
            if self.payload is not None or self.body is not None:
                raise FieldError("found decoded and payload or body, expected one of them")
            if form is not None or self.type in streams.RECORDS[self.layer]:
                raise FieldError(f"records of type {self.type:#x} are not decoded by others")
            return body_of(self.layer, self.type, self.decoded)
        if self.payload is None:
            if form is not None and self.body is None and self.length != 0:
                raise FieldError("found neither payload nor body")
            return self.body or b""
        if self.body is not None:
            raise FieldError("found both payload and body, expected one of them")
        if form is None:
            raise FieldError(f"records of type {self.type:#x} have a body, not a payload")
        return _payload_bytes(self.layer, self.type, self.payload)


def _decoded(record: IndexedRecord, body: bytes) -> Any:
    """What another package's handler makes of a type that hvmctx does not know."""
    if record.known or not body:
        return None
    return plain_of(record.layer, record.type, body)


def _payload(
    record: IndexedRecord,
    body: bytes,
    limits: Limits,
    of_context: Callable[[HvmContext], dict[str, Any]],
) -> dict[str, Any] | None:
    """The payload of a record that gives `body` back, None where there is none."""
    key = record.layer, record.type
    form = payload_form(*key)
    if form is None:
        return None
    if key == CONTEXT_RECORD:
        return of_context(handlers.parse(record, body, limits))
    try:
        plain: dict[str, Any] = form.write(vars(handlers.parse(record, body, limits)))
        return plain if _payload_bytes(*key, plain) == body else None
    except HvmctxError:
        return None


def _payload_bytes(layer: str, number: int, payload: dict[str, Any]) -> bytes:
    if (layer, number) == CONTEXT_RECORD:
        return ContextModel.from_dict(payload).to_context().to_bytes()
    known, form = handlers.body_type(layer, number), payload_form(layer, number)
    assert known is not None and form is not None
    return known.encode(form.read(payload, ""))


class ItemForm(Form):
    """A header where there is one, else a record."""

    def read(self, plain: Any, where: str) -> HeaderModel | StreamRecordModel:
        is_header = isinstance(plain, dict) and plain.get("header") is not None
        model = HeaderModel if is_header else StreamRecordModel
        made: HeaderModel | StreamRecordModel = model.FORM.read(plain, where)
        return made

    def write(self, value: Any) -> Any:
        return value.FORM.write(value)

    def schema(self) -> checked.Plain:
        """Everything else of them is the schema's own: `json_form.schema`."""
        return {"$ref": "#/$defs/item"}


@modelled("image")
@dataclass(kw_only=True)
class ImageModel(Model):
    """A whole image: everything of it, in file order. Its `format` is where it starts."""

    format: str | None = optional(OneOf(*FORMATS))
    items: list[HeaderModel | StreamRecordModel] = member(Many(ItemForm()))
    tail: bytes = member(Hex(), b"")

    @classmethod
    def of(cls, image: Image) -> ImageModel:
        """Raises InputError for one that is not seekable."""
        items = [
            HeaderModel.of(image, item)
            if isinstance(item, Header)
            else StreamRecordModel.of(image, item)
            for item in _whole_items(image)
        ]
        return cls(format=image.format, items=items, tail=bytes(_tail(image)))

    def to_bytes(self) -> bytes:
        """Raises FieldError for what does not fit."""
        data = bytearray()
        expected = self.format
        for at, item in enumerate(self.items):
            expected = expected if at else item.layer
            with within(checked.label(f"items[{at}]", vars(item))):
                data += item.to_bytes()
        if self.format not in (None, expected):
            raise checked.wrong(self.format, "format", str(expected))
        return bytes(data + self.tail)


def image_parts(image: Image) -> dict[str, Any]:
    """What `json_form.text.pieces` takes for an image, each item made when it is its turn."""
    return {
        "format": image.format,
        "items": (_item_parts(image, item) for item in _whole_items(image)),
        "tail": _tail(image),
    }


def _item_parts(image: Image, item: Header | IndexedRecord) -> Any:
    if isinstance(item, Header):
        return HeaderModel.FORM.write(HeaderModel.of(image, item))
    return StreamRecordModel.FORM.write(StreamRecordModel.of(image, item, context_parts))


def _whole_items(image: Image) -> Iterator[Header | IndexedRecord]:
    return (item for item in image.items() if item.end <= image.end)


def _tail(image: Image) -> bytes | memoryview:
    """What follows the last whole item."""
    return image.source.read_at(image.end, image.source.whole_size() - image.end)
