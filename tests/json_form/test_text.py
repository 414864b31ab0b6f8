from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hvmctx.errors import FieldError, LimitError
from hvmctx.json_form.text import _repeated, parsed, pieces
from hvmctx.limits import Limits

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)


def whole(value: Any) -> Any:
    """With lists where `parsed` has iterators."""
    if isinstance(value, dict):
        return {name: whole(entry) for name, entry in value.items()}
    return list(value) if isinstance(value, Iterator) else value


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # of two NaNs too


@given(values, st.booleans())
def test_pieces_are_what_json_writes(value: Any, indented: bool) -> None:
    text = "".join(pieces(value, indented=indented))
    assert text == json.dumps(value, indent=1 if indented else None)
    if isinstance(value, list):
        assert text == "".join(pieces(iter(value), indented=indented))


def test_bytes_are_hex_and_wide_numbers_too() -> None:
    value = {"a": b"\1\xff", "b": memoryview(b""), "c": [1 << 32, (1 << 32) - 1, -1 << 40, True]}
    assert json.loads("".join(pieces(value, hex_wide=True))) == {
        "a": "01ff", "b": "", "c": ["0x100000000", 4294967295, "-0x10000000000", True],
    }  # fmt: skip


def test_pieces_come_one_by_one() -> None:
    """What has been written is not kept, and what is to come has not been made."""
    made = 0

    def records() -> Iterator[dict[str, Any]]:
        nonlocal made
        for _ in range(100):
            made += 1
            yield {"body": bytes(1 << 18)}

    sizes = []
    for piece in pieces({"records": records()}):
        sizes.append(len(piece))
        assert made <= 3 * len(sizes)
    assert len(sizes) > 40 and max(sizes) < 4 << 20
    assert max(map(len, pieces(bytes(5 << 20)))) < 4 << 20


def test_nested_too_deep() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(FieldError, match="nested too deep"):
        list(pieces(value))


@given(st.sampled_from([None, ("context", "records"), ("image", "items")]), values)
@example(("context", "records"), [])
def test_parsed_is_what_json_reads(path: tuple[str, str] | None, value: Any) -> None:
    plain = (
        value if path is None else {"hvmctx": 2, path[0]: {"a": [1], path[1]: value, "tail": ""}}
    )
    for indent in (None, 1):
        text = json.dumps(plain, indent=indent, ensure_ascii=False)
        assert same(whole(parsed(text)), plain)
        try:
            data = text.encode()
        except UnicodeEncodeError:  # half a character
            continue
        assert same(whole(parsed(data)), plain)
        if path is not None and isinstance(value, list):
            assert isinstance(parsed(text)[path[0]][path[1]], Iterator)


@given(st.text(alphabet='{}[]",:1a\\ ', max_size=12), st.sampled_from(["", "context", "records"]))
@example('{"a":1', "")
@example("1,", "records")
@example('{"a" 1}', "context")
@example("{1}", "context")
def test_what_is_no_json(middle: str, where: str) -> None:
    """An error wherever JSON's own reader has one."""
    text = {
        "": middle,
        "context": f'{{"context": {middle}}}',
        "records": f'{{"context": {{"records": [{middle}]}}}}',
    }[where]
    try:
        json.loads(text)
    except ValueError:
        with pytest.raises(FieldError, match=r"not JSON: |given more than once"):
            parsed(text)
        return
    try:
        parsed(text)
    except FieldError as error:
        assert "given more than once" in str(error)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-be"])
def test_one_character_does_not_widen_the_others(encoding: str) -> None:
    """A long text is all ASCII inside, whatever is in it."""
    plain = {"a": "x" * (1 << 20), "b": "é€\U0001f600", "c": ["\u2028", 1]}
    data = json.dumps(plain, ensure_ascii=False).encode(encoding)
    assert parsed(data, Limits(input=1 << 24)) == plain
    with pytest.raises(LimitError, match="--max-size N allows more"):
        parsed(('"' + "é" * (1 << 20) + '"').encode(), Limits(input=4 << 20))
    with pytest.raises(FieldError, match="not JSON"):
        parsed(data[:-1] if encoding != "utf-8" else data[:1000] + b"\xff" + data[1000:])


KEYS = "{" + ",".join(f'"{n:x}":0' for n in range(100)) + "}"


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (KEYS, 200),
        (f'{{"a": {KEYS}}}', 202),
        (f'{{"a": [{"0," * 50}0], "b": [{"[]," * 25}0]}}', 106),
        (f'{{"context": {{"records": [{KEYS}]}}}}', 201),
        ('{"context": {"records": [{"a":{"b":[],"c":0}}]}}', 8),
        ('{"image": {"items": [' + '{"a": [0,0,0]}, ' * 100 + "0]}}", 6),
    ],
)
def test_values_are_counted(text: str, taken: int) -> None:
    """Keys are values too, which take as much memory; those of one record are gone when the
    next is read."""
    for form in (text, text.encode()):
        with pytest.raises(LimitError, match=f"more than {taken - 1} values: --limits json_values"):
            parsed(form, Limits(json_values=taken - 1))
        assert same(whole(parsed(form, Limits(json_values=taken))), json.loads(text))


def test_long_strings_have_no_escapes() -> None:
    """One that needs four bytes for a character makes all of the string take as many."""
    long = "f" * (1 << 20)
    assert parsed(f'{{"a": ["{long}"], "{long}": 1}}') == {"a": [long], long: 1}
    limits = Limits(config=1000)
    for text in ('["%s"]', '"%s"', '{"%s": 0}', '{"context": {"records": [{"%s": 0}]}}'):
        fits = text.replace("%s", "f" * 900 + "\\ud83d\\ude00" + "\\u0000" * 10)
        assert same(whole(parsed(fits, limits)), json.loads(fits))
        with pytest.raises(LimitError, match="more than 1000 bytes of text in a string: --limits"):
            parsed(text.replace("%s", long + "\\ud83d\\ude00"), limits)
        with pytest.raises(FieldError, match="not JSON: Unterminated string"):
            parsed(text.partition("%s")[0] + "\\n" + "f" * 900, limits)


def test_depth_and_records_are_bounded() -> None:
    for opening, closing in ("[]", ('{"a":', "}")):
        text = opening * 20 + "0" + closing * 20
        for around, more in (("%s", 0), ('{"context": {"records": [%s, "]"]}}', 3)):
            whole_text = around % text
            parsed(whole_text, Limits(json_depth=20 + more))
            with pytest.raises(LimitError, match=r"more than .* levels of nested values"):
                parsed(whole_text, Limits(json_depth=19 + more))
    text = '{"image": {"items": [{}, {}, {}]}}'
    assert len(list(parsed(text, Limits(stream_records=3))["image"]["items"])) == 3
    with pytest.raises(LimitError, match="more than 2 records: --limits stream_records=N"):
        parsed(text, Limits(stream_records=2))


def test_a_key_given_twice_is_found_at_once() -> None:
    """Among very many, in one pass: at n * n a document of some MiB would take hours."""
    compared = 0

    class Key(str):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    pairs = [(Key(number), 0) for number in range(1000)]
    assert _repeated([*pairs, (Key(999), 0)]) == "999"
    assert compared < 10
