from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import checked
from hvmctx.errors import FieldError
from tests.builders.examples import few

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), (False, "false"), (7, "7"), (-7, "-7"), (1.5, "1.5"),
        ("x", "'x'"), ({"a": 1}, "an object"), ([1, [2]], "a list of 2"), ((), "a list of 0"),
        ("x" * 100, "'" + "x" * 39 + "..."),
    ],
)  # fmt: skip
def test_shown(value: Any, text: str) -> None:
    assert checked.shown(value) == text


@few
@given(plain_values | st.integers(0, 5000).map(lambda bits: 1 << bits))
def test_any_value_is_shown_in_a_few_letters(value: Any) -> None:
    text = checked.shown(value)
    assert 0 < len(text) <= 43 and "\n" not in text


Read = Callable[[Any], Any]
READERS: dict[str, tuple[Read, Any, Any, str]] = {
    "object": (lambda v: checked.as_object(v, "w"), {"a": 1}, [], "w: found a list of 0, expected an object"),
    "list": (lambda v: checked.as_list(v, "w"), [1, 2], {}, "w: found an object, expected a list"),
    "list of two": (lambda v: checked.as_list(v, "w", 2), [1, 2], [1], "w: found a list of 1, expected 2 values"),
    "text": (lambda v: checked.as_text(v, "w"), "x", 5, "w: found 5, expected a string"),
    "integer": (lambda v: checked.integer(v, "w", 8), 255, "255", "w: found '255', expected a number"),
    "integer, not true": (lambda v: checked.integer(v, "w", 8), 0, True, "w: found true, expected a number"),
    "number": (lambda v: checked.number(v, "w", 8), 0, "x", "w: found 'x', expected a number"),
    "number of bits": (lambda v: checked.number(v, "w", 8), 255, 256, "w is an 8-bit field: 256 does not fit"),
    "number from 0": (lambda v: checked.number(v, "w", 8), 0, -1, "w is an 8-bit field: -1 does not fit"),
    "signed number": (lambda v: checked.number(v, "w", 8, signed=True), -128, 128, "w is a signed 8-bit field: 128 does not fit"),
    "nowhere": (checked.as_object, {}, 5, "found 5, expected an object"),
}  # fmt: skip


@pytest.mark.parametrize("case", READERS)
def test_what_is_read_and_what_is_refused(case: str) -> None:
    read, good, bad, reason = READERS[case]
    assert read(good) == good
    with pytest.raises(FieldError) as caught:
        read(bad)
    assert str(caught.value) == reason


def test_other_forms_of_the_same() -> None:
    assert checked.as_list((1, 2), "w") == [1, 2]
    assert checked.number("0x10", "w", 8) == checked.number("16", "w", 8) == 16
    for text, data in (("0aFF", b"\n\xff"), ("", b""), ("0a ff", b"\n\xff")):
        assert checked.unhex(text, "w") == data
    for wrong in ("0", "xx", 5, None):
        with pytest.raises(FieldError, match=r"^w: found .*, expected a string of hex digits$"):
            checked.unhex(wrong, "w")


@given(st.binary(max_size=40), st.integers(0, (1 << 64) - 1))
def test_what_is_written_is_read(data: bytes, number: int) -> None:
    assert checked.unhex(data.hex(), "w") == data
    for form in (number, str(number), hex(number)):
        assert checked.number(form, "w", 64) == number


def test_what_must_be_there() -> None:
    checked.complete({"a": None}, ("a",))
    with pytest.raises(FieldError, match=r"^b is missing$"):
        checked.complete({"a": 1}, ("a", "b"))


def test_counts_that_agree() -> None:
    checked.agrees("length", 5, 5, "body")
    checked.agrees("length", None, 5, "body")
    reason = r"^length 4 does not match 5 bytes of body; leave it"
    with pytest.raises(checked.Disagreement, match=reason):
        checked.agrees("length", 4, 5, "body")


@pytest.mark.parametrize(
    ("plain", "text"),
    [
        ({"name": "CPU", "instance": 0}, "r[3] CPU/0"), ({"header": "image header"}, "r[3] image header"),
        ({"typecode": 99, "instance": 1}, "r[3] type 99/1"), ({"type": 8}, "r[3] type 8"),
        ({}, "r[3]"), (5, "r[3]"), ({"name": 5}, "r[3]"), ({"name": "a\nb"}, r"r[3] a\nb"),
    ],
)  # fmt: skip
def test_labels(plain: Any, text: str) -> None:
    assert checked.label("r[3]", plain) == text


def test_within() -> None:
    reason = r"^items\[2\]: body: found 5, expected a list$"
    with pytest.raises(FieldError, match=reason), checked.within("items[2]"):
        checked.as_list(5, "body")
    with pytest.raises(ZeroDivisionError), checked.within("items[2]"):
        _ = 1 // 0
