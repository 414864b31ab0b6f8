from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.edit.json_text import JsonText, added, found_at, place_at, removed, replaced
from hvmctx.errors import FieldError, HvmctxError, MissingRecordError, UsageError

TEXT = b"""{
    "c_info": {
        "name": "hvm1",
        "uuid": "\xc3\xa9"
    },
    "disks": [ ],
    "vcpus": [0, {"cpu": 1}],
    "twice": 1, "twice": 2
}
\0"""


def test_all_else_stays_as_it_is() -> None:
    assert replaced(JsonText(TEXT), ["c_info", "name"], "other", "x") == TEXT.replace(
        b"hvm1", b"other"
    )
    assert replaced(JsonText(TEXT), ["vcpus", 1, "cpu"], 7, "x") == TEXT.replace(b": 1}", b": 7}")
    assert replaced(JsonText(TEXT), ["twice"], 3, "x") == TEXT.replace(b": 2", b": 3"), (
        "the last counts"
    )
    start, end = found_at(JsonText(TEXT), ["c_info", "uuid"], "x")
    assert TEXT[start:end] == b'"\xc3\xa9"'


def test_additions_look_as_what_is_there() -> None:
    assert added(JsonText(TEXT), ["c_info", "type"], "hvm", "x") == TEXT.replace(
        b'"\xc3\xa9"', b'"\xc3\xa9",\n        "type": "hvm"'
    )
    assert added(JsonText(TEXT), ["disks", 0], {}, "x") == TEXT.replace(b"[ ]", b"[{} ]")
    assert added(JsonText(TEXT), ["vcpus", 2, "cpu"], 3, "x") == TEXT.replace(
        b"1}]", b'1}, {"cpu": 3}]'
    )
    assert json.loads(added(JsonText(b"{}"), ["a", "b"], [], "x")) == {"a": {"b": []}}


def test_removals_take_a_comma_along() -> None:
    assert removed(JsonText(TEXT), ["c_info", "name"], "x") == TEXT.replace(
        b'"name": "hvm1",\n        ', b""
    )
    assert removed(JsonText(TEXT), ["vcpus", 1], "x") == TEXT.replace(b', {"cpu": 1}', b"")
    assert removed(JsonText(TEXT), ["vcpus", 1, "cpu"], "x") == TEXT.replace(b'"cpu": 1', b"")
    assert b"twice" not in removed(JsonText(TEXT), ["twice"], "x"), "every one of its name"


@pytest.mark.parametrize(
    ("work", "kind"),
    [
        (lambda: found_at(JsonText(TEXT), ["c_info", "nam"], "x"), MissingRecordError),
        (lambda: found_at(JsonText(TEXT), ["disks", 0], "x"), MissingRecordError),
        (lambda: found_at(JsonText(TEXT), ["vcpus", "0"], "x"), MissingRecordError),
        (lambda: removed(JsonText(TEXT), ["nope"], "x"), MissingRecordError),
        (lambda: added(JsonText(TEXT), ["c_info", "name"], 1, "x"), UsageError),
        (lambda: added(JsonText(TEXT), ["c_info", "name", "more"], 1, "x"), UsageError),
        (lambda: added(JsonText(TEXT), ["c_info", 0], 1, "x"), UsageError),
        (lambda: added(JsonText(TEXT), ["vcpus", 5], 1, "x"), UsageError),
        (lambda: added(JsonText(TEXT), ["new", 1], 1, "x"), UsageError),
        (lambda: replaced(JsonText(TEXT), ["twice"], {1, 2}, "x"), FieldError),
        (lambda: found_at(JsonText(b"{"), [], "x"), FieldError),
        (lambda: found_at(JsonText(b"[" * 100_000), [], "x"), FieldError),
        (lambda: found_at(JsonText('{"a": 1}'.encode("utf-16")), ["a"], "x"), FieldError),
    ],
)
def test_what_cannot_be(work: Any, kind: type[HvmctxError]) -> None:
    with pytest.raises(kind):
        work()


def test_a_misspelt_name() -> None:
    with pytest.raises(MissingRecordError, match="did you mean name"):
        found_at(JsonText(TEXT), ["c_info", "nmae"], "x")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.text(), _VALUES, min_size=1), st.booleans(), st.booleans(), st.data())
def test_any_document(
    plain: dict[str, Any], ascii: bool, indent: bool, data: st.DataObject
) -> None:
    """Walked to any value: found, replaced, removed and added as in what the text means."""
    try:
        text = json.dumps(plain, ensure_ascii=ascii, indent=indent or None).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return
    steps: list[Any] = []
    holder: Any = None
    value: Any = plain
    while isinstance(value, (dict, list)) and value and (not steps or data.draw(st.booleans())):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        steps.append(data.draw(st.sampled_from(keys)))
        holder, value = value, value[steps[-1]]
    start, end = found_at(JsonText(text), steps, "x")
    assert json.loads(text[start:end]) == value
    found, *_ = place_at(JsonText(text), start)
    assert found[: len(steps)] == steps
    new = data.draw(_VALUES)
    try:
        json.dumps(new, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    last = steps[-1]
    holder[last] = new
    changed = replaced(JsonText(text), steps, new, "x")
    assert json.loads(changed) == plain
    del holder[last]
    gone = removed(JsonText(changed), steps, "x")
    assert json.loads(gone) == plain
    if isinstance(holder, dict):
        holder[last] = new
        assert json.loads(added(JsonText(gone), steps, new, "x")) == plain


def test_each_list_is_taken_apart_once() -> None:
    """Whatever is asked for in it, and however often."""
    text = JsonText(json.dumps({"list": [{"n": n} for n in range(100)]}).encode())
    first = text.members(text.top)
    for number in range(100):
        start, end = found_at(text, ["list", number, "n"], "x")
        assert text.data[start:end] == str(number).encode()
        assert place_at(text, start) == (["list", number, "n"], start, end)
    assert text.members(text.top) is first
    assert place_at(text, text.data.index(b", {") + 1)[0] == ["list"], "between two"
