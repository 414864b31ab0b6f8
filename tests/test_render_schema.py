from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hvmctx.render import schema
from hvmctx.render.models import Document
from tests.samples import CONTEXTS, EXAMPLE, IMAGES, STREAMS, context_bytes

VALIDATOR = jsonschema.Draft202012Validator(schema.schema())


def test_shipped_copy_is_current() -> None:
    assert schema.PATH.read_text() == schema.text(), "run python -m hvmctx.render.schema"
    jsonschema.Draft202012Validator.check_schema(schema.schema())


@pytest.mark.parametrize(
    "path", [EXAMPLE, IMAGES[0], STREAMS[-1], *CONTEXTS[::9]], ids=lambda path: path.name
)
def test_what_is_written_is_valid(path: Path) -> None:
    document = Document.of_input(path)
    VALIDATOR.validate(json.loads(document.to_text()))
    VALIDATOR.validate(json.loads(document.to_text(hex_wide=True)))


def broken(change: str, value: Any) -> Any:
    plain: Any = json.loads(Document.of_input(context_bytes()).to_text())
    place = plain
    *path, last = change.split("/")
    for name in path:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    return plain


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("context/records/1/fields/rip", 1 << 64),
        ("context/records/1/fields/rip", "x"),
        ("context/records/1/fields/fpu_regs", "00"),
        ("context/records/1/fields/bogus", 1),
        ("context/records/2/fields/init_state", 16),
        ("context/records/0/name", "CPU"),
        ("context/tail", "0"),
        ("hvmctx", 2),
        ("image", {"items": []}),
    ],
)
def test_what_cannot_be_is_invalid(change: str, value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(broken(change, value))
