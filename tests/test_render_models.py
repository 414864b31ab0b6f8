from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import FieldError, FormatError
from hvmctx.image import open_image
from hvmctx.render.models import ContextModel, Document, ImageModel
from hvmctx.source import is_compressed
from tests.context_samples import streams
from tests.samples import CONTEXTS, DATA, EXAMPLE, IMAGES, STREAMS, context_bytes

ALL = [*IMAGES, EXAMPLE, *STREAMS, *CONTEXTS, *(DATA / "streams" / "handbuilt").glob("*.bin")]


@pytest.mark.parametrize("path", ALL, ids=lambda path: "/".join(path.parts[-2:]))
def test_samples(path: Path) -> None:
    data = path.read_bytes()
    document = Document.of_input(path)
    assert Document.from_text(document.to_text()).to_bytes() == data
    assert Document.from_text(document.to_text(hex_wide=True)).to_bytes() == data
    assert Document.from_json(document.to_json()).to_bytes() == data


@given((st.binary(max_size=200) | streams).filter(lambda data: not is_compressed(data)))
def test_any_context(data: bytes) -> None:
    document = Document.of_input(data, "context")
    assert Document.from_text(document.to_text()).to_bytes() == data


def test_models() -> None:
    model = ContextModel.of(HvmContext.parse(context_bytes()))
    assert model.records[1].name == "CPU" and model.records[1].fields is not None
    model.records[1].fields["rip"] = 0x1234
    assert model.to_context().vcpus[0].cpu.rip == 0x1234
    with open_image(EXAMPLE) as image:
        image_model = ImageModel.of(image)
    assert image_model.items[0].config is not None
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
        '{"context": {"records": 5}}', "[" * 100000,
    ],
)  # fmt: skip
def test_text_that_is_no_document(text: str) -> None:
    with pytest.raises(FieldError):
        Document.from_text(text).to_bytes()


def test_a_refusal_is_short() -> None:
    """dataclasses-json quotes all of what has an undefined member."""
    plain = json.loads(Document.of_input(context_bytes()).to_text())
    with pytest.raises(FieldError, match=r"undefined.*\.\.\.$") as caught:
        Document.from_text(json.dumps(plain["context"]))
    assert 200 < len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        ({}, "neither or both"),
        ({"hvmctx": 2, "context": {"records": []}}, "found form 2, expected 1"),
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
                             "payload", "name", "length", "format"]),
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
