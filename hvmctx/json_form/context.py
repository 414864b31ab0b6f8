"""Contexts as plain dictionaries, lists, numbers and strings, and back without loss.

This is the one definition of the JSON form of a context. Integers are numbers; arrays of
more than 16 bytes, and everything that is only bytes, are hex strings. Whatever a record's
fields would not give back exactly is kept as hex instead, so the way back is exact for
any input.

The way back takes what was edited, and says where it finds anything amiss: a key that there
is not, a field that is missing (reserved ones are zero then), a length that is not that of
the body. `length` and `name` may be left out; `offset` and `damage` are only told.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from ctypes import sizeof

from hvmctx.abi import x86
from hvmctx.abi.declare import RecordType
from hvmctx.abi.fields import Layout
from hvmctx.abi.registry import by_name, by_typecode
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.errors import FieldError, HvmctxError
from hvmctx.json_form import checked
from hvmctx.json_form.checked import number, unhex, within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hvmctx.json_form.checked import Plain

FORMAT = 1
"""Of the JSON form. A reader refuses a higher one."""
LONGEST_LIST = 16
"""Byte arrays up to this length are lists of numbers."""
CONTEXT_KEYS = ("records", "tail", "damage")
RECORD_KEYS = ("name", "typecode", "instance", "length", "offset", "fields", "rest", "body")
_WIDE = 1 << 32


def context_to_plain(context: HvmContext) -> Plain:
    """`records` and `tail` (hex: what follows END, or could not be read), and `damage` in
    words or None."""
    records = [record_to_plain(record) for record in context.entries]
    return {"records": records, **ending_to_plain(context)}


def ending_to_plain(context: HvmContext) -> Plain:
    """`tail` and `damage`: what a context has besides its records."""
    return {
        "tail": bytes(context.tail).hex(),
        "damage": None if context.damage is None else str(context.damage),
    }


def document_of(context: HvmContext) -> Plain:
    """What to-json writes for a bare context, and from-json reads."""
    return {"hvmctx": FORMAT, "context": context_to_plain(context)}


def context_from_plain(plain: Plain) -> HvmContext:
    """The inverse. Raises FieldError for what is no such form."""
    given = checked.members(plain, CONTEXT_KEYS)
    checked.complete(given, ["records"])
    context = HvmContext(
        record_from_plain(entry, f"records[{at}]")
        for at, entry in enumerate(checked.as_list(given["records"], "records"))
    )
    context.tail = unhex(plain.get("tail", ""), "tail")
    return context


def record_to_plain(record: Record) -> Plain:
    """Name, typecode, instance, length, offset, and either `fields`, those of a variable
    part included, and `rest` in hex, what follows them; or `body` in hex."""
    known = record.type
    plain: Plain = {
        "name": record.name,
        "typecode": record.typecode,
        "instance": record.instance,
        "length": record.length,
        "offset": record.offset,
    }
    body = bytes(record.body)
    if known is not None and known.size:
        plain["fields"] = {name: _to_plain(value) for name, value in record.fields().items()}
        rest = _rest_to_plain(known, body[known.size :], plain["fields"])
        if rest:
            plain["rest"] = rest.hex()
        with suppress(FieldError):
            if _body_of(known, plain) == body:
                return plain
        plain = {key: plain[key] for key in ("name", "typecode", "instance", "length", "offset")}
    plain["body"] = body.hex()
    return plain


def record_from_plain(plain: Plain, where: str = "record") -> Record:
    """The inverse. `typecode`, or else `name`, says which record it is. Raises FieldError,
    with `where` in its message."""
    with within(checked.label(where, plain)):
        given = checked.members(plain, RECORD_KEYS)
        typecode = _typecode(given)
        instance = checked.integer(plain.get("instance", 0), "instance", 16)
        known = by_typecode(typecode)
        if known is None or not known.size or "body" in given:
            return _record_of_bytes(typecode, instance, given)
        if "fields" not in given:
            raise FieldError("neither fields nor body")
        return Record(typecode, instance, _body_of(known, given))


def _record_of_bytes(typecode: int, instance: int, given: Plain) -> Record:
    for key in ("fields", "rest"):
        if key in given:
            beside = "together with body" if "body" in given else "in a record that has none"
            raise FieldError(f"{key} {beside}")
    end = typecode == x86.END.typecode
    if not end:
        checked.complete(given, ["body"])
    body = unhex(given.get("body", ""), "body")
    claimed = checked.integer(given.get("length", len(body)), "length", 32)
    if end and claimed > len(body):  # a lie that stands: see record.take_apart
        return Record(typecode, instance, body, length=claimed)
    checked.agrees(given, "length", len(body), "body")
    return Record(typecode, instance, body)


def _typecode(given: Plain) -> int:
    """By `typecode` or `name`, which must agree where there are both."""
    name = given.get("name")
    if name is not None:
        checked.as_text(name, "name")
    if "typecode" not in given:
        if name is None:
            raise FieldError("neither typecode nor name")
        return _typecode_named(name)
    typecode = checked.integer(given["typecode"], "typecode", 16)
    if name is not None and name != f"type {typecode}" and _typecode_named(name) != typecode:
        raise FieldError(
            f"name {checked.shown(name)} does not go with typecode {typecode}; leave it out"
        )
    return typecode


def _typecode_named(name: str) -> int:
    try:
        return by_name(name).typecode
    except HvmctxError:
        raise FieldError(f"no record type is called {checked.shown(name)}") from None


def _body_of(known: RecordType, given: Plain) -> bytes:
    """Of `fields`, `rest`, and `length`: the last may be left out, and says in a record that
    is shorter than its structure how much of it there is."""
    fields = dict(checked.as_object(given["fields"], "fields"))
    length = given.get("length")
    if length is not None:
        checked.integer(length, "length", 32)
    rest = b""
    if known.rest is not None:
        name, element = known.rest
        if name not in fields:
            raise FieldError(f"{name} is missing")
        rest = _elements_from_plain(fields.pop(name), element, name)
    values = _fields_from_plain(known.layout, fields, "", length)
    struct = known.layout.encode(values)
    rest += unhex(given.get("rest", ""), "rest")
    if length is None or length == known.size + len(rest):
        return struct + rest
    if rest or length > known.size:
        checked.agrees(given, "length", known.size + len(rest), "fields")
    return Record(known, 0, bytes(length)).rewritten(struct)


def _rest_to_plain(known: RecordType, rest: bytes, fields: Plain) -> bytes:
    """Add the elements of the variable part to `fields`. Returns what is left behind them."""
    if known.rest is None:
        return rest
    name, element = known.rest
    size = sizeof(element)
    if size == 1:
        fields[name] = rest.hex()
        return b""
    whole = len(rest) // size * size
    layout = Layout.of(element)
    fields[name] = [layout.decode(rest[at : at + size]) for at in range(0, whole, size)]
    return rest[whole:]


def _elements_from_plain(value: Any, element: Any, name: str) -> bytes:
    if sizeof(element) == 1:
        return unhex(value, name)
    layout = Layout.of(element)
    return b"".join(
        layout.encode(_fields_from_plain(layout, entry, f"{name}[{at}]"))
        for at, entry in enumerate(checked.as_list(value, name))
    )


def _fields_from_plain(layout: Layout, value: Any, where: str, length: int | None = None) -> Plain:
    """What `layout.encode` takes. Reserved fields may be left out, and those that lie beyond
    `length`."""
    plain = checked.as_object(value, where)
    prefix = f"{where}." if where else ""
    known = {field.name: field for field in layout.fields if not field.alternate}
    for name in plain:
        if name not in known:
            raise FieldError(f"{prefix}{checked.word(name)}: no such field")
    size = layout.size if length is None else length
    for name, field in known.items():
        if name not in plain and not field.is_reserved and field.offset < size:
            raise FieldError(f"{prefix}{name} is missing")
    return {
        name: _value_from_plain(known[name].ctype, known[name].width, value, f"{prefix}{name}")
        for name, value in plain.items()
    }


def _value_from_plain(ctype: Any, width: int, value: Any, where: str) -> Any:
    if issubclass(ctype, ctypes.Array):
        element = ctype._type_
        if element is ctypes.c_uint8 and isinstance(value, str):
            data = unhex(value, where)
            if len(data) != ctype._length_:
                raise FieldError(f"{where}: found {len(data)} bytes, expected {ctype._length_}")
            return data
        return [
            _value_from_plain(element, 8 * sizeof(element), entry, f"{where}[{at}]")
            for at, entry in enumerate(checked.as_list(value, where, ctype._length_))
        ]
    if issubclass(ctype, (ctypes.Structure, ctypes.Union)):
        return _fields_from_plain(Layout.of(ctype), value, where)
    return number(value, where, width, signed=ctype(-1).value < 0)


def _to_plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return list(value) if len(value) <= LONGEST_LIST else value.hex()
    if isinstance(value, (tuple, list)):
        return [_to_plain(element) for element in value]
    if isinstance(value, dict):
        return {name: _to_plain(element) for name, element in value.items()}
    return value


def widened(value: Any) -> Any:
    """The same plain form with every number of 2^32 and more as a `0x` string, which the
    way back reads too: JSON readers that keep numbers as doubles lose nothing."""
    if isinstance(value, bool) or not isinstance(value, (int, list, dict)):
        return value
    if isinstance(value, int):
        return f"{value:#x}" if abs(value) >= _WIDE else value
    if isinstance(value, list):
        return [widened(element) for element in value]
    return {name: widened(element) for name, element in value.items()}
