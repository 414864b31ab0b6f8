from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.image.image import open_image
from hvmctx.json_form import schema
from hvmctx.json_form.document import Document
from hvmctx.json_form.dump import as_json, as_ndjson
from tests.builders.samples import CONTEXTS, EXAMPLE, context_bytes

SCHEMA = schema.schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
LINE = jsonschema.Draft202012Validator({"$ref": "#/$defs/line", "$defs": SCHEMA["$defs"]})

CONTEXT = HvmContext.from_bytes(context_bytes())


def test_json() -> None:
    plain = json.loads("".join(as_json(CONTEXT, None)))
    assert list(plain) == ["hvmctx", "context"]
    assert Document.from_dict(plain).to_bytes() == context_bytes()
    some = json.loads("".join(as_json(CONTEXT, lambda record: record.typecode == 3)))
    assert [entry["instance"] for entry in some["context"]["records"]] == [0, 1]


@pytest.mark.parametrize("path", [EXAMPLE, *CONTEXTS[::7]], ids=lambda path: path.name)
def test_json_is_what_to_json_writes(path: Path) -> None:
    with open_image(path) as image:
        context = image.context
        text = "".join(as_json(context, None))
        data = context.to_bytes()
    bare = Document.of_input(data, "context")
    plain, expected = json.loads(text), json.loads(bare.to_text())
    for document in (plain, expected):  # the offset in it is that of the image
        document["context"]["damage"] = document["context"]["damage"] is not None
    assert plain == expected
    assert Document.from_text(text).to_bytes() == data
    VALIDATOR.validate(json.loads(text))


def test_ndjson() -> None:
    lines = "".join(as_ndjson(CONTEXT, None)).splitlines()
    assert len(lines) == len(CONTEXT.entries)
    assert json.loads(lines[1])["name"] == "CPU"


def only_pic(record: Record) -> bool:
    return record.name == "PIC"


@pytest.mark.parametrize(
    ("data", "wanted", "ending"),
    [
        (context_bytes() + b"\1\2", None, {"tail": "0102", "damage": None}),
        (context_bytes() + b"\1\2", only_pic, None),
        (context_bytes()[:-5], only_pic, {"tail": "", "damage": "the descriptor is cut off"}),
        (context_bytes()[:-5], None, {"tail": "000000", "damage": "the descriptor is cut off"}),
        (b"", None, {"tail": "", "damage": "the context is empty"}),
    ],
)
def test_ndjson_ends_with_what_is_no_record(
    data: bytes, wanted: Callable[[Record], bool] | None, ending: dict[str, str | None] | None
) -> None:
    context = HvmContext.from_bytes(data, damaged=True)
    lines = [json.loads(line) for line in "".join(as_ndjson(context, wanted)).splitlines()]
    for line in lines:
        LINE.validate(line)
    last = lines[-1] if lines and "typecode" not in lines[-1] else None
    assert sum("typecode" not in line for line in lines) == (last is not None)
    if ending is None or last is None:
        assert last == ending
    else:
        assert last["tail"] == ending["tail"]
        assert (ending["damage"] or "None") in str(last["damage"])


def test_lines_that_cannot_be_are_invalid() -> None:
    for line in ({}, {"tail": "00"}, {"tail": "0", "damage": None}, {"typecode": -1}):
        with pytest.raises(jsonschema.ValidationError):
            LINE.validate(line)
