"""One record of a context: its descriptor, its body, and the structure in the body."""

from __future__ import annotations

import struct
from ctypes import sizeof

from hvmctx.abi import x86
from hvmctx.abi.declare import RecordType, declared
from hvmctx.abi.fields import misfit
from hvmctx.abi.registry import by_typecode, typecode_of
from hvmctx.abi.releases import CPU_COMPAT_SIZE
from hvmctx.buffers import flat
from hvmctx.errors import FieldError, LengthError, TruncatedError, UnknownRecordError
from hvmctx.limits import DEFAULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hvmctx.abi.declare import SaveStructure
    from hvmctx.abi.fields import Value
    from hvmctx.limits import Limits

    AnyType = int | str | RecordType | type[SaveStructure]
    """How a record type may be named: by number, `x86.CPU`, "cpu", or its structure."""

__all__ = ["DESCRIPTOR_SIZE", "Record", "pack_descriptor", "take_apart"]

DESCRIPTOR_SIZE = x86.DESCRIPTOR.size

_TSC = x86.hvm_hw_cpu.tsc.offset
_TSC_COMPAT = x86.hvm_hw_cpu_compat.tsc.offset
_FLAGS = x86.hvm_hw_cpu.flags.offset
_INITIALISED = x86.XEN_X86_FPU_INITIALISED.to_bytes(4, "little")


def _cpu_as_read(body: bytes) -> bytes:
    """A CPU record of another length than 1032, as Xen 4.7 and later read it: in the
    1016 bytes of before 3.4 all that follows `msr_efer` moves up past a zero `msr_tsc_aux`,
    and the FPU state of every such record counts as initialised."""
    if len(body) == CPU_COMPAT_SIZE:
        body = body[:_TSC_COMPAT] + bytes(8) + body[_TSC_COMPAT:]
    body = body.ljust(x86.CPU.size, b"\0")
    return body[:_FLAGS] + _INITIALISED + body[_FLAGS + 4 :]


class Record:
    """A record of a context, of a type given as `abi.declare.typecode_of` takes it.

    `typecode` and `instance` are those of its descriptor, `body` the bytes after it; in
    a parsed record it is a view of the buffer that was parsed. `offset` is where the descriptor
    is in that buffer, None for a record made by hand. `length` is what the descriptor says:
    the length of the body, unless another was given on purpose.

    >>> record = Record("TSC_ADJUST", 0, bytes(8))
    >>> record.struct.tsc_adjust = 5
    >>> record.to_bytes().hex(" ", 8), record.fields()
    ('1300000008000000 0500000000000000', {'tsc_adjust': 5})
    >>> Record.from_bytes(record.to_bytes())
    <Record TSC_ADJUST/0 at 0x0, 8 bytes>
    """

    __slots__ = ("_body", "_length", "_struct", "_written", "instance", "offset", "typecode")

    def __init__(
        self,
        record_type: AnyType,
        instance: int,
        body: bytes | bytearray | memoryview = b"",
        *,
        offset: int | None = None,
        length: int | None = None,
    ) -> None:
        self.typecode = typecode_of(record_type)
        self.instance = instance
        self.offset = offset
        self._body = flat(body)
        self._length = length
        self._struct: SaveStructure | None = None
        self._written = b""

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Record:
        """One record, its descriptor and its body; not copied. Raises TruncatedError if
        these are not all there, LengthError if more follows."""
        view = memoryview(flat(memoryview(data)))
        expected = "a descriptor of 8"
        length = 0
        if len(view) >= DESCRIPTOR_SIZE:
            typecode, instance, length = x86.DESCRIPTOR.unpack_from(view)
            if len(view) == DESCRIPTOR_SIZE + length:
                return cls(typecode, instance, view[DESCRIPTOR_SIZE:], offset=0)
            expected += f" and a body of {length}"
        too_long = len(view) > DESCRIPTOR_SIZE + length
        raise (LengthError if too_long else TruncatedError)(
            "not the bytes of one record", layer="context", offset=0,
            found=f"{len(view)} bytes", expected=expected,
        )  # fmt: skip

    def __reduce__(self) -> tuple[Any, ...]:
        return _copied, (self.typecode, self.instance, bytes(self.body), self.offset, self._length)

    def __repr__(self) -> str:
        where = "" if self.offset is None else f" at {self.offset:#x}"
        return f"<Record {self.name}/{self.instance}{where}, {self.length} bytes>"

    @property
    def type(self) -> RecordType | None:
        """The declared type; None for a typecode that no declared record has."""
        return by_typecode(self.typecode)

    @property
    def name(self) -> str:
        """The name of the type, or `type N` if it is unknown."""
        known = by_typecode(self.typecode)
        return known.name if known else f"type {self.typecode}"

    @property
    def body(self) -> bytes | bytearray | memoryview:
        """The bytes after the descriptor, changes made through `struct` included. Raises
        FieldError if a field was set that is beyond the end of a short body."""
        if self._struct is not None:
            now = bytes(self._struct)
            if now != self._written:
                self._body = self.rewritten(now, bytes(self._body[len(now) :]))
                self._written = now
        return self._body

    @body.setter
    def body(self, body: bytes | bytearray | memoryview) -> None:
        self._body = flat(body)
        self._struct = None

    @property
    def length(self) -> int:
        return len(self._body) if self._length is None else self._length

    @property
    def struct(self) -> SaveStructure:
        """The body as its ctypes structure, zero-extended the way Xen reads it. Writing
        to it changes the record. Raises UnknownRecordError for an undeclared type.

        Fields of any declared record can be read off it; their types are known to type
        checkers where it is reached by name, `context.rtc` or `context.vcpus[0].cpu`."""
        if self._struct is None:
            struct_type = self._known().struct_for(len(self._body))
            self._struct = struct_type.from_buffer_copy(self.as_read(sizeof(struct_type)))
            self._written = bytes(self._struct)
        return self._struct

    def as_read(self, size: int | None = None) -> bytes:
        """The first `size` bytes (those of the declared structure by default) of the body
        as a loader sees them: short bodies extended with zeros, old CPU records converted."""
        if size is None:
            size = self._known().size
        body = self.body
        if len(body) >= size:
            return bytes(body[:size])
        if self.typecode == x86.CPU.typecode:
            return _cpu_as_read(bytes(body))
        return bytes(body).ljust(size, b"\0")

    def fields(self) -> dict[str, Value]:
        """Every field of the declared structure by name. See `abi.fields` for the forms.
        Much faster than reading them off `struct`, and never affects the record."""
        known = declared.get(self.typecode) or self._known()
        if self._struct is None and len(self._body) == known.size:
            return known.decode(self._body)
        return known.decode(self.as_read())

    @property
    def rest(self) -> bytes:
        """What the body holds beyond the declared structure."""
        return bytes(self.body[self._known().size :])

    def rewritten(self, struct: bytes, rest: bytes) -> bytes:
        """The body that reads as `struct` (see `as_read`), of this record's own length, or
        followed by `rest` where it is long enough for the whole structure. Raises FieldError
        where no body of that length reads so."""
        size = len(self._body)
        if size >= len(struct):
            return struct + rest
        if self.typecode != x86.CPU.typecode:
            body = struct[:size]
        elif size == CPU_COMPAT_SIZE:
            body = struct[:_TSC_COMPAT] + struct[_TSC : _TSC + size - _TSC_COMPAT]
        else:  # whatever there is of the flags is not read, so it stays
            flags = bytes(self._body[_FLAGS : _FLAGS + 4])
            body = (struct[:_FLAGS] + flags + struct[_FLAGS + 4 :])[:size]
        read = Record(self.typecode, 0, body).as_read(len(struct))
        if read != struct:
            at = next(at for at in range(len(struct)) if read[at] != struct[at])
            raise FieldError(
                f"{self.name}/{self.instance}: {self._field_at(at)} is beyond the record's "
                f"{size} bytes"
            )
        return body

    def _field_at(self, offset: int) -> str:
        for field in self._known().layout.fields:
            if field.offset <= offset < field.offset + field.size:
                return field.name
        return f"offset {offset}"

    def to_bytes(self) -> bytes:
        """Descriptor and body."""
        body = self.body
        return b"".join((pack_descriptor(self.typecode, self.instance, self.length), body))

    def _known(self) -> RecordType:
        known = by_typecode(self.typecode)
        if known is None:
            raise UnknownRecordError(
                "not a declared record type",
                layer="context",
                offset=self.offset or 0,
                record=f"{self.name}/{self.instance}",
            )
        return known


def take_apart(view: memoryview, limits: Limits = DEFAULT) -> tuple[list[Record], int]:
    """The whole records at the start of a buffer, up to END, and the offset of what follows
    them. END is whole whatever its length, as Xen stops there and ignores it. Does what
    `Record()` does in half the time. Raises LimitError."""
    records: list[Record] = []
    append = records.append
    new, unpack_descriptor = Record.__new__, x86.DESCRIPTOR.unpack_from
    offset, size = 0, len(view)
    last_descriptor = size - DESCRIPTOR_SIZE
    for _ in range(limits.context_records):
        if offset > last_descriptor:
            break
        typecode, instance, length = unpack_descriptor(view, offset)
        start = offset + DESCRIPTOR_SIZE
        end = start + length
        if end > size and typecode:
            break
        record = new(Record)
        record.typecode = typecode
        record.instance = instance
        record.offset = offset
        record._body = view[start:end]
        record._length = record._struct = None
        append(record)
        offset = end
        if not typecode:
            if end > size:
                record._length, offset = length, size
            break
    else:
        if offset <= last_descriptor:
            raise limits.over("context_records", "records", layer="context", offset=offset)
    return records, offset


def _copied(
    typecode: int, instance: int, body: bytes, offset: int | None, length: int | None
) -> Record:
    return Record(typecode, instance, body, offset=offset, length=length)


def pack_descriptor(typecode: int, instance: int, length: int) -> bytes:
    """The eight bytes of a descriptor. Raises FieldError for a number that does not fit."""
    try:
        return x86.DESCRIPTOR.pack(typecode, instance, length)
    except struct.error:
        for name, value, width in (
            ("typecode", typecode, 16),
            ("instance", instance, 16),
            ("length", length, 32),
        ):
            if reason := misfit(name, value, width, text=str(value)):
                raise FieldError(reason) from None
        raise
