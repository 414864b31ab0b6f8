"""Paths into an image: the one language that `diff` prints, and `get` and `set` take.

    PATH      = RECORD ["/" INSTANCE] "." FIELD
    RECORD    = the name of a record type of the HVM context, or HVM_PARAMS; in any case
    INSTANCE  = decimal; 0 where it is left out. Of records that repeat the last is meant,
                as Xen loads it
    FIELD     = NAME { "[" INDEX "]" | "." NAME }   a number, or an array of bytes
              | NAME "[" START ":+" SIZE "]"        1, 2, 4 or 8 bytes of an array, as a number
              | "length"                 of the record: its body cut off, or filled up with zeros
              | "descriptor." NAME       typecode, instance or length: what follows is read anew
              | "guestinfo[" KEY "]" | "guestinfo_jumbo[" KEY "]"   of VMPORT; KEY is text, in
                quotes or not, with \\xNN for a byte that is not printable ASCII
              | the name or the number of a parameter, of HVM_PARAMS

    CPU/0.rip                           a field of a record of the HVM context
    LAPIC_REGS/1.data[0x20:+4]          four bytes of an array, as a number
    CPU_MSR/0.msr[1].val                an element of a variable part
    VMPORT.guestinfo["guestinfo.ip"]    a value of VMPORT's
    HVM_PARAMS.17, HVM_PARAMS.STORE_PFN a parameter

What is inside of EMULATOR_CONTEXT, and in records that another package's handler takes apart,
has paths too: see `edit.contents`.

A value in text is a number (decimal, 0x, or the name of a value where the field has some) or,
for an array of bytes and a guestinfo value, hex digits or text in "quotes".
"""

from __future__ import annotations

from ctypes import sizeof

from hvmctx.abi.declare import RecordType
from hvmctx.abi.fields import Layout, Slot, decimal
from hvmctx.abi.registry import by_name
from hvmctx.errors import FieldError, UsageError

__all__ = ["bytes_of", "field_of", "locate", "record_of", "split_setting", "value_of"]

_EXPECTED = "expected RECORD.FIELD, such as CPU/0.rip"


def field_of(path: str) -> tuple[str, str]:
    """(RECORD/INSTANCE in upper case, FIELD) of a path. Raises UsageError."""
    head, dot, field = path.partition(".")
    if not dot or not field:
        raise UsageError(f"{path}: {_EXPECTED}")
    return head.upper(), field


def record_of(head: str) -> tuple[RecordType, int]:
    """The type and the instance that RECORD/INSTANCE names. Raises UsageError."""
    name, _, instance = head.partition("/")
    known = by_name(name)
    number = decimal(instance or "0")
    if number is None:
        raise UsageError(f"{head}: {instance!r} is not an instance")
    return known, number


def locate(known: RecordType, field: str) -> tuple[Slot, int]:
    """The slot that a field names, and where in the body it counts from: elements of a
    variable part follow the structure. Raises UsageError."""
    if known.rest is not None and field.startswith(f"{known.rest[0]}["):
        name, element = known.rest
        index, bracket, rest = field[len(name) + 1 :].partition("]")
        number = decimal(index)
        if not bracket or number is None:
            raise UsageError(f"{known.name}.{field}: expected {name}[n]")
        base = known.size + number * sizeof(element)
        if sizeof(element) == 1 and not rest:
            return Slot(field, 0, 1, "B"), base
        return Layout.of(element).locate(rest.removeprefix(".")), base
    return known.layout.locate(field), 0


def split_setting(setting: str) -> tuple[str, str]:
    """(PATH, VALUE) of PATH=VALUE: split at the first `=` outside of brackets, as keys may
    hold one, and values may hold anything. Raises UsageError where there is none."""
    inside = quoted = False
    for at, letter in enumerate(setting):
        if letter == '"' and inside:
            quoted = not quoted
        elif letter in "[]" and not quoted:
            inside = letter == "["
        elif letter == "=" and not inside:
            return setting[:at], setting[at + 1 :]
    raise UsageError(f"set: {setting}: expected PATH=VALUE")


def value_of(text: str, path: str) -> int:
    """A number: decimal, 0x, or the name of a value where the field has some (`abi.names`).
    Raises FieldError."""
    try:
        return int(text, 0)
    except ValueError:
        pass
    from hvmctx.abi.names import names_of

    names = names_of(path)
    for number, name in names.items():
        if text.upper() == name.upper():
            return number
    known = f" or one of {', '.join(names.values())}" if names else ""
    raise FieldError(f"{path}: {text[:40]!r} is not a number{known}")


def bytes_of(text: str, path: str) -> bytes:
    """Bytes: hex digits, or text in quotes. Raises FieldError."""
    if text.startswith('"'):
        from hvmctx.context.vmport_slots import from_text

        return from_text(text)
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise FieldError(f'{path}: {text!r} is neither hex digits nor text in "quotes"') from None
