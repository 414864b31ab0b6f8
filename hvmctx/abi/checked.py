"""Reading values of plain JSON. Each helper raises a FieldError that says where, what was
found, and what was expected; however large the value, the message is a line."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress

from hvmctx.abi import fields
from hvmctx.errors import FieldError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    Plain = dict[str, Any]

__all__ = [
    "Disagreement", "agrees", "as_list", "as_object", "as_text", "complete", "integer", "label",
    "number", "placed", "shown", "unhex", "unknown", "within", "word", "wrong",
]  # fmt: skip

_LONGEST = 40
"""Letters of a value in a message."""
_LONGEST_CHOICE = 100
"""Letters of the keys that a message offers."""
_WORDS = {None: "null", True: "true", False: "false"}
_NUMBER = re.compile("-?(0x[0-9a-fA-F]+|[0-9]+)")


class Disagreement(FieldError):
    """Values of the right form that do not fit each other, such as a length and its body: the
    one thing that the JSON Schema cannot tell."""


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


def unhex(value: Any, where: str, size: int | None = None) -> bytes:
    """Bytes of a hex string; `size` of them where that is given."""
    try:
        data = bytes.fromhex(value)
    except (ValueError, TypeError):
        raise wrong(value, where, "a string of hex digits") from None
    if size is not None and len(data) != size:
        raise FieldError(f"{where}: found {len(data)} bytes, expected {size}")
    return data


def integer(value: Any, where: str, width: int) -> int:
    """An integer of at most `width` bits, and not a string of one."""
    if not isinstance(value, int):
        raise wrong(value, where, "a number")
    return number(value, where, width)


def number(value: Any, where: str, width: int, *, signed: bool = False) -> int:
    """An integer, or a string of one in decimal or such as `0x1f`, of at most `width` bits."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        with suppress(ValueError):  # Python reads no decimal of thousands of digits
            value = int(value, 16 if "x" in value else 10)
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong(value, where, "a number")
    if reason := fields.misfit(where, value, width, signed=signed, text=shown(value)):
        raise FieldError(reason)
    return value


def unknown(key: object, known: Iterable[str], where: str = "") -> FieldError:
    """The error for a key that an object of ours does not have. Of many keys, a message has
    those that are most like it."""
    names = list(known)
    offered = ", ".join(names)
    if len(offered) > _LONGEST_CHOICE:
        from difflib import get_close_matches

        close = get_close_matches(str(key)[:_LONGEST], names, cutoff=0.5) or names[:3]
        offered = f"one of {len(names)} such as {', '.join(close)}"
    return FieldError(f"{where}{': ' if where else ''}unknown key {shown(key)}; expected {offered}")


def complete(plain: Plain, needed: Iterable[str], prefix: str = "") -> None:
    """Refuse an object that lacks any of the keys."""
    for key in needed:
        if key not in plain:
            raise FieldError(f"{prefix}{key} is missing")


def agrees(name: str, given: int | None, actual: int, what: str) -> None:
    """Refuse a count that is given and is not that of `what`."""
    if given is not None and given != actual:
        raise Disagreement(f"{name} {given} does not match {actual} bytes of {what}; leave it out")


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


def placed(error: FieldError, where: str) -> FieldError:
    """The error with `where` before its message."""
    return type(error)(f"{where}: {error}") if where else error


@contextmanager
def within(where: str) -> Iterator[None]:
    """Put `where` before the message of a FieldError."""
    try:
        yield
    except FieldError as error:
        raise placed(error, where) from None
