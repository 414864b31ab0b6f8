"""The JSON Schema of the document, derived from the models and the forms of their members: it
accepts what from-json does, but for counts and names that do not go with what they stand
beside (`checked.Disagreement`), which no schema can tell. A line of dump --format ndjson is one
of its `$defs/line`.

The shipped copy, `hvmctx/data/hvmctx.schema.json`, is made by `make generate`.
"""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

from hvmctx.abi import streams
from hvmctx.abi.declare import RecordType
from hvmctx.abi.forms import Number, nullable
from hvmctx.abi.registry import record_types
from hvmctx.json_form.context import body_form
from hvmctx.json_form.document import Document
from hvmctx.json_form.image import (
    FORMATS,
    HeaderModel,
    ImageModel,
    StreamRecordModel,
    header_form,
    payload_form,
)
from hvmctx.json_form.models import OTHER_NAME, ContextModel, RecordModel

__all__ = ["PATH", "schema", "text"]

PATH = Path(__file__).parent.parent / "data" / "hvmctx.schema.json"
_NULL: dict[str, Any] = {"type": "null"}


def _has(*names: str) -> dict[str, Any]:
    """These members are there, and not null."""
    return {"required": list(names), "properties": {name: {"not": _NULL} for name in names}}


def _lacks(*names: str) -> dict[str, Any]:
    """None of these members is there, or each is null."""
    return {"properties": dict.fromkeys(names, _NULL)}


def _is(member: str, values: list[Any]) -> dict[str, Any]:
    return {"required": [member], "properties": {member: {"enum": values}}}


def _any_case(name: str) -> str:
    """A pattern of the name, in capitals and small letters."""
    return "".join(f"[{c}{c.lower()}]" if c.isalpha() else c for c in name)


def _type_is(known: RecordType) -> dict[str, Any]:
    """That a record is of this type: by its typecode, or where there is none by its name."""
    named = {"properties": {"name": {"type": "string", "pattern": f"^{_any_case(known.name)}$"}}}
    return {
        "anyOf": [
            _is("typecode", [known.typecode]),
            {**named, "required": ["name"], "not": _has("typecode")},
        ]
    }


def _record_of(known: RecordType) -> dict[str, Any]:
    """What holds for records of one type."""
    pattern = f"^({_any_case(known.name)}|type {known.typecode})$"
    found: dict[str, Any] = {
        "description": " ".join((known.struct.__doc__ or known.name).split()),
        "properties": {"name": {"type": ["string", "null"], "pattern": pattern}},
    }
    if not known.size:
        return {**found, "allOf": [_lacks("fields", "rest")]}
    fields = {"allOf": [_has("fields"), _lacks("body")]}
    body = {"allOf": [_has("body"), _lacks("fields", "rest")]}
    return {**found, "oneOf": [fields, body], "allOf": [body_form(known).schema()]}


def _record() -> dict[str, Any]:
    types = list(record_types())
    typecodes = [known.typecode for known in types]
    pattern = f"^{OTHER_NAME.pattern}$"
    other = {"name": {"type": ["string", "null"], "pattern": pattern}}
    return {
        **RecordModel.FORM.definition(),
        "anyOf": [_has("typecode"), *map(_type_is, types)],
        "allOf": [
            *({"if": _type_is(known), "then": _ref(known.name)} for known in types),
            {
                "if": {"allOf": [_has("typecode"), {"not": _is("typecode", typecodes)}]},
                "then": {
                    "oneOf": [_has("body"), _has("decoded")],
                    "allOf": [_lacks("fields", "rest"), {"properties": other}],
                },
            },
        ],
    }


def _header() -> dict[str, Any]:
    cases = []
    for (layer, name), layout in streams.HEADERS.items():
        fields = header_form(layout).schema()
        case: dict[str, Any] = {
            "properties": {"layer": {"const": layer}, "header": {"const": name}, "fields": fields}
        }
        if layer in streams.DATA_LENGTHS:
            case["not"] = _has("config", "data")
        else:
            case["allOf"] = [_lacks("config", "data")]
        cases.append(case)
    return {**HeaderModel.FORM.definition(), "oneOf": cases}


def _stream_record() -> dict[str, Any]:
    cases = [
        _stream_record_of(layer, number, name)
        for layer, names in streams.RECORDS.items()
        for number, name in names.items()
    ]
    others = [
        {
            "if": {"allOf": [_is("layer", [layer]), {"not": _is("type", list(names))}]},
            "then": {
                "properties": {
                    "name": {"type": ["string", "null"], "pattern": "^type 0x[0-9a-f]+$"},
                    "payload": _NULL,
                }
            },
        }
        for layer, names in streams.RECORDS.items()
    ]
    narrow = {
        "if": {"not": _is("layer", [streams.XAPI])},
        "then": {"properties": {"type": {"maximum": 0xFFFFFFFF}}},
    }
    return {
        **StreamRecordModel.FORM.definition(),
        "allOf": [*cases, *others, narrow],
        "not": {"anyOf": [_has(*pair) for pair in combinations(_BODIES, 2)]},
    }


_BODIES = ("payload", "decoded", "body")
"""Of a stream's record, one of them."""


def _stream_record_of(layer: str, number: int, name: str) -> dict[str, Any]:
    """What holds for records of one type. One that says that it is empty has neither payload
    nor body."""
    members = {
        "name": {"enum": [name, f"type {number:#x}", None]}, "payload": _NULL, "decoded": _NULL,
    }  # fmt: skip
    then: dict[str, Any] = {"properties": members}
    form = payload_form(layer, number)
    if form is not None:
        members["payload"] = nullable(form.schema())
        then["anyOf"] = [_has("payload"), _has("body"), _is("length", [0])]
    return {"if": {"allOf": [_is("layer", [layer]), _is("type", [number])]}, "then": then}


def _image() -> dict[str, Any]:
    starts = [
        {
            "if": _is("format", [layer]),
            "then": {
                "properties": {
                    "items": {"prefixItems": [{"properties": {"layer": {"const": layer}}}]}
                }
            },
        }
        for layer in FORMATS
    ]
    return {**ImageModel.FORM.definition(), "allOf": starts}


def _line() -> dict[str, Any]:
    ending = ContextModel.FORM.definition()
    properties = {name: ending["properties"][name] for name in ("tail", "damage")}
    ending |= {"properties": properties, "required": list(properties)}
    return {
        "description": "A line of dump --format ndjson: a record; or last, where there is "
        "something to tell, what the context has besides",
        "oneOf": [_ref("record"), ending],
    }


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def schema() -> dict[str, Any]:
    """The schema, as a plain object (JSON Schema 2020-12)."""
    found: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The JSON form of hvmctx: what to-json and dump --format json write",
        **Document.FORM.definition(),
        "oneOf": [_has("context"), _has("image")],
        "$defs": {
            "context": ContextModel.FORM.definition(),
            "image": _image(),
            "line": _line(),
            "item": {
                "if": _has("header"),
                "then": _header(),
                "else": _stream_record(),
            },
            "record": _record(),
            **{known.name: _record_of(known) for known in record_types()},
        },
    }
    numbers = sorted(set(re.findall(r"#/\$defs/([su])(\d+)\b", json.dumps(found))))
    found["$defs"] |= {
        f"{sign}{width}": Number(int(width), signed=sign == "s").definition()
        for sign, width in numbers
    }
    return found


def text() -> str:
    """The shipped file's contents."""
    return json.dumps(schema(), indent=1) + "\n"
