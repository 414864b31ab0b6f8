from __future__ import annotations

import ctypes
from array import array
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hvmctx.abi import forms, x86
from hvmctx.abi.registry import record_types
from hvmctx.errors import FieldError
from tests.builders.examples import few

WIDTHS = (1, 3, 4, 7, 8, 12, 16, 31, 32, 52, 64)
NUMBERS = [forms.Number(width) for width in WIDTHS] + [forms.Number(64, signed=True)]


def accepts(schema: Any, plain: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(plain))


def reads(form: forms.Form, plain: Any) -> bool:
    try:
        form.read(plain, "w")
    except FieldError as error:
        assert str(error).startswith("w") and "\n" not in str(error)
        return False
    return True


@pytest.mark.parametrize("form", NUMBERS, ids=lambda form: f"{form.width}{form.signed}")
@few
@given(st.data())
def test_numbers(form: forms.Number, data: st.DataObject) -> None:
    """A number and the strings of it, around each bound and anywhere: the schema accepts what
    is read, and nothing else."""
    near = st.sampled_from([form.low, 0, form.high]).flatmap(lambda n: st.integers(n - 3, n + 3))
    number = data.draw(near | st.integers(-(1 << 66), 1 << 66) | st.integers(-300, 300))
    sign, digits = "-" if number < 0 else "", abs(number)
    fits = form.low <= number <= form.high
    texts = [f"{digits}", f"00{digits}", f"0x{digits:x}", f"0x{digits:X}", f"0x00{digits:x}"]
    for plain in (number, *(f"{sign}{text}" for text in texts)):
        assert reads(form, plain) == accepts(form.definition(), plain) == fits, plain
        if fits:
            assert form.read(plain, "w") == number


@pytest.mark.parametrize("plain", ["", "0x", "-", "x", "1f", "0b1", "1_0", " 1", "+1", "1.0", "--1",
                                   "-0", "-0x0", "-0x1", 1.5, None, True, [], {}])  # fmt: skip
def test_what_is_no_number(plain: Any) -> None:
    for form in NUMBERS:
        assert reads(form, plain) == accepts(form.definition(), plain), plain


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.text(max_size=4)
    | st.sampled_from(["00", "0A", "0a ff", "0", "xx", " 00 ", "\\x00", "\\", "a\\x1", "k"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
FORMS: dict[str, forms.Form] = {
    "count": forms.Count(8),
    "text": forms.Text(),
    "one of": forms.OneOf("k", "00"),
    "object": forms.Object(),
    "hex": forms.Hex(),
    "hex of two": forms.Hex(2),
    "escaped": forms.Escaped(),
    "list": forms.Listed(forms.Hex()),
    "list of two": forms.Listed(forms.Count(8), 2),
    "octets": forms.Octets(2),
    "members": forms.Members(
        {"a": forms.Text(), "b": forms.Count(8), "c": forms.Hex()}, ["a"], ["b"]
    ),
}


@pytest.mark.parametrize("name", FORMS)
@few
@given(values)
def test_the_schema_says_what_is_read(name: str, plain: Any) -> None:
    form = FORMS[name]
    schema = {**form.schema(), "$defs": {"u8": forms.Number(8).definition()}}
    assert reads(form, plain) == accepts(schema, plain)


@given(st.binary(max_size=20))
@example(b"\\x5c\xff\0")
def test_bytes_there_and_back(data: bytes) -> None:
    for form in (forms.Hex(), forms.Escaped(), forms.Octets(len(data))):
        assert form.read(form.write(data), "w") == data
    assert forms.Escaped().write(b'a "\\\n\xe9') == 'a "\\x5c\\x0a\\xe9'


@pytest.mark.parametrize("known", list(record_types()), ids=lambda known: known.name)
@few
@given(st.data())
def test_structures_there_and_back(known: Any, data: st.DataObject) -> None:
    form = forms.structure_of(known.struct)
    body = data.draw(st.binary(min_size=known.size, max_size=known.size))
    plain = form.write(known.layout.decode(body))
    again = known.layout.encode(form.read(plain, ""))
    assert form.write(known.layout.decode(again)) == plain
    assert form is forms.structure_of(known.struct)


def test_elements_rows_and_words() -> None:
    _, element = x86.CPU_MSR.rest or ("", None)
    data = bytes(range(32))
    entries = forms.elements_of(element)
    plain = entries.write(data)
    assert [list(entry) for entry in plain] == [["index", "_rsvd", "val"]] * 2
    assert entries.read(plain, "w") == data
    assert forms.elements_of(ctypes.c_uint8).write(data) == data.hex()
    row = forms.Row(element)
    assert row.read(row.write((1, 2, 3)), "w") == (1, 2, 3)
    with pytest.raises(FieldError, match=r"^w: val is a 64-bit field: .* does not fit$"):
        row.read([1, 2, 1 << 64], "w")
    with pytest.raises(FieldError, match=r"^w: found a list of 2, expected 3 values$"):
        row.read([1, 2], "w")
    words = forms.Words()
    assert words.read(words.write(array("Q", [1, 2])), "w") == array("Q", [1, 2])


def test_a_key_that_there_is_not() -> None:
    form = FORMS["members"]
    with pytest.raises(FieldError, match=r"^w: unknown key 'x'; expected a, b, c$"):
        form.read({"a": "", "x": 1}, "w")
    with pytest.raises(FieldError, match=r"^w\.a is missing$"):
        form.read({}, "w")
    assert form.read({"a": "", "b": None}, "w") == {"a": ""}
