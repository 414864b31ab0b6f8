"""How long a record of a context is, and what its descriptor says, as paths: `PIC/0.length`,
`PIC/0.descriptor.length`."""

from __future__ import annotations

from hvmctx.abi import x86
from hvmctx.abi.fields import Layout
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import FieldError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.abi.declare import RecordType
    from hvmctx.context.record import Record
    from hvmctx.limits import Limits

__all__ = ["DESCRIPTOR", "LENGTH", "get_framing", "is_framing", "set_descriptor", "set_length"]

LENGTH = "length"
"""As if it were a field: how long the body is."""
DESCRIPTOR = "descriptor."
"""As if it were a member of the body: typecode, instance and length of the descriptor."""


def is_framing(field: str) -> bool:
    return field == LENGTH or field.startswith(DESCRIPTOR)


def get_framing(context: HvmContext, known: RecordType, instance: int, field: str) -> int:
    """The length of a record, or a number of its descriptor."""
    if field == LENGTH:
        return len(context.record(known, instance).body)
    record = _find(context, known, instance)
    slot = Layout.of(x86.hvm_save_descriptor).locate(field.removeprefix(DESCRIPTOR))
    value = slot.get(x86.DESCRIPTOR.pack(record.typecode, record.instance, record.length))
    assert isinstance(value, int)
    return value


def set_length(record: Record, length: int | bytes, limits: Limits) -> None:
    """Cut off the end of a record, or fill it up with zeros. Raises FieldError for what is no
    length, or more than an input may have."""
    if not isinstance(length, int) or not 0 <= length <= limits.input:
        raise FieldError(f"{record.name}/{record.instance}: {length!r} is not a length")
    record.body = bytes(record.body[:length]).ljust(length, b"\0")


def set_descriptor(
    context: HvmContext, known: RecordType, instance: int, field: str, value: int | bytes,
    limits: Limits,
) -> HvmContext:  # fmt: skip
    """The context with that in the record's descriptor and all other bytes as they are: what
    follows is taken apart anew."""
    found = _find(context, known, instance)
    at = 0
    for record in context.entries:
        if record is found:
            break
        at += len(record.to_bytes())
    data = bytearray(context.to_bytes())
    slot = Layout.of(x86.hvm_save_descriptor).locate(field.removeprefix(DESCRIPTOR))
    part = data[at : at + x86.DESCRIPTOR.size]
    slot.put(part, value)
    data[at : at + x86.DESCRIPTOR.size] = part
    return HvmContext.from_bytes(bytes(data), damaged=True, limits=limits)


def _find(context: HvmContext, known: RecordType, instance: int) -> Record:
    """The record, also if it is cut off: that comes after all others."""
    cut = context.cut_descriptor
    if cut is not None and (cut.typecode, cut.instance) == (known.typecode, instance):
        return cut
    return context.record(known, instance)
