"""JSON text, without all of it in memory at once: it is written in pieces, and of a document that
is read the records of a context and the items of an image are taken apart one by one.
"""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import suppress
from itertools import repeat
from json import JSONDecodeError
from json.encoder import encode_basestring_ascii as _quoted

from hvmctx.abi import checked
from hvmctx.errors import FieldError
from hvmctx.files.source import CHUNK
from hvmctx.limits import DEFAULT
from hvmctx.messages import TOO_DEEP, why_not_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hvmctx.errors import LimitError
    from hvmctx.limits import Limits

__all__ = ["parsed", "pieces"]

_WIDE = 1 << 32


def pieces(value: Any, *, indented: bool = True, hex_wide: bool = False) -> Iterator[str]:
    """The JSON of a value, as `json.dumps` writes it: indented by one space, or in one line. A
    value may be an iterator, whose entries are asked for when it is their turn, and bytes, which
    become hex. `hex_wide`: numbers of 2^32 and more as `0x` strings, for readers that keep numbers
    as doubles. Raises FieldError for values nested deeper than any form."""
    parts: list[str] = []
    size = 0
    try:
        for token in _tokens(value, "\n" if indented else "", hex_wide):
            parts.append(token)
            size += len(token)
            if size > CHUNK:
                yield "".join(parts)
                parts.clear()
                size = 0
    except RecursionError:
        raise FieldError(TOO_DEEP) from None
    yield "".join(parts)


def _tokens(value: Any, newline: str, wide: bool) -> Iterator[str]:
    text = _scalar(value, wide)
    if text is not None:
        yield text
        return
    if isinstance(value, (bytes, memoryview)):
        yield '"'
        for at in range(0, len(value), CHUNK):
            yield value[at : at + CHUNK].hex()
        yield '"'
        return
    inner = newline and newline + " "
    is_object = isinstance(value, dict)
    opening, closing = "{}" if is_object else "[]"
    before, comma = opening + inner, "," + (inner or " ")
    for name, entry in value.items() if is_object else zip(repeat(""), value):
        if is_object:
            before += f"{_quoted(name)}: "
        text = _scalar(entry, wide)
        if text is not None:
            yield before + text
        else:
            yield before
            yield from _tokens(entry, inner, wide)
        before = comma
    yield newline + closing if before is comma else opening + closing


def _scalar(value: Any, wide: bool) -> str | None:
    """The text of a value that has no others in it, None for any other."""
    if isinstance(value, str):
        return _quoted(value)
    if type(value) is int:
        return f'"{value:#x}"' if wide and abs(value) >= _WIDE else int.__repr__(value)
    if isinstance(value, (dict, list, tuple, bytes, memoryview, Iterator)):
        return None
    return json.dumps(value)


def parsed(text: str | bytes, limits: Limits = DEFAULT) -> Any:
    """What a JSON text says. The records of its context and the items of its image are iterators
    that take each apart anew: that they can be taken apart is known, so that what is raised is
    raised here. Raises FieldError, also for an object that has a key twice, and LimitError."""
    if len(text) > limits.input:
        raise limits.over("input", "bytes", layer="JSON", offset=limits.input)
    try:
        return _Parsing(_decoded(text, limits), limits).document()
    except RecursionError:
        raise FieldError(TOO_DEEP) from None
    except FieldError:
        raise
    except ValueError as error:
        raise FieldError(f"not JSON: {why_not_json(error)}") from None


_BEYOND_ASCII = re.compile("[^\0-\x7f]")


def _decoded(text: str | bytes, limits: Limits) -> str:
    """The text. Beyond a chunk it is all ASCII, with escapes in it: a single other character
    makes each of them take two or four bytes."""
    if isinstance(text, str):
        return text
    encoding = json.detect_encoding(text)
    if len(text) <= CHUNK or (encoding == "utf-8" and text.isascii()):
        return text.decode(encoding, "surrogatepass")
    decoder = getincrementaldecoder(encoding)("surrogatepass")
    found = bytearray()
    for at in range(0, len(text), CHUNK):
        some = decoder.decode(text[at : at + CHUNK], at + CHUNK >= len(text))
        found += _BEYOND_ASCII.sub(lambda one: _quoted(one[0])[1:-1], some).encode()
        if len(found) > limits.input:
            raise limits.over("input", "bytes", layer="JSON", offset=at)
    return found.decode()


_OUTER = ("", "context", "image")
"""The objects whose members are taken apart each by itself, as their names in the document."""
_MANY = ("context.records", "image.items")
_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r'[^"\\]*')
_LONGEST_ESCAPE = len("\\u0001")
_next_mark = re.compile(r'["\[\]{}]').search


class _Parsing:
    """One text being taken apart. What is found in it is bounded before it is made."""

    def __init__(self, text: str, limits: Limits) -> None:
        self._text = text
        self._limits = limits
        self._room = limits.json_values
        self._twice: list[tuple[dict[str, Any], str]] = []
        self._decode = json.JSONDecoder(object_pairs_hook=self._as_dict).raw_decode

    def document(self) -> Any:
        value, at = self._value(self._skip(0), "", 0)
        if at < len(self._text):
            raise JSONDecodeError("Extra data", self._text, at)
        return value

    def _skip(self, at: int) -> int:
        return _after(_SPACE, self._text, at)

    def _next(self, at: int, expected: str, problem: str) -> str:
        """The character there, which must be one of these."""
        found = self._text[at : at + 1]
        if not found or found not in expected:
            raise JSONDecodeError(problem, self._text, at)
        return found

    def _value(self, at: int, name: str, depth: int) -> tuple[Any, int]:
        """The value that starts there, and where the next thing does."""
        opening = self._text[at : at + 1]
        value: Any
        if opening == "{" and name in _OUTER:
            value, end = self._object(at, name, depth + 1)
        elif opening == "[" and name in _MANY:
            value, end = self._list(at, name, depth + 1)
        else:
            self._take(self._values_of(at, depth), at)
            value, end = self._made(at, name)
        return value, self._skip(end)

    def _object(self, at: int, name: str, depth: int) -> tuple[dict[str, Any], int]:
        made: dict[str, Any] = {}
        problem = "Expecting property name enclosed in double quotes"
        at = self._skip(at + 1)
        mark = self._next(at, '"}', problem)
        while mark != "}":
            self._next(at, '"', problem)
            self._end_of_string(at + 1)
            key, at = self._decode(self._text, at)
            at = self._skip(at)
            self._next(at, ":", "Expecting ':' delimiter")
            self._take(1, at)
            if key in made:
                raise _given_twice(name, key)
            inner = f"{name}.{checked.word(key)}" if name else checked.word(key)
            made[key], at = self._value(self._skip(at + 1), inner, depth)
            mark = self._next(at, ",}", "Expecting ',' delimiter")
            if mark == ",":
                at = self._skip(at + 1)
        return made, at + 1

    def _list(self, at: int, name: str, depth: int) -> tuple[Iterator[Any], int]:
        starts: list[int] = []
        at = self._skip(at + 1)
        mark = self._text[at : at + 1]
        while mark != "]":
            if len(starts) >= self._limits.stream_records:
                raise self._limits.over("stream_records", "records", layer="JSON", offset=at)
            starts.append(at)
            if self._values_of(at, depth) > self._limits.json_values:
                raise self._too_many(at)
            _, at = self._made(at, f"{name}[{len(starts) - 1}]")
            at = self._skip(at)
            mark = self._next(at, ",]", "Expecting ',' delimiter")
            if mark == ",":
                at = self._skip(at + 1)
        return (self._decode(self._text, start)[0] for start in starts), at + 1

    def _made(self, at: int, name: str) -> tuple[Any, int]:
        """The value that starts there, and where it ends."""
        value, end = self._decode(self._text, at)
        if self._twice:
            made, key = self._twice[0]
            raise _given_twice(_place_of(made, value, name), key)
        return value, end

    def _take(self, values: int, at: int) -> None:
        """Of what stays in memory."""
        self._room -= values
        if self._room < 0:
            raise self._too_many(at)

    def _too_many(self, at: int) -> LimitError:
        return self._limits.over("json_values", "values", layer="JSON", offset=at)

    def _values_of(self, at: int, depth: int) -> int:
        """As many values and keys as the one that starts there may have: those within strings
        count too, so there may be fewer. A key takes as much memory as a value does."""
        opening = self._text[at : at + 1]
        if opening == '"':
            self._end_of_string(at + 1)
        if opening not in ("{", "["):
            return 1
        end = self._end_of(at, depth)
        return 1 + sum(self._text.count(mark, at, end) for mark in ("[", "{", ",", ":"))

    def _end_of(self, at: int, outer: int) -> int:
        """Where a list or an object ends, or can no longer be one. Raises LimitError for values
        nested deeper than `limits` allow."""
        depth = outer
        while (mark := _next_mark(self._text, at)) is not None:
            at = mark.end()
            if mark[0] == '"':
                at = self._end_of_string(at)
            elif mark[0] in "[{":
                depth += 1
                if depth > self._limits.json_depth:
                    raise self._limits.over(
                        "json_depth", "levels of nested values", layer="JSON", offset=at
                    )
            else:
                depth -= 1
                if depth == outer:
                    return at
        return len(self._text)

    def _end_of_string(self, at: int) -> int:
        """The same of a string whose first character is there. Raises LimitError for a long one
        that has escapes: one of them can make each character take four bytes."""
        escape = _after(_PLAIN, self._text, at)
        if self._text[escape : escape + 1] == '"':
            return escape + 1
        start = at - 1
        for size in (1 << 10, 1 << 16, _LONGEST_ESCAPE * self._limits.config + 2):
            with suppress(JSONDecodeError):
                return start + self._decode(self._text[start : start + size], 0)[1]
            if start + size >= len(self._text):
                return len(self._text)
        raise self._limits.over("config", "bytes of text in a string", layer="JSON", offset=start)

    def _as_dict(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            self._twice.append((made, _repeated(pairs)))
        return made


def _after(any_number: re.Pattern[str], text: str, at: int) -> int:
    """Where the characters end that match."""
    found = any_number.match(text, at)
    assert found is not None
    return found.end()


def _given_twice(where: str, key: str) -> FieldError:
    place = where or "the document"
    return FieldError(f"{place}: the key {checked.shown(key)} is given more than once")


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    """The first key that has been there before."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _place_of(wanted: Any, plain: Any, name: str) -> str:
    """Where in the document an object stands that is in the value of that name."""
    left = [(name, plain)]
    while left:
        where, value = left.pop()
        if value is wanted:
            return where
        if isinstance(value, dict):
            dot = "." if where else ""
            left += [(f"{where}{dot}{checked.word(key)}", entry) for key, entry in value.items()]
        elif isinstance(value, list):
            left += [(f"{where}[{at}]", entry) for at, entry in enumerate(value)]
    return "an object"  # within one that is given twice itself
