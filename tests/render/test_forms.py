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
from hvmctx.render.forms import FORMS
from hvmctx.json_form.document import Document
from hvmctx.json_form.context import context_from_plain
from hvmctx.render.text import TextDialect
from tests.builders.samples import CONTEXTS, EXAMPLE, context_bytes

SCHEMA = schema.schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
LINE = jsonschema.Draft202012Validator({"$ref": "#/$defs/line", "$defs": SCHEMA["$defs"]})

CONTEXT = HvmContext.parse(context_bytes())
CUT = HvmContext.parse(context_bytes()[:2000])


def test_json() -> None:
    plain = json.loads("".join(FORMS["json"](CONTEXT, None)))
    assert list(plain) == ["hvmctx", "context"]
    assert context_from_plain(plain["context"]).to_bytes() == context_bytes()
    some = json.loads("".join(FORMS["json"](CONTEXT, lambda record: record.typecode == 3)))
    assert [entry["instance"] for entry in some["context"]["records"]] == [0, 1]


@pytest.mark.parametrize("path", [EXAMPLE, *CONTEXTS[::7]], ids=lambda path: path.name)
def test_json_is_what_to_json_writes(path: Path) -> None:
    with open_image(path) as image:
        context = image.hvm_context
        text = "".join(FORMS["json"](context, None))
        data = context.to_bytes()
    bare = Document.of_input(data, "context")
    plain, expected = json.loads(text), json.loads(bare.to_text())
    for document in (plain, expected):  # the offset in it is that of the image
        document["context"]["damage"] = document["context"]["damage"] is not None
    assert plain == expected
    assert Document.from_text(text).to_bytes() == data
    VALIDATOR.validate(json.loads(text))


def test_ndjson() -> None:
    lines = "".join(FORMS["ndjson"](CONTEXT, None)).splitlines()
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
    context = HvmContext.parse(data)
    lines = [json.loads(line) for line in FORMS["ndjson"](context, wanted)]
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


def test_table() -> None:
    lines = "".join(FORMS["table"](CONTEXT, lambda record: record.name == "PIC")).splitlines()
    assert lines == [
        "entry  offset  type  record  instance  length",
        "    2  0x430      3  PIC            0       8",
        "    3  0x440      3  PIC            1       8",
    ]


def test_table_of_a_cut_context() -> None:
    """As many rows as the text has Entry lines."""
    lines = "".join(FORMS["table"](CUT, None)).splitlines()
    assert lines[0] == "entry  offset  type  record      instance  length  note"
    assert lines[1] == "    0  0x0        1  HEADER             0      24"
    assert lines[-1] == "    6  0x608      6  LAPIC_REGS         0    1024  cut after 448 bytes"
    assert "".join(TextDialect().dump(CUT)).count("\nEntry") == len(lines) - 1
    lines = "".join(FORMS["table"](CUT, only_pic)).splitlines()
    assert len(lines) == 3
