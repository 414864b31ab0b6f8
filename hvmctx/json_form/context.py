"""Contexts as plain dictionaries, lists, numbers and strings: lossless.

Integers are numbers; what is only bytes is a hex string. A record has its fields if they give
its very body back, and its body in hex if not, so that nothing of any input is lost.
`json_form.models` has the way back.
"""

from __future__ import annotations

from contextlib import suppress
from ctypes import sizeof
from functools import lru_cache

from hvmctx.abi import checked
from hvmctx.abi.checked import Disagreement
from hvmctx.abi.declare import VMPORT_TYPECODE, RecordType
from hvmctx.abi.forms import Members, elements_of, nullable, structure_of
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.errors import FieldError
from hvmctx.stream.reader import CONTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hvmctx.abi.checked import Plain
    from hvmctx.json_form.vmport import VmportBody

__all__ = [
    "FORMAT", "OLDEST", "StructuredBody", "body_form", "context_parts", "context_to_plain",
    "document_parts", "ending_parts", "record_parts", "record_to_plain",
]  # fmt: skip

FORMAT = 2
"""Of the JSON form: `docs/json.md` says what each was, and what raises it."""
OLDEST = 1
"""The oldest form that is read."""


def document_parts(context: HvmContext) -> Plain:
    """What to-json writes for a bare context, as `json_form.text.pieces` takes it."""
    return {"hvmctx": FORMAT, "context": context_parts(context)}


def context_parts(context: HvmContext) -> Plain:
    """`records`, each made when it is its turn, and `ending_parts`."""
    return {"records": map(record_parts, context.entries), **ending_parts(context)}


def ending_parts(context: HvmContext) -> Plain:
    """The bytes of `tail` (what follows END, or could not be read), and `damage` in words or
    None: what a context has besides its records."""
    return {
        "tail": bytes(context.tail),
        "damage": None if context.damage is None else str(context.damage),
    }


def context_to_plain(context: HvmContext) -> Plain:
    """All of a context at once, its bytes in hex."""
    plain = context_parts(context)
    records = [record_to_plain(record) for record in context.entries]
    return {**plain, "records": records, "tail": plain["tail"].hex()}


def record_to_plain(record: Record) -> Plain:
    """`record_parts`, the bytes among them in hex."""
    parts = record_parts(record)
    for name in ("rest", "body"):
        if name in parts:
            parts[name] = parts[name].hex()
    return parts


def record_parts(record: Record) -> Plain:
    """Name, typecode, instance, length, offset, and either `fields`, in their plain form, and
    the bytes `rest` that follow them; or the bytes of `body`; or what another package's handler
    has `decoded`, of a type that hvmctx does not know."""
    parts: Plain = {
        "name": record.name,
        "typecode": record.typecode,
        "instance": record.instance,
        "length": record.length,
        "offset": record.offset,
    }
    body = bytes(record.body)
    known = record.type
    if known is not None and known.size:
        form = body_form(known)
        with suppress(FieldError):
            fields, rest = form.write(record, body)
            if form.read(fields, rest, len(body)) == body:
                parts["fields"] = fields
                if rest:
                    parts["rest"] = rest
                return parts
    if known is None:
        from hvmctx.json_form.decoded import plain_of

        decoded = plain_of(CONTEXT, record.typecode, body)
        if decoded is not None:
            parts["decoded"] = decoded
            return parts
    parts["body"] = body
    return parts


def body_form(known: RecordType) -> StructuredBody | VmportBody:
    """How fields stand for the bodies of that type."""
    if known.typecode != VMPORT_TYPECODE:
        return _structured(known)
    from hvmctx.json_form.vmport import VmportBody  # few contexts have such a record

    return VmportBody()


class StructuredBody:
    """How fields stand for the bodies of one record type: those of the declared structure, and
    one more for the elements of its variable part. In a record that is shorter than its
    structure, `length` says how much of it there is, and later fields may be left out."""

    def __init__(self, known: RecordType) -> None:
        self._known = known
        self._structure = structure_of(known.struct)
        self._rest, self._step, members = "", 1, self._structure.members
        if known.rest is not None:
            self._rest, element = known.rest
            self._step = sizeof(element)
            members = {**members, self._rest: elements_of(element)}
        self._members = Members(members, [self._rest] if self._rest else [])

    def write(self, record: Record, body: bytes) -> tuple[Plain, bytes]:
        """The fields of the body in their plain form, and what it holds besides."""
        fields = self._structure.write(record.fields())
        rest = body[self._known.size :]
        if not self._rest:
            return fields, rest
        whole = len(rest) // self._step * self._step
        fields[self._rest] = self._members.members[self._rest].write(rest[:whole])
        return fields, rest[whole:]

    def read(self, fields: Any, rest: bytes, length: int | None) -> bytes:
        """The inverse. `length` is what the record says of itself, None where it does not.
        Raises FieldError."""
        known, size = self._known, self._known.size
        values = self._members.read(fields, "")
        if self._rest:
            rest = values.pop(self._rest) + rest
        short = length if length is not None and length < size else None
        for name in self._structure.needed:
            if name not in values and (short is None or self._structure.offsets[name] < short):
                raise (FieldError if short is None else Disagreement)(f"{name} is missing")
        struct = known.layout.encode(values)
        if short is None or rest:
            checked.agrees("length", length, size + len(rest), "fields")
            return struct + rest
        try:
            return Record(known, 0, bytes(short)).rewritten(struct, b"")
        except FieldError as error:
            raise Disagreement(str(error)) from None

    def schema(self) -> Plain:
        """Of the record that has these fields. In one that is as short as it says, no field
        of the structure is needed."""
        size, needed = self._known.size, list(self._structure.needed)
        short = {"properties": {"length": {"type": "integer", "maximum": size - 1}}}
        return {
            "properties": {"fields": nullable(self._members.schema())},
            "if": {**short, "required": ["length"]},
            "else": {"properties": {"fields": {"required": needed}}},
        }


@lru_cache(maxsize=64)
def _structured(known: RecordType) -> StructuredBody:
    return StructuredBody(known)
