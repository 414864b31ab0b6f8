"""The whole context: a HEADER record, records by ascending type, END.

Parsing follows the descriptors' lengths and nothing else, so a record of another length
than its structure never puts the walk out of step (Xen's own xen-hvmctx reads the size
it was compiled with, and is). Source: `xen/common/hvm/save.c`, 4.0 to c447b730.
"""

from __future__ import annotations

import struct

from hvmctx.abi import x86
from hvmctx.abi.declare import VCPU, RecordType, by_name, by_typecode
from hvmctx.context.record import DESCRIPTOR_SIZE, Record, pack_descriptor
from hvmctx.errors import FormatError, MissingRecordError, TruncatedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_unpack_descriptor = struct.Struct("<HHI").unpack_from


class Vcpu:
    """The records of one vcpu, as attributes: `cpu`, `lapic`, `lapic_regs`, `mtrr`,
    `cpu_xsave`, `viridian_vcpu`, `vmce_vcpu`, `tsc_adjust`, `cpu_msr`. Each is the
    record's structure; where a type repeats, the last, as Xen loads it."""

    def __init__(self, context: HvmContext, number: int) -> None:
        self._context = context
        self.id = number

    def __repr__(self) -> str:
        return f"<vcpu {self.id}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._context.record(_type_named(name), self.id).struct

    def records(self) -> list[Record]:
        """All records of this vcpu, in the context's order."""
        return [
            record
            for record in self._context.entries
            if record.instance == self.id and record.type is not None and record.type.scope == VCPU
        ]


class HvmContext:
    """A save context.

    `entries` is the list of its records, END included, and may be changed freely.
    `tail` is what follows: bytes after END, or, when the context is damaged, everything
    from the first byte that could not be read as a whole record. `damage` is then the
    error that says so (also for a missing END), else None.
    """

    def __init__(
        self,
        entries: Iterable[Record] = (),
        tail: bytes | memoryview = b"",
        damage: FormatError | None = None,
    ) -> None:
        self.entries = list(entries)
        self.tail = tail
        self.damage = damage
        self.cut_descriptor: Record | None = None
        """The whole descriptor of a record whose body is not all there, with that part."""

    def __repr__(self) -> str:
        return f"<HvmContext of {len(self.entries)} records>"

    @classmethod
    def parse(cls, buffer: bytes | bytearray | memoryview) -> HvmContext:
        """Take a context apart, without copying. Never raises: see `damage`."""
        view = memoryview(buffer)
        if view.format != "B" or not view.c_contiguous:
            view = memoryview(view.tobytes())
        context = cls()
        entries = context.entries
        offset, size = 0, len(view)
        while size - offset >= DESCRIPTOR_SIZE:
            typecode, instance, length = _unpack_descriptor(view, offset)
            start = offset + DESCRIPTOR_SIZE
            end = start + length
            if end > size:
                context.cut_descriptor = Record(
                    typecode, instance, view[start:], offset=offset, length=length
                )
                break
            entries.append(Record(typecode, instance, view[start:end], offset=offset))
            offset = end
            if typecode == 0:
                context.tail = view[offset:]
                return context
        context.tail = view[offset:]
        context.damage = _damage(context, offset, size)
        return context

    @classmethod
    def from_bytes(cls, buffer: bytes | bytearray | memoryview) -> HvmContext:
        """Take a context apart, without copying. A missing END and bytes after it are
        kept. Raises TruncatedError when a descriptor or a body is not all there."""
        context = cls.parse(buffer)
        if context.damage is not None and len(context.tail):
            raise context.damage
        return context

    def to_bytes(self) -> bytes:
        """The bytes of all records, and `tail`. The inverse of `parse` for any input."""
        pieces: list[Any] = []
        for record in self.entries:
            pieces.append(pack_descriptor(record.typecode, record.instance, record.length))
            pieces.append(record.body)
        return b"".join((*pieces, self.tail))

    def records(
        self, record_type: int | RecordType | None = None, instance: int | None = None
    ) -> list[Record]:
        """The records of one type (or all), of one instance (or all), in order."""
        typecode = record_type.typecode if isinstance(record_type, RecordType) else record_type
        return [
            record
            for record in self.entries
            if (typecode is None or record.typecode == typecode)
            and (instance is None or record.instance == instance)
        ]

    def record(self, record_type: int | RecordType, instance: int = 0) -> Record:
        """The record of that type and instance, the last where it repeats. Raises
        MissingRecordError."""
        found = self.records(record_type, instance)
        if not found:
            known = record_type if isinstance(record_type, RecordType) else by_typecode(record_type)
            name = known.name if known else f"type {record_type}"
            raise MissingRecordError(f"the context has no {name}/{instance} record")
        return found[-1]

    def __getattr__(self, name: str) -> Any:
        """`header`, `ioapic`, `rtc` ...: the structure of instance 0 of that type."""
        if name.startswith("_"):
            raise AttributeError(name)
        record_type = _type_named(name)
        if record_type.scope == VCPU:
            raise AttributeError(f"{name} is a vcpu's: ctx.vcpus[n].{name}")
        return self.record(record_type).struct

    @property
    def vcpus(self) -> dict[int, Vcpu]:
        """vcpu id -> its records, for every id that a per-vcpu record names."""
        numbers = {
            record.instance
            for record in self.entries
            if (known := by_typecode(record.typecode)) is not None and known.scope == VCPU
        }
        return {number: Vcpu(self, number) for number in sorted(numbers)}

    @property
    def has_end(self) -> bool:
        return bool(self.entries) and self.entries[-1].typecode == x86.END.typecode

    @property
    def size(self) -> int:
        """Bytes of all records, `tail` not counted."""
        return sum(DESCRIPTOR_SIZE + len(record.body) for record in self.entries)


def _type_named(name: str) -> RecordType:
    if name != name.lower():
        raise AttributeError(name)
    try:
        return by_name(name)
    except Exception:
        raise AttributeError(f"no record type or attribute {name!r}") from None


def _damage(context: HvmContext, offset: int, size: int) -> FormatError:
    cut = context.cut_descriptor
    if cut is not None:
        return TruncatedError(
            "the body is cut off",
            layer="context",
            offset=offset + DESCRIPTOR_SIZE,
            record=f"entry {len(context.entries)}, {cut.name}/{cut.instance}",
            found=f"{len(cut.body)} bytes",
            expected=f"{cut.length}",
        )
    if size > offset:
        problem, found = "the descriptor is cut off", f"{size - offset} bytes"
    elif size == 0:
        problem, found = "the context is empty", "0 bytes"
    else:
        problem, found = "there is no END record", "the end of the context"
    return TruncatedError(
        problem,
        layer="context",
        offset=offset,
        record=f"entry {len(context.entries)}",
        found=found,
        expected="a descriptor of 8",
    )
