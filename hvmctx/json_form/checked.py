"""Reading values of plain JSON. Each helper raises a FieldError that says where, what was
found, and what was expected; however large the value, the message is a line."""

from __future__ import annotations

from contextlib import contextmanager

from hvmctx.abi import fields
from hvmctx.errors import FieldError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    Plain = dict[str, Any]

_LONGEST = 40
"""Letters of a value in a message."""
_WORDS = {None: "null", True: "true", False: "false"}


def shown(value: Any) -> str:
    """A value in a few letters, as JSON says it. What is inside of lists and objects is not
    looked at: it may be large, or deep."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool):
        text = f"{value}" if abs(value) < 1 << 64 else fields.shown(value)
    elif isinstance(value, str):
        text = repr(value[:_LONGEST])
    else:
        text = repr(value) if isinstance(value, float) else _WORDS.get(value, repr(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def word(text: str) -> str:
    """A name in a message, with no more than a few letters of it."""
    return repr(text[:_LONGEST])[1:-1]


def wrong(value: Any, where: str, expected: str) -> FieldError:
    """The error for a value of the wrong kind."""
    return FieldError(f"{where}{': ' if where else ''}found {shown(value)}, expected {expected}")


def as_object(value: Any, where: str = "") -> Plain:
    if not isinstance(value, dict):
        raise wrong(value, where, "an object")
    return value


def as_list(value: Any, where: str, count: int | None = None) -> list[Any]:
    """A list, of `count` values where that is given."""
    if not isinstance(value, (list, tuple)):
        raise wrong(value, where, "a list")
    if count is not None and len(value) != count:
        raise wrong(value, where, f"{count} values")
    return list(value)


def as_text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise wrong(value, where, "a string")
    return value


def unhex(value: Any, where: str) -> bytes:
    """Bytes of a hex string."""
    try:
        return bytes.fromhex(value)
    except (ValueError, TypeError):
        raise wrong(value, where, "a string of hex digits") from None


def integer(value: Any, where: str, width: int) -> int:
    """An integer of at most `width` bits, and not a string of one."""
    if not isinstance(value, int):
        raise wrong(value, where, "a number")
    return number(value, where, width)


def number(value: Any, where: str, width: int, *, signed: bool = False) -> int:
    """An integer, or a string that `int(text, 0)` reads, of at most `width` bits."""
    try:
        result = int(value, 0) if isinstance(value, str) else value
    except ValueError:
        result = None
    if not isinstance(result, int) or isinstance(result, bool):
        raise wrong(value, where, "a number")
    if reason := fields.misfit(where, result, width, signed=signed, text=shown(result)):
        raise FieldError(reason)
    return result


def members(value: Any, known: Iterable[str]) -> Plain:
    """What an object holds besides nulls, which count as left out. It may have the keys in
    `known` and no others."""
    plain = as_object(value)
    known = tuple(known)
    for key in plain:
        if key not in known:
            raise FieldError(f"{shown(key)} is none of {', '.join(known)}")
    return {key: entry for key, entry in plain.items() if entry is not None}


def complete(plain: Plain, needed: Iterable[str]) -> None:
    """Refuse an object that lacks any of the keys."""
    for key in needed:
        if key not in plain:
            raise FieldError(f"{key} is missing")


def agrees(plain: Plain, key: str, actual: int, what: str) -> None:
    """Refuse a count that is given and is not that of `what`."""
    if key in plain and integer(plain[key], key, 32) != actual:
        raise FieldError(
            f"{key} {plain[key]} does not go with {actual} bytes of {what}; leave it out"
        )


def label(where: str, plain: Any) -> str:
    """What a message calls an entry of a list: `records[3] CPU/0`, `items[7] HVM_CONTEXT`."""
    if not isinstance(plain, dict):
        return where
    name = next((plain[key] for key in ("name", "header") if isinstance(plain.get(key), str)), "")
    kind = plain.get("typecode", plain.get("type"))
    if not name and not isinstance(kind, int):
        return where
    instance = plain.get("instance")
    number = f"/{shown(instance)}" if isinstance(instance, int) else ""
    return f"{where} {word(name) or f'type {shown(kind)}'}{number}"


@contextmanager
def within(where: str) -> Iterator[None]:
    """Put `where` before the message of a FieldError."""
    try:
        yield
    except FieldError as error:
        raise FieldError(f"{where}: {error}" if where else str(error)) from None
