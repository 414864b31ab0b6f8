"""VMPORT in the JSON of a context."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from dataclasses_json import DataClassJsonMixin
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from hvmctx.abi.vmport import VmportProfile, using
from hvmctx.context.record import Record
from hvmctx.context.vmport import STATE_FORM, VmportState
from hvmctx.errors import FieldError
from hvmctx.fuzz.vmport import random_record
from hvmctx.json_form.schema import schema
from hvmctx.json_form.vmport import VmportBody
from tests.builders.vmport import PROFILES, busy_state, states

SCHEMA = Draft202012Validator({"$defs": schema()["$defs"], **VmportBody().schema()})


def there_and_back(body: bytes) -> bytes:
    fields, rest = VmportBody().write(Record(21, 0, body), body)
    fields = json.loads(json.dumps(fields))
    SCHEMA.validate({"fields": fields})
    return VmportBody().read(fields, rest, len(body))


@given(st.sampled_from(PROFILES), st.binary(max_size=700), st.booleans())
@example(PROFILES[0], b"", False)
def test_any_bytes(profile: VmportProfile, data: bytes, version: bool) -> None:
    if version:
        data = profile.SAVE_VERSION.to_bytes(4, "little") + data
    with using(profile):
        assert there_and_back(data) == data


@given(st.integers(0, 1 << 32), st.sampled_from(PROFILES))
def test_mutated_records(seed: int, profile: VmportProfile) -> None:
    body = random_record(random.Random(seed), profile)[8:]
    with using(profile):
        assert there_and_back(body) == body


@settings(max_examples=25)
@given(st.sampled_from(PROFILES).flatmap(lambda p: st.tuples(st.just(p), states(p))))
def test_what_a_writer_wrote_is_readable(case: tuple[VmportProfile, VmportState]) -> None:
    """There are no raw bytes in it; dataclasses-json makes the same of the state."""
    profile, state = case
    with using(profile):
        fields, _ = VmportBody().write(Record(21, 0, b""), state.to_bytes())
        assert "raw" not in fields
        plain = DataClassJsonMixin.to_dict(state)  # type: ignore[arg-type]
        assert {name: plain[name] for name in fields} == fields
        assert STATE_FORM.read(plain_members(plain), "") == state


def plain_members(plain: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in plain.items() if name not in ("unparsed", "origin")}


def test_what_does_not_go_with_the_record() -> None:
    fields, _ = VmportBody().write(Record(21, 0, b""), busy_state().to_bytes())
    with pytest.raises(FieldError, match="rest in a record that has none"):
        VmportBody().read(fields, b"x", None)
    with pytest.raises(FieldError, match="length 5 does not match"):
        VmportBody().read(fields, b"", 5)
