"""A record type that is declared is known everywhere: nothing counts the record types, or has
a list of them of its own."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from ctypes import c_uint8, c_uint16, c_uint32, c_uint64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from hvmctx import Guest, Release, diff, dumps_json, edit, loads_json, open_image
from hvmctx.abi.declare import VCPU, SaveStructure, declare, declared
from hvmctx.abi.registry import by_name, largest_typecode
from hvmctx.abi.releases import NEWEST
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.fuzz import strategies as xen
from hvmctx.fuzz.contexts import mutate_context
from hvmctx.json_form import schema
from hvmctx.restore.context import load
from tests.builders.running import Run
from tests.builders.samples import context_bytes

TYPECODE = 36
"""Beyond 22 to 34, which Xen's header sets aside."""


class part(SaveStructure):
    _fields_ = [("low", c_uint8, 4), ("high", c_uint8, 4), ("more", c_uint8 * 3)]


class hvm_hw_novel(SaveStructure):
    _fields_ = [
        ("number", c_uint32),
        ("_pad0", c_uint32),
        ("parts", part * 2),
        ("words", c_uint16 * 4),
        ("name", c_uint8 * 40),
    ]


class hvm_one_novel(SaveStructure):
    _fields_ = [("key", c_uint64), ("value", c_uint64)]


@pytest.fixture(autouse=True)
def novel() -> Iterator[None]:
    declare("NOVEL", TYPECODE, hvm_hw_novel, VCPU, ("pairs", hvm_one_novel))
    try:
        yield
    finally:
        del declared[TYPECODE]


def body(number: int = 5) -> bytes:
    fixed = hvm_hw_novel(number=number, name=(c_uint8 * 40)(*b"guest"))
    fixed.parts[1].high = 9
    return bytes(fixed) + bytes(hvm_one_novel(key=1, value=1 << 40))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    context = HvmContext.from_bytes(context_bytes())
    context.add(Record("NOVEL", 0, body()))
    found = tmp_path / "context"
    found.write_bytes(context.to_bytes())
    return found


def test_in_the_library(path: Path) -> None:
    assert by_name("novel").typecode == largest_typecode() == TYPECODE
    with open_image(path) as image:
        context = image.context
        assert repr(context["NOVEL", 0]) == "<Record NOVEL/0 at 0x1008, 80 bytes>"
        assert context.vcpus[0].novel.parts[1].high == 9  # type: ignore[attr-defined]
        assert context["NOVEL"].struct.pairs[0].value == 1 << 40
        assert context["NOVEL"].fields()["parts"][1]["high"] == 9  # type: ignore[index,call-overload]
        assert "novel" in dir(context.vcpus[0])
        context["NOVEL"].struct.number = 6
        assert Record.from_bytes(context["NOVEL"].to_bytes()).body == body(6)
    alone = Record("NOVEL", 0, body()).to_bytes()
    with open_image(alone) as image:  # detected by its typecode
        assert image.context[0].name == "NOVEL"


def test_in_texts_and_tables(path: Path, run: Run) -> None:
    assert "NOVEL" not in run("dump", path).out, "the genuine tool does not know it"
    text = run("dump", path, "--all").out
    for line in ("number 0x5", "parts[1].high 0x9", "words[3] 0", "6775657374"):
        assert line in text, text
    assert "01000000000000000000000000010000" in text  # what is beyond the fixed part
    table = run("dump", path, "--format", "table", "--record", "NOVEL").out
    assert "NOVEL          0      80" in table
    assert "NOVEL" in run("info", path).out


def test_in_json(path: Path, run: Run) -> None:
    with open_image(path) as image:
        text = dumps_json(image.context)
    (plain,) = (one for one in json.loads(text)["context"]["records"] if one["name"] == "NOVEL")
    assert plain["fields"]["parts"][1]["high"] == 9
    assert plain["fields"]["pairs"] == [{"key": 1, "value": 1 << 40}]
    assert loads_json(text) == path.read_bytes()
    changed = text.replace('"number": 5', '"number": 7')
    record = HvmContext.from_bytes(loads_json(changed))["NOVEL"]
    assert record.body == body(7)
    validator = Draft202012Validator(schema.schema())
    validator.validate(json.loads(text))
    assert not validator.is_valid(json.loads(text.replace('"number": 5', '"numbr": 5')))
    lines = run("dump", path, "--format", "ndjson", "--record", "NOVEL").out.splitlines()
    assert json.loads(lines[0])["fields"]["number"] == 5


def test_in_edits_and_differences(path: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("get", path, "NOVEL/0.parts[1].high", "NOVEL.pairs[0].value").out == (
        "0x9\n0x10000000000\n"
    )
    assert run("set", path, "NOVEL.words[2]=3", "NOVEL.pairs[0].key=4", "-o", out).status == 0
    with open_image(path) as one, open_image(out) as other:
        assert [str(difference) for difference in diff(one, other)] == [
            "NOVEL/0.words[2]: 0x0 -> 0x3",
            "NOVEL/0.pairs[0].key: 0x1 -> 0x4",
        ]
        assert edit(other).get("NOVEL/0.words[2]") == 3


def test_in_a_restore(path: Path) -> None:
    """No release knows it: that takes a row in its table, and rules."""
    context = HvmContext.from_bytes(path.read_bytes())
    verdict = load(context.to_bytes(), Release(NEWEST), Guest())
    assert (verdict.rule, verdict.offset) == ("context-type", context["NOVEL"].offset)


@given(st.data())
def test_in_strategies(data: st.DataObject) -> None:
    made = data.draw(xen.records("NOVEL"))
    assert Record.from_bytes(made).typecode == TYPECODE
    assert len(Record.from_bytes(data.draw(xen.records("NOVEL", valid=True))).body) >= 64


def test_in_the_fuzzer() -> None:
    rng = random.Random(1)
    notes = {mutate_context(context_bytes(), rng)[1] for _ in range(2000)}
    assert {"NOVEL inserted"} <= {note.partition(",")[0] for note in notes}
