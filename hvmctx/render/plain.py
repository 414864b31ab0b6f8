"""Contexts as plain dictionaries, lists, numbers and strings, and back without loss.

This is the one definition of the JSON form of a context. Integers are numbers; arrays of
more than 16 bytes, and everything that is only bytes, are hex strings. Whatever a record's
fields would not give back exactly is kept as hex instead, so the way back is exact for
any input.
"""

from __future__ import annotations

from contextlib import suppress
from ctypes import sizeof

from hvmctx.abi import x86
from hvmctx.abi.declare import RecordType, by_typecode
from hvmctx.abi.fields import Layout, shown
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.errors import FieldError, HvmctxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Plain = dict[str, Any]

FORMAT = 1
"""Of the JSON form. A reader refuses a higher one."""
LONGEST_LIST = 16
"""Byte arrays up to this length are lists of numbers."""
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
    records = _typed(plain.get("records", []), list, "records")
    context = HvmContext(record_from_plain(entry) for entry in records)
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


def record_from_plain(plain: Plain) -> Record:
    """The inverse. `typecode`, or else `name`, says which record it is; `length` may be
    left out of one with `fields`. Raises FieldError."""
    plain = _typed(plain, dict, "record")
    typecode = _typecode(plain)
    instance = number(plain.get("instance", 0), "instance", 16)
    known = by_typecode(typecode)
    if "body" in plain or known is None or not known.size:
        body = unhex(plain.get("body", ""), "body")
        claimed = number(plain.get("length", len(body)), "length", 32)
        lies = typecode == x86.END.typecode and claimed > len(body)  # see HvmContext.parse
        return Record(typecode, instance, body, length=claimed if lies else None)
    return Record(typecode, instance, _body_of(known, plain))


def _typecode(plain: Plain) -> int:
    if "typecode" in plain:
        return number(plain["typecode"], "typecode", 16)
    from hvmctx.abi.declare import by_name

    try:
        return by_name(_typed(plain.get("name"), str, "name")).typecode
    except HvmctxError as error:
        raise FieldError(str(error)) from None


def _body_of(known: RecordType, plain: Plain) -> bytes:
    fields = dict(_typed(plain.get("fields", {}), dict, "fields"))
    rest = b""
    if known.rest is not None:
        name, element = known.rest
        rest = _elements_from_plain(fields.pop(name, []), element, name)
    struct = known.layout.encode(_from_plain(fields), f"{known.name}.")
    rest += unhex(plain.get("rest", ""), "rest")
    length = plain.get("length")
    if length is None or length == known.size + len(rest):
        return struct + rest
    length = number(length, "length", 32)
    if rest or length > known.size:
        raise FieldError(
            f"{known.name}: length {length} does not go with {known.size + len(rest)} bytes of "
            "fields; leave it out"
        )
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
        return unhex(value or "", name)
    layout = Layout.of(element)
    return b"".join(
        layout.encode(_from_plain(entry), f"{name}[{index}].")
        for index, entry in enumerate(_typed(value, list, name))
    )


def _to_plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return list(value) if len(value) <= LONGEST_LIST else value.hex()
    if isinstance(value, (tuple, list)):
        return [_to_plain(element) for element in value]
    if isinstance(value, dict):
        return {name: _to_plain(element) for name, element in value.items()}
    return value


def _from_plain(value: Any) -> Any:
    """Hex strings to bytes, `0x` strings to numbers; the layout judges the rest."""
    if isinstance(value, str):
        if value.startswith(("0x", "-0x")):
            return number(value, "a value", None)
        return unhex(value, "a value")
    if isinstance(value, bool):
        raise FieldError(f"found {value}, expected a number")
    if isinstance(value, list):
        return [_from_plain(element) for element in value]
    if isinstance(value, dict):
        return {name: _from_plain(element) for name, element in value.items()}
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


def unhex(text: Any, where: str) -> bytes:
    """Bytes of a hex string. Raises FieldError."""
    try:
        return bytes.fromhex(text)
    except (ValueError, TypeError):
        raise FieldError(f"{where}: found {text!r:.40}, expected a string of hex digits") from None


def number(value: Any, where: str, width: int | None = None) -> int:
    """An integer, or a string that `int(text, 0)` reads, of at most `width` bits. Raises
    FieldError."""
    try:
        result = int(value, 0) if isinstance(value, str) else value
    except ValueError:
        result = None
    if not isinstance(result, int) or isinstance(result, bool):
        raise FieldError(f"{where}: found {value!r:.40}, expected a number")
    if width is not None and not 0 <= result < 1 << width:
        raise FieldError(f"{where} is a {width}-bit field: {shown(result)} does not fit")
    return result


def _typed(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind):
        raise FieldError(f"{where}: found {type(value).__name__}, expected {kind.__name__}")
    return value
