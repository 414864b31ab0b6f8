"""A JSON Schema of what to-json and dump --format json write, derived from the declared
records. A line of --format ndjson is one of its `$defs/line`.

The shipped copy, `hvmctx/data/hvmctx.schema.json`, is made by
`python -m hvmctx.render.schema`.
"""

from __future__ import annotations

import ctypes
import json
from ctypes import sizeof
from pathlib import Path
from typing import Any

from hvmctx.abi.declare import RecordType, record_types
from hvmctx.abi.fields import Field, Layout
from hvmctx.render.plain import FORMAT, LONGEST_LIST

PATH = Path(__file__).parent.parent / "data" / "hvmctx.schema.json"
_HEX = {"type": "string", "pattern": "^([0-9a-f]{2})*$"}
_COUNT = {"type": "integer", "minimum": 0}


def _hex_of(size: int) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^[0-9a-f]{{{2 * size}}}$"}


def _integer(width: int, signed: bool) -> dict[str, Any]:
    low = -(1 << width - 1) if signed else 0
    number = {"type": "integer", "minimum": low, "maximum": low + (1 << width) - 1}
    return {"anyOf": [number, {"type": "string", "pattern": "^-?0x[0-9a-f]+$"}]}


def _value(ctype: Any, width: int) -> dict[str, Any]:
    if issubclass(ctype, ctypes.Array):
        count = ctype._length_
        if ctype._type_ is ctypes.c_uint8 and count > LONGEST_LIST:
            return _hex_of(count)
        items = _value(ctype._type_, 8 * sizeof(ctype._type_))
        return {"type": "array", "items": items, "minItems": count, "maxItems": count}
    if issubclass(ctype, (ctypes.Structure, ctypes.Union)):
        return _fields(Layout.of(ctype).fields)
    return _integer(width, ctype is ctypes.c_int64)


def _fields(fields: tuple[Field, ...]) -> dict[str, Any]:
    members = {f.name: _value(f.ctype, f.width) for f in fields if not f.alternate}
    return {"type": "object", "properties": members, "additionalProperties": False}


def _record(known: RecordType) -> dict[str, Any]:
    fields = _fields(known.layout.fields)
    if known.rest is not None:
        name, element = known.rest
        layout = Layout.of(element) if sizeof(element) > 1 else None
        fields["properties"][name] = (
            _HEX if layout is None else {"type": "array", "items": _fields(layout.fields)}
        )
    members: dict[str, Any] = {
        "name": {"const": known.name},
        "typecode": {"const": known.typecode},
        "fields": fields,
        "rest": _HEX,
        "body": _HEX,
    }
    return {
        "description": " ".join((known.struct.__doc__ or known.name).split()),
        "properties": members,
    }


def schema() -> dict[str, Any]:
    """The schema, as a plain object (JSON Schema 2020-12)."""
    types = list(record_types())
    record = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "typecode": {"type": "integer", "minimum": 0, "maximum": 0xFFFF},
            "instance": {"type": "integer", "minimum": 0, "maximum": 0xFFFF},
            "length": {"type": ["integer", "null"], "minimum": 0},
            "offset": _COUNT,
        },
        "required": ["typecode", "instance"],
        "allOf": [
            {
                "if": {"properties": {"typecode": {"const": known.typecode}}},
                "then": {"$ref": f"#/$defs/{known.name}"},
            }
            for known in types
        ],
    }
    ending = {"tail": _HEX, "damage": {"type": ["string", "null"]}}
    item = {
        "type": "object",
        "properties": {
            "layer": {"enum": ["xl", "libxl", "libxc"]},
            "header": {"enum": ["header", "image header", "domain header"]},
            "type": {"type": "integer", "minimum": 0, "maximum": 0xFFFFFFFF},
            "name": {"type": "string"},
            "offset": _COUNT,
            "length": _COUNT,
            "fields": {"type": "object"},
            "config": {"type": "string"},
            "data": _HEX,
            "payload": {"type": "object"},
            "body": _HEX,
            "padding": _HEX,
        },
        "required": ["layer"],
        "oneOf": [{"required": ["header", "fields"]}, {"required": ["type"]}],
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What hvmctx to-json and dump --format json write",
        "type": "object",
        "properties": {
            "hvmctx": {"const": FORMAT},
            "context": {"$ref": "#/$defs/context"},
            "image": {
                "type": "object",
                "properties": {
                    "format": {"enum": ["xl", "libxl", "libxc"]},
                    "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
                    "tail": _HEX,
                },
                "required": ["items"],
                "additionalProperties": False,
            },
        },
        "oneOf": [{"required": ["context"]}, {"required": ["image"]}],
        "additionalProperties": False,
        "$defs": {
            "context": {
                "type": "object",
                "properties": {
                    "records": {"type": "array", "items": {"$ref": "#/$defs/record"}},
                    **ending,
                },
                "required": ["records"],
                "additionalProperties": False,
            },
            "line": {
                "description": "A line of dump --format ndjson: a record; or last, where there "
                "is something to tell, what the context has besides",
                "oneOf": [
                    {"$ref": "#/$defs/record"},
                    {
                        "type": "object",
                        "properties": ending,
                        "required": list(ending),
                        "additionalProperties": False,
                    },
                ],
            },
            "item": item,
            "record": record,
            **{known.name: _record(known) for known in types},
        },
    }


def text() -> str:
    """The shipped file's contents."""
    return json.dumps(schema(), indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(text())
