"""Whole images as plain dictionaries, lists, numbers and strings, and back without loss.

An image is the list of its headers and records, in file order, and the bytes that follow
the last of them. A record's body is taken apart where that can be undone exactly, and hex
where not; page contents are hex too, so strip an image first that has many.

The way back is as strict as that of `render.plain`. After an edit `length`, `name`, `padding`
and, in an xl header, `optional_data_len` may be left out; `offset` is only told.
"""

from __future__ import annotations

from array import array

from hvmctx.abi import streams
from hvmctx.errors import FieldError, HvmctxError
from hvmctx.image import handlers
from hvmctx.image.image import Image
from hvmctx.image.index import IndexedRecord
from hvmctx.json_form import checked
from hvmctx.json_form.checked import number, unhex, within
from hvmctx.json_form.context import context_from_plain, context_to_plain
from hvmctx.stream import xlfile
from hvmctx.stream.body import Rows, Strings, Words, is_bytes
from hvmctx.stream.reader import LIBXC, LIBXL, XL, Header, record_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hvmctx.json_form.checked import Plain

FORMATS = (XL, LIBXL, LIBXC)
IMAGE_KEYS = ("format", "items", "tail")
HEADER_KEYS = ("layer", "header", "offset", "fields", "config", "data")
RECORD_KEYS = ("layer", "type", "name", "offset", "length", "payload", "body", "padding")
CONTEXT_RECORD = (LIBXC, streams.LIBXC_HVM_CONTEXT)


def image_to_plain(image: Image) -> Plain:
    """`format`, `items` (headers and records), `tail` (hex). Raises InputError for one that
    is not seekable."""
    whole = [record for record in image.records if record.end <= image.end]
    items: list[Any] = sorted([*image.headers, *whole], key=lambda item: item.offset)
    items = [item for item in items if item.end <= image.end]
    source = image.source
    size = source.whole_size()
    return {
        "format": image.format,
        "items": [
            _header_to_plain(image, item)
            if isinstance(item, Header)
            else _record_to_plain(image, item)
            for item in items
        ],
        "tail": bytes(source.read_at(image.end, size - image.end)).hex(),
    }


def image_from_plain(plain: Plain) -> bytes:
    """The inverse. Raises FieldError for what is no such form."""
    given = checked.members(plain, IMAGE_KEYS)
    checked.complete(given, ["items"])
    items = checked.as_list(given["items"], "items")
    pieces = []
    for at, item in enumerate(items):
        with within(checked.label(f"items[{at}]", item)):
            is_header = checked.as_object(item).get("header") is not None
            pieces.append(_header_bytes(item) if is_header else _record_bytes(item))
    pieces.append(unhex(plain.get("tail", ""), "tail"))
    _check_format(given, items)
    return b"".join(pieces)


def _check_format(given: Plain, items: list[Plain]) -> None:
    """The format is where the image starts."""
    expected = (items[0]["layer"],) if items else FORMATS
    if given.get("format", expected[0]) not in expected:
        raise checked.wrong(given["format"], "format", " or ".join(expected))


def _header_to_plain(image: Image, header: Header) -> Plain:
    plain: Plain = {
        "layer": header.layer,
        "header": header.name,
        "offset": header.offset,
        "fields": dict(header.fields),
    }
    if header.length:
        data = bytes(image.source.read_at(header.body_offset, header.length))
        config = _config(data)
        if config is None:
            plain["data"] = data.hex()
        else:
            plain["config"] = config
    return plain


def _config(data: bytes) -> str | None:
    """The configuration's text, where it alone gives `data` back."""
    try:
        text = xlfile.config_text(data)
        config = text.decode("utf-8").removesuffix("\0")
    except (HvmctxError, UnicodeDecodeError):
        return None
    return config if xlfile.config_to_bytes(config.encode()) == data else None


def _header_bytes(plain: Plain) -> bytes:
    given = checked.members(plain, HEADER_KEYS)
    checked.complete(given, ["layer", "fields"])
    layer, name = (checked.as_text(given[key], key) for key in ("layer", "header"))
    layout = streams.HEADERS.get((layer, name))
    if layout is None:
        raise FieldError(f"no header {checked.shown(name)} in layer {checked.shown(layer)}")
    data = _header_data(given)
    values = checked.members(given["fields"], layout.names)
    if "optional_data_len" in layout.names:
        checked.agrees(values, "optional_data_len", len(data), "config or data")
        values["optional_data_len"] = len(data)
    elif data:
        raise FieldError(f"the {layer} {name} has no config or data")
    checked.complete(values, layout.names)
    values = {key: number(value, key, 64) for key, value in values.items()}
    magic = streams.XL_MAGIC if layer == XL else b""
    return magic + layout.encode(values) + data


def _header_data(given: Plain) -> bytes:
    if "config" not in given:
        return unhex(given.get("data", ""), "data")
    if "data" in given:
        raise FieldError("data together with config")
    config = checked.as_text(given["config"], "config")
    try:
        return xlfile.config_to_bytes(config.encode())
    except UnicodeEncodeError as error:
        raise FieldError(f"config: not text: {error.reason}") from None


def _record_to_plain(image: Image, record: IndexedRecord) -> Plain:
    body = bytes(image.body(record))
    plain: Plain = {
        "layer": record.layer,
        "type": record.type,
        "name": record.name,
        "offset": record.offset,
        "length": record.length,
    }
    payload = _payload_to_plain(record, body)
    if payload is not None:
        plain["payload"] = payload
    elif body:
        plain["body"] = body.hex()
    padding = bytes(image.source.read_at(record.body_end, record.padding))
    if any(padding):
        plain["padding"] = padding.hex()
    return plain


def _payload_to_plain(record: IndexedRecord, body: bytes) -> Any:
    key = (record.layer, record.type)
    if key == CONTEXT_RECORD:
        return context_to_plain(handlers.parse(record, body))
    known = handlers.body_type(*key)
    if known is None:
        return None
    try:
        payload = handlers.parse(record, body)
        plain = {name: _value_to_plain(getattr(payload, name)) for name in known.fields}
        return plain if _payload_bytes(key, plain) == body else None
    except HvmctxError:
        return None


def _payload_bytes(key: tuple[str, int], plain: Plain) -> bytes:
    if key == CONTEXT_RECORD:
        return context_from_plain(plain).to_bytes()
    known = handlers.body_type(*key)
    assert known is not None  # which the caller has seen to
    given = checked.members(plain, known.fields)
    checked.complete(given, known.fields)
    values = {
        name: _value_from_plain(given[name], kind, name) for name, kind in known.fields.items()
    }
    return known.encode(values)


def _record_bytes(plain: Plain) -> bytes:
    given = checked.members(plain, RECORD_KEYS)
    checked.complete(given, ["layer", "type"])
    layer = checked.as_text(given["layer"], "layer")
    if layer not in (LIBXL, LIBXC):
        raise checked.wrong(layer, "layer", f"{LIBXL} or {LIBXC}, which have records")
    kind = checked.integer(given["type"], "type", 32)
    name = record_name(layer, kind)
    if given.get("name", name) not in (name, f"type {kind:#x}"):
        raise FieldError(
            f"name {checked.shown(given['name'])} does not go with type {kind:#x} of {layer}; "
            "leave it out"
        )
    body = _body_bytes((layer, kind), given)
    checked.agrees(given, "length", len(body), "payload" if "payload" in given else "body")
    padding = bytes(-len(body) % streams.RECORD_ALIGN)
    if "padding" in given:
        room, padding = len(padding), unhex(given["padding"], "padding")
        if len(padding) != room:
            raise FieldError(
                f"padding of {len(padding)} bytes where there is room for {room}; leave it out"
            )
    return streams.RECORD_HEADER.pack(kind, len(body)) + body + padding


def _body_bytes(key: tuple[str, int], given: Plain) -> bytes:
    if "payload" not in given:
        modelled = handlers.model_of(*key) is not None
        if modelled and "body" not in given and given.get("length") != 0:
            raise FieldError("neither payload nor body")
        return unhex(given.get("body", ""), "body")
    if "body" in given:
        raise FieldError("payload together with body")
    if handlers.model_of(*key) is None:
        raise FieldError(f"records of type {key[1]:#x} have a body, not a payload")
    return _payload_bytes(key, given["payload"])


def _value_to_plain(value: Any) -> Any:
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (list, tuple, array)):
        return [_value_to_plain(element) for element in value]
    return value


def _value_from_plain(value: Any, kind: Any, where: str) -> Any:
    """By what the field of the body is declared as: words, rows, strings, bytes, a number."""
    if isinstance(kind, Words):
        words = checked.as_list(value, where)
        return array("Q", [number(word, f"{where}[{at}]", 64) for at, word in enumerate(words)])
    if isinstance(kind, (Rows, Strings)):
        rows = checked.as_list(value, where)
        return [_row_from_plain(row, kind, f"{where}[{at}]") for at, row in enumerate(rows)]
    if is_bytes(kind):
        return unhex(value, where)
    return number(value, where, 64)


def _row_from_plain(value: Any, kind: Rows | Strings, where: str) -> tuple[Any, ...]:
    if isinstance(kind, Strings):
        return tuple(unhex(part, where) for part in checked.as_list(value, where, 2))
    parts = checked.as_list(value, where, len(kind.row.names))
    return tuple(number(part, where, 64) for part in parts)
