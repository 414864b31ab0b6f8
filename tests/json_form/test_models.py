from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.errors import FieldError, InputError
from hvmctx.json_form.models import ContextModel, RecordModel
from tests.builders.samples import context_bytes


def test_dataclasses_json_makes_the_same() -> None:
    """What the lists are written by, for speed, is what `to_dict` of each model gives."""
    model = ContextModel.of(HvmContext.from_bytes(context_bytes() + b"tail", damaged=True))
    plain: dict[str, Any] = model.to_dict()
    assert plain == ContextModel.FORM.write(model)
    assert plain["records"] == [record.to_dict() for record in model.records]
    assert plain["tail"] == b"tail".hex() and plain["damage"] is None
    assert ContextModel.from_dict(plain) == model == ContextModel.from_json(model.to_json())
    assert [RecordModel.from_dict(record) for record in plain["records"]] == model.records


def test_a_record() -> None:
    model = RecordModel(name="tsc_adjust", fields={"tsc_adjust": 5})
    assert model.to_record().to_bytes() == Record("TSC_ADJUST", 0, b"\5" + bytes(7)).to_bytes()
    assert model.to_dict() == {"name": "tsc_adjust", "instance": 0, "fields": {"tsc_adjust": 5}}
    assert RecordModel(typecode=99, body=b"\1").to_record().body == b"\1"


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        ({"typecode": 1, "feilds": {}}, "unknown key 'feilds'; expected name, typecode, "),
        ({"typecode": 1.9}, "typecode: found 1.9, expected a number"),
        ({"instance": None}, "instance: found null, expected a number"),
        ([["typecode", 1]], "found a list of 1, expected an object"),
    ],
)
def test_what_dataclasses_json_would_coerce(plain: Any, reason: str) -> None:
    with pytest.raises(FieldError, match=f"^{reason}"):
        RecordModel.from_dict(plain)


def test_without_dataclasses_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dataclasses_json", None)
    monkeypatch.delitem(sys.modules, "hvmctx.json_form.models")
    with pytest.raises(InputError, match="pip install dataclasses-json"):
        importlib.import_module("hvmctx.json_form.models")
