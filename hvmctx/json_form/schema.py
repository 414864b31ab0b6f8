"""A JSON Schema of what to-json and dump --format json write, derived from the declared
records, headers and payloads. A line of --format ndjson is one of its `$defs/line`.

The shipped copy, `hvmctx/data/hvmctx.schema.json`, is made by `make generate`.
"""

from __future__ import annotations

import json
from ctypes import sizeof
from pathlib import Path
from typing import Any

from hvmctx.abi import streams
from hvmctx.abi.declare import VMPORT_TYPECODE, RecordType
from hvmctx.abi.fields import Field, Layout
from hvmctx.abi.registry import record_types
from hvmctx.image import handlers
from hvmctx.json_form.context import FORMAT, LONGEST_LIST
from hvmctx.json_form.image import CONTEXT_RECORD, FORMATS
from hvmctx.stream.body import BodyType, Rows, Strings, Words, is_bytes
from hvmctx.stream.reader import LIBXC, LIBXL

PATH = Path(__file__).parent.parent / "data" / "hvmctx.schema.json"
_HEX = {"type": "string", "pattern": "^([0-9a-f]{2})*$"}
_COUNT = {"type": "integer", "minimum": 0}


def _hex_of(size: int) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^[0-9a-f]{{{2 * size}}}$"}


def _integer(width: int, signed: bool) -> dict[str, Any]:
    low = -(1 << width - 1) if signed else 0
    number = {"type": "integer", "minimum": low, "maximum": low + (1 << width) - 1}
    return {"anyOf": [number, {"type": "string", "pattern": "^-?0x[0-9a-f]+$"}]}


def _object(members: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """With these members and no others."""
    found = {"type": "object", "properties": members, "additionalProperties": False}
    return {**found, "required": required} if required else found


def _list(items: dict[str, Any], count: int | None = None) -> dict[str, Any]:
    found = {"type": "array", "items": items}
    return found if count is None else {**found, "minItems": count, "maxItems": count}


def _case(member: str, values: list[Any], then: dict[str, Any]) -> dict[str, Any]:
    """What holds where a member has one of these values."""
    return {"if": {"properties": {member: {"enum": values}}, "required": [member]}, "then": then}


def _value(field: Field, sized: bool) -> dict[str, Any]:
    if field.is_bytes and field.size > LONGEST_LIST:
        return _hex_of(field.size)
    if field.code:
        width = field.width if field.count is None else 8 * sizeof(field.element)
        one = _integer(width, field.code.islower())
    else:
        one = _fields(Layout.of(field.element).fields, sized)
    return one if field.count is None else _list(one, field.count if sized else None)


def _fields(fields: tuple[Field, ...], sized: bool = True) -> dict[str, Any]:
    told = [field for field in fields if not field.alternate]
    members = {field.name: _value(field, sized) for field in told}
    return _object(members, [field.name for field in told if not field.is_reserved])


def _record(known: RecordType) -> dict[str, Any]:
    """`sized`: arrays have their length. Those of VMPORT are the profile's."""
    fields = _fields(known.layout.fields, sized=known.typecode != VMPORT_TYPECODE)
    if known.rest is not None:
        name, element = known.rest
        layout = Layout.of(element) if sizeof(element) > 1 else None
        fields["properties"][name] = _HEX if layout is None else _list(_fields(layout.fields))
        fields["required"].append(name)
    return {
        "description": " ".join((known.struct.__doc__ or known.name).split()),
        "properties": {
            "name": {"const": known.name},
            "fields": fields if known.size else False,
        },
    }


def _payload(body: BodyType) -> dict[str, Any]:
    def of(kind: Any) -> dict[str, Any]:
        if isinstance(kind, Words):
            return _list(_integer(64, False))
        if isinstance(kind, Rows):
            return _list(_list(_integer(64, False), len(kind.row.names)))
        if isinstance(kind, Strings):
            return _list(_list(_HEX, 2))
        return _HEX if is_bytes(kind) else _integer(64, False)

    return _object({name: of(kind) for name, kind in body.fields.items()}, list(body.fields))


def _payloads(layer: str, names: dict[int, str]) -> list[dict[str, Any]]:
    """What holds for the record types of a layer: only some have a payload."""
    cases = [{**_case("type", list(names), {}), "else": {"properties": {"payload": False}}}]
    for number, name in names.items():
        payload: Any = False
        if (layer, number) == CONTEXT_RECORD:
            payload = {"$ref": "#/$defs/context"}
        elif (body := handlers.body_type(layer, number)) is not None:
            payload = _payload(body)
        members = {"name": {"const": name}, "payload": payload}
        cases.append(_case("type", [number], {"properties": members}))
    return cases


def _header(layer: str, name: str, layout: streams.Flat) -> dict[str, Any]:
    members = {
        "layer": {"const": layer},
        "header": {"const": name},
        "offset": _COUNT,
        "fields": _object({key: _integer(64, False) for key in layout.names}, list(layout.names)),
    }
    if "optional_data_len" not in layout.names:
        return _object(members, ["layer", "header", "fields"])
    with_data = {**members, "config": {"type": "string"}, "data": _HEX}
    made = _object(with_data, ["layer", "header", "fields"])
    return {**made, "not": {"required": ["config", "data"]}}


def _stream_record() -> dict[str, Any]:
    members = {
        "layer": {"enum": [LIBXL, LIBXC]},
        "type": {"type": "integer", "minimum": 0, "maximum": 0xFFFFFFFF},
        "name": {"type": "string"},
        "offset": _COUNT,
        "length": _COUNT,
        "payload": {"type": "object"},
        "body": _HEX,
        "padding": _HEX,
    }
    return {
        **_object(members, ["layer", "type"]),
        "not": {"required": ["payload", "body"]},
        "allOf": [
            _case("layer", [layer], {"allOf": _payloads(layer, names)})
            for layer, names in streams.RECORDS.items()
        ],
    }


def _context_record(types: list[RecordType]) -> dict[str, Any]:
    members = {
        "name": {"type": "string"},
        "typecode": {"type": "integer", "minimum": 0, "maximum": 0xFFFF},
        "instance": {"type": "integer", "minimum": 0, "maximum": 0xFFFF},
        "length": _COUNT,
        "offset": _COUNT,
        "fields": {"type": "object"},
        "rest": _HEX,
        "body": _HEX,
    }
    return {
        **_object(members, ["typecode", "instance"]),
        "oneOf": [{"required": ["fields"]}, {"required": ["body"]}],
        "dependentRequired": {"rest": ["fields"]},
        "allOf": [
            _case("typecode", [known.typecode], {"$ref": f"#/$defs/{known.name}"})
            for known in types
        ],
        **_case("typecode", [known.typecode for known in types], {}),
        "else": {"required": ["body"]},
    }


def schema() -> dict[str, Any]:
    """The schema, as a plain object (JSON Schema 2020-12)."""
    types = list(record_types())
    ending = {"tail": _HEX, "damage": {"type": ["string", "null"]}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What hvmctx to-json and dump --format json write",
        "type": "object",
        "properties": {
            "hvmctx": {"const": FORMAT},
            "context": {"$ref": "#/$defs/context"},
            "image": _object(
                {
                    "format": {"enum": list(FORMATS)},
                    "items": _list({"$ref": "#/$defs/item"}),
                    "tail": _HEX,
                },
                ["format", "items"],
            ),
        },
        "oneOf": [{"required": ["context"]}, {"required": ["image"]}],
        "additionalProperties": False,
        "$defs": {
            "context": _object(
                {"records": _list({"$ref": "#/$defs/record"}), **ending}, ["records"]
            ),
            "line": {
                "description": "A line of dump --format ndjson: a record; or last, where there "
                "is something to tell, what the context has besides",
                "oneOf": [
                    {"$ref": "#/$defs/record"},
                    _object(ending, list(ending)),
                ],
            },
            "item": {
                "if": {"required": ["header"]},
                "then": {
                    "oneOf": [_header(*key, layout) for key, layout in streams.HEADERS.items()]
                },
                "else": _stream_record(),
            },
            "record": _context_record(types),
            **{known.name: _record(known) for known in types},
        },
    }


def text() -> str:
    """The shipped file's contents."""
    return json.dumps(schema(), indent=1) + "\n"
