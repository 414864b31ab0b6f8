from __future__ import annotations

import json

from hvmctx.context.hvm_context import HvmContext
from hvmctx.render.forms import FORMS
from hvmctx.render.plain import context_from_plain
from tests.samples import context_bytes

CONTEXT = HvmContext.parse(context_bytes())


def test_json() -> None:
    plain = json.loads("".join(FORMS["json"](CONTEXT, None)))
    assert context_from_plain(plain).to_bytes() == context_bytes()
    some = json.loads("".join(FORMS["json"](CONTEXT, lambda record: record.typecode == 3)))
    assert [entry["instance"] for entry in some["records"]] == [0, 1]


def test_ndjson() -> None:
    lines = "".join(FORMS["ndjson"](CONTEXT, None)).splitlines()
    assert len(lines) == len(CONTEXT.entries)
    assert json.loads(lines[1])["name"] == "CPU"


def test_table() -> None:
    lines = "".join(FORMS["table"](CONTEXT, lambda record: record.name == "PIC")).splitlines()
    assert lines == [
        "entry  offset  type  record  instance  length",
        "    2  0x430      3  PIC            0       8",
        "    3  0x440      3  PIC            1       8",
    ]
