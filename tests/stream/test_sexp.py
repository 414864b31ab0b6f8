from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import FormatError, LimitError
from hvmctx.limits import Limits
from hvmctx.stream.sexp import Atom, parse, places, to_bytes, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.stream.sexp import Sexp

SEXPS: st.SearchStrategy[Sexp] = st.recursive(
    st.binary(max_size=12), lambda part: st.lists(part, max_size=4), max_leaves=20
)


@given(SEXPS)
def test_what_is_written_is_read(value: Sexp) -> None:
    text = to_bytes(value)
    assert parse(text) == value and to_bytes(parse(text)) == text
    assert text.isascii() and text.decode().isprintable()


@given(SEXPS)
def test_atoms_know_where_they_stand(value: Sexp) -> None:
    text, todo = to_bytes(value), [parse(to_bytes(value))]
    while todo:
        part = todo.pop()
        if isinstance(part, Atom):
            assert written(part) == text[part.start : part.end]
        else:
            todo += part


@given(st.lists(st.sampled_from([*b'() ";#|\\ab1\n'])).map(bytes))
def test_any_bytes_are_a_value_or_one_error(text: bytes) -> None:
    try:
        value = parse(text)
    except FormatError as error:
        assert 0 <= error.offset <= len(text) and "not an S-expression" in str(error)
    else:
        assert parse(to_bytes(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"a", b"a"), (b'""', b""), (b" ( a\tb\n) ; end", [b"a", b"b"]),
        (b"(a(b)c)", [b"a", [b"b"], b"c"]),
        (rb'"\n\t\r\b\\\"\'\065\x41\q"', b"\n\t\r\b\\\"'AA\\q"), (b'"a\\\n   b"', b"ab"),
        (b"#| x #| y |# |# a", b"a"), (b"(a #;(b c) d #; e)", [b"a", b"d"]), (b"a#b", b"a#b"),
        (b'a"b c"', None), (b"(a", None), (b"a)", None), (b'"a', None), (b"a b", None), (b"", None),
        (b'"\\256"', None), (b"#| a", None), (b"a#|b", None), (b"(a #;)", None), (b"#;a", None),
    ],
)  # fmt: skip
def test_forms(text: bytes, value: Sexp | None) -> None:
    if value is None:
        with pytest.raises(FormatError, match="not an S-expression"):
            parse(text)
    else:
        assert parse(text) == value


@pytest.mark.parametrize(
    ("atom", "text"),
    [
        (b"", b'""'), (b"a", b"a"), (b"a b", b'"a b"'), (b"a;", b'"a;"'),
        (b"\xff\0", rb'"\255\000"'),
        (b'\n"\\', rb'"\n\"\\"'), (b"#|", b'"#|"'), (b"#;", b'"#;"'),
        (b"2:1_/x.y-z", b"2:1_/x.y-z"),
    ],
)  # fmt: skip
def test_quotes_where_they_must_be(atom: bytes, text: bytes) -> None:
    assert written(atom) == text


def test_paths() -> None:
    text = b'((name "a b")(p((x 1)(x 2)(y.z 3)))(ty(HVM((hap true))))(none())(l(1 2)))'
    found = {
        place.path: (place.value, text[place.start : place.end]) for place in places(parse(text))
    }
    assert found == {
        "name": ("a b", b'"a b"'), "p[0][0]": ("x", b"x"), "p[0][1]": ("1", b"1"),
        "p[1][0]": ("x", b"x"), "p[1][1]": ("2", b"2"), "p[2][0]": ("y.z", b"y.z"),
        "p[2][1]": ("3", b"3"), "ty[0]": ("HVM", b"HVM"), "ty[1].hap": ("true", b"true"),
        "l[0]": ("1", b"1"), "l[1]": ("2", b"2"),
    }  # fmt: skip
    assert [place.path for place in places(parse(b"((a 1)(a 2))"))] == ["a", "a[1]"]
    assert places(parse(b"((" + b"a" * 2000 + b" 1))")) == []


def test_limits() -> None:
    few = Limits(rows=5, json_depth=3)
    assert parse(b"((a b))", few) == [[b"a", b"b"]]
    with pytest.raises(LimitError, match="rows=N"):
        parse(b"(a b c d e)", few)
    with pytest.raises(LimitError, match="json_depth=N"):
        parse(b"(((a)))", few)
    with pytest.raises(LimitError):
        parse(b"(" * 1_000_000)
