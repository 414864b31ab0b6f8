"""The members that handlers of other packages write; tests/stories/test_handlers.py has the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.errors import FieldError
from hvmctx.image import handlers
from hvmctx.json_form.document import dumps_json, loads_json
from hvmctx.json_form.schema import schema
from tests.builders.plugin import blocks

SCHEMA = Draft202012Validator(schema())
BODY = b"\5\0\0\0\1\0\0\0a"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    module: dict[str, Any] = {}
    exec(blocks()[0], module)
    monkeypatch.setattr(handlers, "_announced", {})
    monkeypatch.setattr(handlers, "_handlers", {("context", 99): module["Ticket"]()})


def test_what_does_not_come_back_is_bytes() -> None:
    for body in (BODY, BODY + b"more", b"", b"\5"):
        context = HvmContext([Record(99, 0, body), Record(98, 0, body)])
        text = dumps_json(context)
        first, second = json.loads(text)["context"]["records"]
        assert ("decoded" in first) == (body == BODY) and second["body"] == body.hex()
        SCHEMA.validate(json.loads(text))
        assert loads_json(text) == context.to_bytes()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"typecode": 98, "decoded": {}}, "no handler of context:0x62 is installed"),
        ({"typecode": 99, "decoded": {}}, "handler failed"),
        ({"typecode": 99, "decoded": {}, "body": ""}, "found both decoded and body"),
        ({"typecode": 2, "decoded": {}}, "neither fields nor body"),
    ],
)
def test_what_cannot_be(record: dict[str, object], reason: str) -> None:
    with pytest.raises(FieldError, match=reason):
        loads_json(json.dumps({"context": {"records": [record]}}))
