from __future__ import annotations

import doctest
import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi.forms import structure_of
from hvmctx.abi.vmport import used
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.errors import FieldError, FormatError, LimitError
from hvmctx.files.opening import is_compressed
from hvmctx.image.image import open_image
from hvmctx.json_form import document as document_module
from hvmctx.json_form.context import FORMAT, OLDEST
from hvmctx.json_form.document import ContextModel, Document, ImageModel, dumps_json, loads_json
from hvmctx.json_form.image import HeaderModel
from hvmctx.limits import DEFAULT, Limits
from tests.builders.contexts import any_contexts
from tests.builders.samples import CONTEXTS, DATA, EXAMPLE, IMAGES, ROOT, STREAMS, context_bytes
from tests.builders.vmport import busy_state

ALL = [*IMAGES, EXAMPLE, *STREAMS, *CONTEXTS, *(DATA / "streams" / "handbuilt").glob("*.bin")]


@pytest.mark.parametrize("path", ALL, ids=lambda path: "/".join(path.parts[-2:]))
def test_samples(path: Path) -> None:
    data = path.read_bytes()
    document = Document.of_input(path)
    assert Document.from_text(document.to_text()).to_bytes() == data
    assert Document.from_text(document.to_text(hex_wide=True)).to_bytes() == data
    assert Document.from_json(document.to_json()).to_bytes() == data


@given((st.binary(max_size=200) | any_contexts).filter(lambda data: not is_compressed(data)))
def test_any_context(data: bytes) -> None:
    document = Document.of_input(data, "context")
    assert Document.from_text(document.to_text()).to_bytes() == data


def test_models() -> None:
    model = ContextModel.of(HvmContext.from_bytes(context_bytes()))
    assert model.records[1].name == "CPU" and model.records[1].fields is not None
    model.records[1].fields["rip"] = 0x1234
    assert model.to_context().vcpus[0].cpu.rip == 0x1234
    with open_image(EXAMPLE) as image:
        image_model = ImageModel.of(image)
    first = image_model.items[0]
    assert isinstance(first, HeaderModel) and first.config is not None
    assert image_model.to_bytes() == EXAMPLE.read_bytes()


def test_what_can_be_read_only_once() -> None:
    document = Document.of_input(gzip.compress(EXAMPLE.read_bytes()))
    assert document.to_bytes() == EXAMPLE.read_bytes()


def test_legacy_is_refused() -> None:
    with pytest.raises(FormatError, match="convert it first"):
        Document.of_input(DATA / "streams" / "legacy_hvm_w64.in.bin")


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "5", "[]", "null", '"x"', '{"bogus": 1}', '{"context": 5}', '{"image": {}}',
        '{"context": {"records": [{"typecode": 1, "bogus": 2}]}}',
        '{"context": {"records": 5}}', "[" * 90,
    ],
)  # fmt: skip
def test_text_that_is_no_document(text: str) -> None:
    with pytest.raises(FieldError):
        Document.from_text(text).to_bytes()


def small() -> Any:
    """A context of one record, and one that is unknown."""
    record = {"typecode": 19, "instance": 0, "fields": {"tsc_adjust": 1}}
    return {"hvmctx": 2, "context": {"records": [record, {"typecode": 99, "body": "00"}]}}


def changed(path: str, value: Any) -> Any:
    plain = place = small()
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("/"))
    for step in steps:
        place = place[step]
    place[last] = value
    return plain


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("hvmctx", 1.5, "hvmctx: found 1.5, expected a number"),
        ("hvmctx", True, "hvmctx: found true, expected a number"),
        ("hvmctx", None, "hvmctx: found null, expected a number"),
        ("hvmctx", 1 << 70, "hvmctx: found form 0x400000000000000000, expected 1 to 2; a newer"),
        ("records", [], "unknown key 'records'; expected hvmctx, context, image"),
        ("context", [], "context: found a list of 0, expected an object"),
        ("context/records", "", "context: records: found '', expected a list"),
        ("context/records", {}, "context: records: found an object, expected a list"),
        ("context/records", None, "context: records: found null, expected a list"),
        ("context/tail", 12345678, "context: tail: found 12345678, expected a string"),
        ("context/tial", "", "context: unknown key 'tial'; expected records, tail, damage"),
        ("context/damage", 1, "context: damage: found 1, expected a string"),
        ("context/records/0", 5, r"context: records\[0\]: found 5, expected an object"),
        ("context/records/0/instance", 1.9, r"context: records\[0\] type 19: instance: found 1.9"),
        ("context/records/0/instance", "0", r"context: records\[0\] type 19: instance: found '0'"),
        ("context/records/0/typecode", 1.5, r"records\[0\]: typecode: found 1.5, expected a num"),
        ("context/records/0/fields", "00", "fields: found '00', expected an object"),
        (
            "context/records/0/feilds",
            {},
            r"records\[0\] type 19/0: unknown key 'feilds'; expected name, t",
        ),
        (
            "context/records/0/fields/rip",
            1,
            r"records\[0\] type 19/0: unknown key 'rip'; expected tsc_adjust",
        ),
        ("context/records/0/fields", None, "context: .*found neither fields nor body"),
        ("context/records/0/name", "HPET", "name 'HPET' does not match typecode 19"),
        ("context/records/1/body", 12, r"context: records\[1\] type 99: body: found 12, expected"),
        ("context/records/1/fields", {"x": 1}, "found both fields and body, expected one of them"),
        ("context/records/1/length", 2, "length 2 does not match 1 bytes of body; leave it out"),
    ],
)
def test_values_of_another_type_or_place(path: str, value: Any, reason: str) -> None:
    """dataclasses-json would make of many of them what it can."""
    with pytest.raises(FieldError, match=reason) as caught:
        Document.from_text(json.dumps(changed(path, value))).to_bytes()
    assert len(str(caught.value)) < 200
    with pytest.raises(FieldError, match=reason):
        Document.from_json(json.dumps(changed(path, value))).to_bytes()


def test_what_may_be_left_out() -> None:
    data = Document.from_text(json.dumps(small())).to_bytes()
    assert data == HvmContext.from_bytes(data, damaged=True).to_bytes() and len(data) == 16 + 9
    plain = small()
    plain.pop("hvmctx")
    del plain["context"]["records"][0]["instance"]
    plain["context"]["records"][0].update(name="tsc_adjust", typecode=None, length=None)
    plain["context"]["damage"] = "of what it was made from"
    assert Document.from_text(json.dumps(plain)).to_bytes() == data


def test_items() -> None:
    plain = json.loads(Document.of_input(EXAMPLE).to_text())
    at = next(i for i, x in enumerate(plain["image"]["items"]) if x.get("name") == "HVM_CONTEXT")
    cpu = plain["image"]["items"][at]["payload"]["records"][1]
    cpu["feilds"] = cpu.pop("fields")
    where = rf"^image: items\[{at}\] HVM_CONTEXT: records\[1\] CPU/0: unknown key 'feilds'; expected name"
    with pytest.raises(FieldError, match=where):
        Document.from_text(json.dumps(plain)).to_bytes()
    plain["image"]["items"][at]["payload"] = []
    with pytest.raises(
        FieldError, match=rf"image: items\[{at}\] HVM_CONTEXT: payload: found a list"
    ):
        Document.from_text(json.dumps(plain))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            '{"hvmctx": 1, "hvmctx": 1, "context": {"records": []}}',
            "the document: the key 'hvmctx' is",
        ),
        (
            '{"context": {"records": [{"typecode": 2, "instance": 1, "instance": 1}]}}',
            r"context\.records\[0\]: the key 'instance' is given more than once",
        ),
        (
            '{"context": {"records": [{"fields": {"rip": 1, "rip": 2}}]}}',
            r"\[0\]\.fields: the key 'rip'",
        ),
        ('{"a": {"b": 1, "b": 2}, "a": 1}', "the key 'b' is given more than once"),
        ("[]", "the document: found a list of 0, expected an object"),
        ('{"context": {"records": [NaN]}}', r"records\[0\]: found nan, expected an object"),
        ("{", "not JSON: Expecting property name"),
        (b"\xff{}", "not JSON: "),
        ("1" * 5000, "not JSON: a number has too many digits|found "),
    ],
)
def test_text(text: str, reason: str) -> None:
    with pytest.raises(FieldError, match=reason) as caught:
        Document.from_text(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("depth", [5, 50, 300, 480, 700, 900, 3000, 100_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_depth(opening: str, depth: int) -> None:
    """Whether it is the JSON reader that gives up, or one of ours."""
    value = opening * depth + "0" + ("]" if opening == "[" else "}") * depth
    for text in (
        value,
        '{"context": %s}',
        '{"context": {"records": %s}}',
        '{"context": {"records": [{"typecode": 2, "fields": %s}]}}',
        '{"context": {"records": [{"typecode": 2, "fields": {"rip": %s}}]}}',
        '{"image": {"format": "xl", "items": [{"layer": "libxc", "type": 8, "payload": %s}]}}',
        '{"image": {"format": "xl", "items": [{"layer": "libxc", "type": 9, "payload":'
        ' {"records": [{"typecode": 2, "fields": {"rip": %s}}]}}]}}',
        '{"image": {"format": "xl", "items": [{"layer": "xl", "header": "header", "fields": %s}]}}',
    ):
        for limits in (DEFAULT, Limits(json_depth=1 << 20)):
            with pytest.raises((FieldError, LimitError)):
                Document.from_text(text.replace("%s", value), limits).to_bytes()


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        ({}, "neither or both"),
        (
            {"hvmctx": 3, "context": {"records": []}},
            "found form 3, expected 1 to 2; a newer hvmctx reads it",
        ),
        ({"hvmctx": 3, "of": "later"}, "found form 3, expected 1 to 2; a newer hvmctx reads it"),
        ({"context": {"records": []}, "image": {"format": "xl", "items": []}}, "neither or both"),
    ],
)
def test_documents_that_say_too_little_or_much(plain: Any, reason: str) -> None:
    with pytest.raises(FieldError, match=reason):
        Document.from_text(json.dumps(plain)).to_bytes()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["hvmctx", "context", "image", "records", "items", "typecode",
                             "instance", "fields", "body", "tail", "layer", "type", "header",
                             "payload", "name", "length", "format", "rest", "padding", "config"]),
            inner, max_size=6,
        ),
        max_leaves=20,
    )
)  # fmt: skip
def test_any_json(plain: Any) -> None:
    try:
        Document.from_text(json.dumps(plain)).to_bytes()
    except FieldError as error:
        assert "\n" not in str(error)


def test_form_1() -> None:
    """What 0.1.0 wrote: a VMPORT record by the fields of its structure."""
    body = busy_state().to_bytes()
    data = HvmContext([Record("VMPORT", 0, body), Record("END", 0)]).to_bytes()
    known = used().record_type
    fields = structure_of(known.struct).write(known.decode(body[: known.size]))
    fields["packed_data"] = body[known.size :].hex()
    record = {"name": "VMPORT", "typecode": 21, "length": len(body), "fields": fields}
    old = {"hvmctx": 1, "context": {"records": [record, {"name": "END"}]}}
    document = Document.from_dict(old)
    assert document.to_bytes() == data and json.loads(document.to_text())["hvmctx"] == 2
    fields["chans"][0]["bogus"] = 1
    reason = r"^context: a VMPORT record of form 1: chans\[0\]: unknown key 'bogus'; expected one of 13 such as active_"
    with pytest.raises(FieldError, match=reason):
        Document.from_text(json.dumps(old))
    with pytest.raises(LimitError, match="more than 100 levels of nested values"):
        Document.from_text('{"hvmctx": 1, "context": %s}' % ('{"a":' * 900 + "0" + "}" * 900))


@pytest.mark.parametrize("path", [EXAMPLE, *CONTEXTS[::9]], ids=lambda path: path.name)
def test_dumps_and_loads(path: Path) -> None:
    with open_image(path) as image:
        text = dumps_json(image)
        assert text == dumps_json(path) and loads_json(text) == path.read_bytes()
        context = image.context
    assert loads_json(dumps_json(context, hex_wide=True)) == context.to_bytes()


def test_the_docstrings_examples() -> None:
    names = {"HvmContext": HvmContext, "Record": Record, **vars(document_module)}
    for function in (dumps_json, loads_json):
        for test in doctest.DocTestFinder().find(function, globs=names):
            assert test.examples and doctest.DocTestRunner().run(test).failed == 0


def page() -> str:
    return (ROOT / "docs" / "json.md").read_text()


def test_the_page_shows_what_is_written() -> None:
    context = HvmContext([Record("TSC_ADJUST", 0, b"\5" + bytes(7)), Record("END", 0)])
    data = context.to_bytes()
    written, by_hand = re.findall(r"```json\n(.*?)```", page(), re.DOTALL)
    assert written == dumps_json(HvmContext.from_bytes(data))
    assert loads_json(written) == loads_json(by_hand) == data


def test_the_page_names_every_form() -> None:
    forms = [int(number) for number in re.findall(r"^\| (\d+) \|", page(), re.MULTILINE)]
    assert forms == list(range(OLDEST, FORMAT + 1))


def calls_for(count: int) -> int:
    """How many calls, Python's and C's, it takes to write and read that many records."""
    records = [Record(99, number & 0xFFFF) for number in range(count)]
    data = HvmContext([*records, Record("END", 0)]).to_bytes()
    calls = 0

    def counting(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(counting)
    try:
        assert loads_json(dumps_json(data, layer="context")) == data
    finally:
        sys.setprofile(None)
    return calls


def test_work_grows_with_records() -> None:
    calls_for(10)  # what is made once
    few, many = calls_for(1000), calls_for(2000)
    assert many < 2.1 * few
