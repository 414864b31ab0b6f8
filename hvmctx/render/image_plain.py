"""Whole images as plain dictionaries, lists, numbers and strings, and back without loss.

An image is the list of its headers and records, in file order, and the bytes that follow
the last of them. A record's body is taken apart where that can be undone exactly, and hex
where not; page contents are hex too, so strip an image first that has many.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import fields, is_dataclass

from hvmctx.abi import streams
from hvmctx.errors import FieldError, HvmctxError
from hvmctx.image import Image
from hvmctx.indexing import IndexedRecord
from hvmctx.render.plain import context_from_plain, context_to_plain, number, unhex
from hvmctx.stream import handlers, xlfile
from hvmctx.stream.reader import LIBXC, LIBXL, XL, Header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hvmctx.render.plain import Plain

_CONTEXT = (LIBXC, streams.LIBXC_HVM_CONTEXT)
_HEADERS: dict[tuple[str, str], streams.HeaderLayout] = {
    (XL, "header"): streams.XL_HEADER,
    (LIBXL, "header"): streams.LIBXL_HEADER,
    (LIBXC, "image header"): streams.IMAGE_HEADER,
    (LIBXC, "domain header"): streams.DOMAIN_HEADER,
}


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
    items = plain.get("items")
    if not isinstance(items, list):
        raise FieldError(f"items: found {type(items).__name__}, expected list")
    pieces = []
    for at, item in enumerate(items):
        if not isinstance(item, dict):
            raise FieldError(f"items[{at}]: found {type(item).__name__}, expected an object")
        try:
            pieces.append(_header_bytes(item) if "header" in item else _record_bytes(item))
        except FieldError as error:
            raise FieldError(f"items[{at}]: {error}") from None
        except (TypeError, ValueError, KeyError, struct.error, OverflowError) as error:
            raise FieldError(
                f"items[{at}]: not the form of this header or record: {error}"
            ) from None
    return b"".join((*pieces, unhex(plain.get("tail", ""), "tail")))


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
    return config if xlfile.serialise_config(config.encode()) == data else None


def _header_bytes(plain: Plain) -> bytes:
    layout = _HEADERS.get((plain.get("layer", ""), plain["header"]))
    if layout is None:
        raise FieldError(f"no header {plain['header']!r} in layer {plain.get('layer')!r}")
    values = {name: number(plain["fields"][name], name) for name in layout.names}
    data = b""
    if "config" in plain:
        data = xlfile.serialise_config(plain["config"].encode())
        values["optional_data_len"] = len(data)
    elif "data" in plain:
        data = unhex(plain["data"], "data")
    magic = streams.XL_MAGIC if plain["layer"] == XL else b""
    return magic + layout.serialise(values) + data


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
    if key == _CONTEXT:
        return context_to_plain(handlers.parse(record, body))
    if handlers.model_of(*key) is None:
        return None
    try:
        payload = handlers.parse(record, body)
        plain = {f.name: _value_to_plain(getattr(payload, f.name)) for f in fields(payload)}
        return plain if _payload_bytes(key, plain) == body else None
    except HvmctxError:
        return None


def _payload_bytes(key: tuple[str, int], plain: Plain) -> bytes:
    kind = handlers.model_of(*key)
    values = {f.name: _value_from_plain(plain[f.name], str(f.type)) for f in fields(kind)}
    serialised: bytes = kind(**values).serialise()
    return serialised


def _record_bytes(plain: Plain) -> bytes:
    key = (plain["layer"], number(plain["type"], "type", 32))
    if "payload" not in plain:
        body = unhex(plain.get("body", ""), "body")
    elif key == _CONTEXT:
        body = context_from_plain(plain["payload"]).to_bytes()
    elif handlers.model_of(*key) is not None:
        body = _payload_bytes(key, plain["payload"])
    else:
        raise FieldError(f"records of type {key[1]:#x} have a body, not a payload")
    size = -len(body) % streams.RECORD_ALIGN
    padding = unhex(plain.get("padding", ""), "padding").ljust(size, b"\0")[:size]
    return streams.RECORD_HEADER.pack(key[1], len(body)) + body + padding


def _value_to_plain(value: Any) -> Any:
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (list, tuple, array)):
        return [_value_to_plain(element) for element in value]
    assert not is_dataclass(value)
    return value


def _value_from_plain(value: Any, declared: str) -> Any:
    """By the declared type of the payload's field: words, bytes, pairs of bytes, numbers."""
    if declared.startswith("array"):
        return array("Q", [number(word, "a word", 64) for word in value])
    if declared.startswith("bytes"):
        return unhex(value, "bytes")
    if "bytes" in declared:
        return [tuple(unhex(text, "bytes") for text in entry) for entry in value]
    if declared.startswith("list"):
        return [tuple(number(part, "a number") for part in entry) for entry in value]
    return number(value, "a number")
