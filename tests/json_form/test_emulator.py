"""What a device model saved, in JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hvmctx.edit.editor import edit
from hvmctx.errors import FieldError
from hvmctx.image.image import open_image
from hvmctx.json_form.document import dumps_json, loads_json
from hvmctx.json_form.schema import schema
from tests.builders.emulators import MOUSE, VMPORT, with_model
from tests.builders.samples import DATA, EXAMPLE, context_bytes

SCHEMA = Draft202012Validator(schema())
QEMU = sorted((DATA / "qemu").glob("*.xendev"))


def payload_of(plain: Any) -> Any:
    (found,) = (i for i in plain["image"]["items"] if i.get("name") == "EMULATOR_CONTEXT")
    return found["payload"]


@pytest.mark.parametrize(
    ("payload", "kind"),
    [(MOUSE, "qemu"), (VMPORT, "context"), (context_bytes(), "context"),
     (context_bytes()[:-3], "context"), (b"unknown", ""), (b"", ""),
     *((path.read_bytes(), "qemu") for path in QEMU), (b"QEVM\0\0\0\3", "qemu"),
     (MOUSE[:5600], "qemu")],
)  # fmt: skip
def test_every_payload_comes_back(payload: bytes, kind: str) -> None:
    data = with_model(payload)
    text = dumps_json(data)
    plain = json.loads(text)
    SCHEMA.validate(plain)
    shown = payload_of(plain)["payload"]
    assert list(shown) == [kind] if kind else shown == payload.hex()
    assert loads_json(text) == data


def test_a_field_of_a_device() -> None:
    plain = json.loads(dumps_json(with_model(MOUSE)))
    record = payload_of(plain)
    (mouse,) = (s for s in record["payload"]["qemu"]["sections"] if s["name"] == "vmmouse")
    mouse["data"]["status"] = 5
    with open_image(loads_json(json.dumps(plain))) as image:
        state = image.emulators[0].device_model()
        assert edit(image).get("EMULATOR_CONTEXT.vmmouse.status") == 5
    assert state is not None and state.to_bytes() != MOUSE


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({}, "expected one of context, qemu, decoded"),
        ({"other": 1}, "other"),
        ({"decoded": 5}, "no handler of emulator:0x2 is installed"),
        ({"qemu": {"start": ""}}, "sections is missing"),
        ({"qemu": {"start": "", "sections": [{"name": "x", "instance": 0, "version": 0,
          "section_id": 0, "data": {}}]}}, "the section has no fields"),
        ({"qemu": {"start": "", "sections": [{"name": "", "instance": 0, "version": 0,
          "section_id": 0, "data": ""}]}}, "expected 1 to 255 letters"),
        ({"qemu": {"start": "", "sections": [{"name": "vmmouse", "instance": 0, "version": 0,
          "section_id": 0, "data": {"status": 1}}]}}, "is missing"),
        ({"qemu": {"start": "", "sections": [{"name": "x", "instance": 0, "version": 0,
          "section_id": 0, "data": "", "footer": 1}]}}, "expected true or false"),
    ],
)  # fmt: skip
def test_payloads_that_cannot_be(payload: Any, reason: str) -> None:
    plain = json.loads(dumps_json(EXAMPLE))
    payload_of(plain)["payload"] = payload
    with pytest.raises(FieldError, match=reason):
        loads_json(json.dumps(plain))
