"""The whole context: a HEADER record, records by ascending type, END.

Parsing follows the descriptors' lengths and nothing else, so a record of another length
than its structure never puts the walk out of step (Xen's own xen-hvmctx reads the size
it was compiled with, and is). Source: `xen/common/hvm/save.c`, 4.0 to c447b730.
"""

from __future__ import annotations

from hvmctx.abi import x86
from hvmctx.abi.declare import VCPU, RecordType
from hvmctx.abi.registry import by_name, by_typecode, typecode_of, typecodes_of
from hvmctx.buffers import flat
from hvmctx.context.record import DESCRIPTOR_SIZE, Record, pack_descriptor
from hvmctx.errors import FormatError, MissingRecordError, TruncatedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from hvmctx.context.record import AnyType

    _Found = tuple[int, int, int, int]
    """typecode, instance, offset of the descriptor, end of the body"""

_unpack_descriptor = x86.DESCRIPTOR.unpack_from


class Vcpu:
    """The records of one vcpu, as attributes: `cpu`, `lapic`, `lapic_regs`, `mtrr`,
    `cpu_xsave`, `viridian_vcpu`, `vmce_vcpu`, `tsc_adjust`, `cpu_msr`. Each is the
    record's structure; where a type repeats, the last, as Xen loads it."""

    __slots__ = ("_context", "id")

    def __init__(self, context: HvmContext, number: int) -> None:
        self._context = context
        self.id = number

    def __repr__(self) -> str:
        return f"<vcpu {self.id}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        known = _type_named(name)
        if known.scope != VCPU:
            raise AttributeError(f"{name} is the domain's: ctx.{name}")
        return self._context.record(known, self.id).struct

    def records(self) -> list[Record]:
        """All records of this vcpu, in the context's order."""
        codes = typecodes_of(VCPU)
        return [r for r in self._context.entries if r.instance == self.id and r.typecode in codes]


class HvmContext:
    """A save context.

    `entries` is the list of its records, END included, and may be changed freely.
    `tail` is what follows: bytes after END, or, when the context is damaged, everything
    from the first byte that could not be read as a whole record. `damage` is then the
    error that says so (also for a missing END), else None.
    """

    __slots__ = ("_entries", "_found", "_made", "_view", "cut_descriptor", "damage", "tail")

    def __init__(
        self,
        entries: Iterable[Record] = (),
        tail: bytes | memoryview = b"",
        damage: FormatError | None = None,
    ) -> None:
        self._entries = list(entries)
        self._found: list[_Found] | None = None
        self._view = memoryview(b"")
        self._made: dict[_Found, Record] = {}
        self.tail = tail
        self.damage = damage
        self.cut_descriptor: Record | None = None
        """The whole descriptor of a record whose body is not all there, with that part."""

    def __reduce__(self) -> tuple[Any, ...]:
        return HvmContext.parse, (self.to_bytes(),)

    def __repr__(self) -> str:
        return f"<HvmContext of {len(self.entries)} records>"

    @property
    def entries(self) -> list[Record]:
        """All records, END included. Change the list, or what is in it, freely."""
        if self._found is not None:
            made = self._made
            self._entries = [made.get(found) or self._make(found) for found in self._found]
            self._found = None
        return self._entries

    @entries.setter
    def entries(self, entries: Iterable[Record]) -> None:
        self._entries = list(entries)
        self._found = None

    def _make(self, found: _Found) -> Record:
        typecode, instance, offset, end = found
        body = self._view[offset + DESCRIPTOR_SIZE : end]
        if typecode == 0:
            length = _unpack_descriptor(self._view, offset)[2]
            if length != len(body):
                return Record(0, instance, body, offset=offset, length=length)
        return Record.parsed(typecode, instance, body, offset)

    @classmethod
    def parse(cls, buffer: bytes | bytearray | memoryview) -> HvmContext:
        """Take a context apart, without copying. Never raises: see `damage`. END is one
        whatever its length says, since Xen stops there and does not look at it."""
        view = memoryview(flat(memoryview(buffer)))
        context = cls()
        context._view = view
        # Records are made of these when they are asked for: most callers want a few.
        found: list[_Found] = []
        context._found = found
        offset, size = 0, len(view)
        last_descriptor = size - DESCRIPTOR_SIZE
        while offset <= last_descriptor:
            typecode, instance, length = _unpack_descriptor(view, offset)
            end = offset + DESCRIPTOR_SIZE + length
            if end > size:
                if typecode:
                    body = view[offset + DESCRIPTOR_SIZE :]
                    context.cut_descriptor = Record(
                        typecode, instance, body, offset=offset, length=length
                    )
                    break
                end = size
            found.append((typecode, instance, offset, end))
            offset = end
            if typecode == 0:
                context.tail = view[offset:]
                return context
        context.tail = view[offset:]
        context.damage = _damage(context, len(found), offset, size)
        return context

    @classmethod
    def from_bytes(cls, buffer: bytes | bytearray | memoryview) -> HvmContext:
        """Take a context apart, without copying. A missing END and bytes after it are
        kept. Raises TruncatedError when a descriptor or a body is not all there."""
        context = cls.parse(buffer)
        if context.damage is not None and len(context.tail):
            raise context.damage
        return context

    def copy(self) -> HvmContext:
        """Another with the same records, `tail` and `damage`: a change to the one is none to
        the other. Nothing is parsed again."""
        from copy import copy

        context = HvmContext(map(copy, self.entries), self.tail, self.damage)
        context.cut_descriptor = self.cut_descriptor
        return context

    def decode(self) -> list[dict[str, Any] | None]:
        """`Record.fields` of every record in order, in one go; None for END and for types
        that are not declared."""
        if self._found is None or self._made:
            return [r.fields() if _has_fields(r.type) else None for r in self.entries]
        view = self._view
        decoded: list[dict[str, Any] | None] = []
        for found in self._found:
            known = by_typecode(found[0])
            if known is None or not known.size:
                decoded.append(None)
            elif found[3] - found[2] - DESCRIPTOR_SIZE == known.size:
                decoded.append(known.decode(view[found[2] + DESCRIPTOR_SIZE : found[3]]))
            else:
                decoded.append(self._make(found).fields())
        return decoded

    def to_bytes(self) -> bytes:
        """The bytes of all records, and `tail`. The inverse of `parse` for any input."""
        pieces: list[Any] = []
        for record in self.entries:
            pieces.append(pack_descriptor(record.typecode, record.instance, record.length))
            pieces.append(record.body)
        return b"".join((*pieces, self.tail))

    def records(
        self, record_type: AnyType | None = None, instance: int | None = None
    ) -> list[Record]:
        """The records of one type (or all; `x86.CPU`, "CPU", or 2), of one instance (or all),
        in order. Raises UsageError for what is no type."""
        typecode = None if record_type is None else typecode_of(record_type)
        return [
            record
            for record in self.entries
            if (typecode is None or record.typecode == typecode)
            and (instance is None or record.instance == instance)
        ]

    def record(self, record_type: AnyType, instance: int = 0) -> Record:
        """The record of that type and instance, the last where it repeats. Raises
        MissingRecordError, UsageError for what is no type."""
        typecode = typecode_of(record_type)
        found = self._last(typecode, instance)
        if found is None:
            known = by_typecode(typecode)
            name = known.name if known else f"type {typecode}"
            raise MissingRecordError(f"the context has no {name}/{instance} record")
        return found

    def _last(self, typecode: int, instance: int) -> Record | None:
        if self._found is None:
            found = self.records(typecode, instance)
            return found[-1] if found else None
        for place in reversed(self._found):
            record = self._made.get(place) if self._made else None
            if record is not None:  # which may have become another since
                if record.typecode == typecode and record.instance == instance:
                    return record
            elif place[0] == typecode and place[1] == instance:
                record = self._made[place] = self._make(place)
                return record
        return None

    def add(self, record: Record) -> None:
        """Put a record where Xen would write it: behind those of lower typecodes and of its
        own up to its instance, before END."""
        entries = self.entries
        key = record.typecode, record.instance
        at = len(entries)
        while at and (
            entries[at - 1].typecode == x86.END.typecode
            or (entries[at - 1].typecode, entries[at - 1].instance) > key
        ):
            at -= 1
        entries.insert(at, record)

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
        codes = typecodes_of(VCPU)
        if self._found is not None and not self._made:
            numbers = {instance for code, instance, _, _ in self._found if code in codes}
        else:
            numbers = {record.instance for record in self.entries if record.typecode in codes}
        return {number: Vcpu(self, number) for number in sorted(numbers)}

    @property
    def has_end(self) -> bool:
        return bool(self.entries) and self.entries[-1].typecode == x86.END.typecode

    @property
    def size(self) -> int:
        """Bytes of all records, `tail` not counted."""
        return sum(DESCRIPTOR_SIZE + len(record.body) for record in self.entries)


def _has_fields(known: RecordType | None) -> bool:
    return known is not None and known.size > 0


def _type_named(name: str) -> RecordType:
    if name != name.lower():
        raise AttributeError(name)
    try:
        return by_name(name)
    except Exception:
        raise AttributeError(f"no record type or attribute {name!r}") from None


def _damage(context: HvmContext, whole: int, offset: int, size: int) -> FormatError:
    """What stopped the walk behind `whole` records, at `offset`."""
    cut = context.cut_descriptor
    if cut is not None:
        return TruncatedError(
            "the body is cut off",
            layer="context",
            offset=offset + DESCRIPTOR_SIZE,
            record=f"entry {whole}, {cut.name}/{cut.instance}",
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
        record=f"entry {whole}",
        found=found,
        expected="a descriptor of 8",
    )
