"""The whole context: a HEADER record, records by ascending type, END.

Parsing follows only the lengths in the descriptors, so that a record which is not as long as
its structure does no harm (Xen's own xen-hvmctx reads the size that it was compiled with, and
loses its way). Source: `xen/common/hvm/save.c`, 4.0 to c447b730.
"""

from __future__ import annotations

from hvmctx.abi import x86
from hvmctx.abi.declare import VCPU, RecordType
from hvmctx.abi.registry import by_name, by_typecode, typecode_of, typecodes_of
from hvmctx.buffers import flat
from hvmctx.context.record import DESCRIPTOR_SIZE, Record, pack_descriptor, take_apart
from hvmctx.errors import FormatError, MissingRecordError, TruncatedError, UsageError
from hvmctx.limits import DEFAULT, Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from hvmctx.abi.x86 import DomainRecords, VcpuRecords
    from hvmctx.context.items import RecordItems
    from hvmctx.context.record import AnyType
else:  # what is declared is looked up, so that a record type that is added is there as well
    DomainRecords = VcpuRecords = object

    class RecordItems:
        __slots__ = ()


__all__ = ["HvmContext", "Vcpu", "Vcpus"]

_MOST_SHOWN = 8
"""How many vcpus a message lists."""


class Vcpu(VcpuRecords):
    """The records of one vcpu, as attributes: `cpu`, `lapic`, `lapic_regs`, `mtrr`,
    `cpu_xsave`, `viridian_vcpu`, `vmce_vcpu`, `tsc_adjust`, `cpu_msr`. Each is the
    record's structure; the last if there are several, as Xen loads it. Raises
    MissingRecordError for a record that the context does not have."""

    __slots__ = ("_context", "id")

    def __init__(self, context: HvmContext, number: int) -> None:
        self._context = context
        self.id = number

    def __repr__(self) -> str:
        return f"<vcpu {self.id}>"

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *_attributes(self.records())]

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            known = _type_named(name)
            if known.scope != VCPU:
                raise AttributeError(f"{name} belongs to the domain: context.{name}")
            return self._context.record(known, self.id).struct

    def records(self) -> list[Record]:
        """All records of this vcpu, in the order of the context."""
        return [record for record in _of_vcpus(self._context.entries) if record.instance == self.id]


class Vcpus:
    """The vcpus of a context: every id that a per-vcpu record has, in ascending order. Iterating
    gives `Vcpu`s; `vcpus[3]` is the one of id 3, `3 in vcpus` says whether there is one.
    Looks at the context anew each time."""

    __slots__ = ("_context",)

    def __init__(self, context: HvmContext) -> None:
        self._context = context

    @property
    def ids(self) -> list[int]:
        return sorted({record.instance for record in _of_vcpus(self._context.entries)})

    def __iter__(self) -> Iterator[Vcpu]:
        return (Vcpu(self._context, number) for number in self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, number: object) -> bool:
        return any(record.instance == number for record in _of_vcpus(self._context.entries))

    def __getitem__(self, number: int) -> Vcpu:
        """By id. Raises MissingRecordError, which is a KeyError."""
        if number not in self:
            raise MissingRecordError(f"the context has no vcpu {number!r}; it has {self._shown()}")
        return Vcpu(self._context, number)

    def __repr__(self) -> str:
        return f"<vcpus {self._shown()}>"

    def _shown(self) -> str:
        ids = self.ids
        shown = ", ".join(map(str, ids[:_MOST_SHOWN])) or "none"
        return shown if len(ids) <= _MOST_SHOWN else f"{shown} and {len(ids) - _MOST_SHOWN} more"


class HvmContext(RecordItems, DomainRecords):
    """A save context: iterating gives its `Record`s, END included.

    `context["CPU", 0]` is the record of that type and instance, `context["RTC"]` that of
    instance 0, `context[3]` the fourth. The structures of domain-wide records are attributes
    (`context.rtc.cmos_index`), those of a vcpu are its own (`context.vcpus[0].cpu.rip`).

    `entries` is the list of records, and may be changed freely. `tail` is what follows:
    bytes after END, or in a damaged context everything from the first byte that is not part
    of a whole record. `damage` is the error that says what is wrong (also a missing END), or
    None.

    There is one representation, the records themselves: making them when they are first asked
    for saved 5 microseconds of a context of one vcpu and 160 of one of 128 where only one was
    wanted, and cost as much again where all were.

    >>> from hvmctx import open_image
    >>> with open_image("examples/hvm1.save") as image:
    ...     context = HvmContext.from_bytes(image.context.to_bytes())
    >>> context, context.vcpus, context["PIC", 1]
    (<HvmContext: 18 records, vcpus 0>, <vcpus 0>, <Record PIC/1 at 0x440, 8 bytes>)
    >>> [record.name for record in context if record.instance == 1]
    ['PIC']
    >>> context.vcpus[0].cpu.rip = 0x1000
    >>> context.rtc.cmos_index, hex(context["CPU", 0].fields()["rip"])
    (15, '0x1000')
    """

    __slots__ = ("cut_descriptor", "damage", "entries", "tail")

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
        """The descriptor of a record that is cut off, with what there is of its body."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.to_bytes(),)

    def __repr__(self) -> str:
        damaged = "" if self.damage is None else ", damaged"
        return f"<HvmContext: {len(self)} records, vcpus {self.vcpus._shown()}{damaged}>"

    def __dir__(self) -> list[str]:
        names = _attributes(self.entries) - _attributes(_of_vcpus(self.entries))
        return [*object.__dir__(self), *names]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.entries)

    def __contains__(self, what: Record | AnyType | tuple[AnyType, int]) -> bool:
        """Whether the context has a record of that type (a number is a typecode here), or
        of that (type, instance), or this very record. Raises UsageError for an unknown type."""
        if isinstance(what, Record):
            return any(record is what for record in self.entries)
        if isinstance(what, tuple):
            return bool(self.records(*_type_and_instance(what)))
        return bool(self.records(typecode_of(what)))

    if not TYPE_CHECKING:

        def __getitem__(self, what: int | AnyType | tuple[AnyType, int]) -> Record:
            """By (type, instance), by type alone (instance 0), or by its place in `entries`;
            the last if there are several. Raises MissingRecordError, which is a KeyError, and
            UsageError for an unknown type."""
            if isinstance(what, tuple):
                return self.record(*_type_and_instance(what))
            if not isinstance(what, int):
                return self.record(what)
            try:
                return self.entries[what]
            except IndexError:
                raise MissingRecordError(
                    f"the context has no record {what}; it has {len(self)}, counted from 0"
                ) from None

    @classmethod
    def from_bytes(
        cls,
        buffer: bytes | bytearray | memoryview,
        *,
        damaged: bool = False,
        limits: Limits = DEFAULT,
    ) -> HvmContext:
        """Take a context apart, without copying. A missing END and bytes after it are
        kept. Raises TruncatedError if a descriptor or a body is cut off, but not with `damaged`:
        what there is of that record is kept too, `damage` says what is wrong, and
        `to_bytes` returns the same bytes. Raises LimitError for more records than `limits`
        allow."""
        view = memoryview(flat(memoryview(buffer)))
        entries, offset = take_apart(view, limits)
        context = cls((), view[offset:])
        context.entries = entries
        if not context.has_end:
            if len(view) - offset >= DESCRIPTOR_SIZE:
                typecode, instance, length = x86.DESCRIPTOR.unpack_from(view, offset)
                body = view[offset + DESCRIPTOR_SIZE :]
                context.cut_descriptor = Record(
                    typecode, instance, body, offset=offset, length=length
                )
            context.damage = _damage(context, len(entries), offset, len(view))
            if len(context.tail) and not damaged:
                raise context.damage
        return context

    def copy(self) -> HvmContext:
        """A context with the same records, `tail` and `damage`, which can be changed without
        changing this one. Nothing is parsed again."""
        from copy import copy

        context = HvmContext(map(copy, self.entries), self.tail, self.damage)
        context.cut_descriptor = self.cut_descriptor
        return context

    def to_bytes(self) -> bytes:
        """The bytes of all records, and `tail`. The inverse of `from_bytes` for any input."""
        pieces: list[bytes | bytearray | memoryview] = []
        for record in self.entries:
            pieces.append(pack_descriptor(record.typecode, record.instance, record.length))
            pieces.append(record.body)
        return b"".join((*pieces, self.tail))

    def records(
        self, record_type: AnyType | None = None, instance: int | None = None
    ) -> list[Record]:
        """The records of one type (or all; `x86.CPU`, "CPU", or 2), of one instance (or all),
        in order. Raises UsageError for an unknown type."""
        typecode = None if record_type is None else typecode_of(record_type)
        return [
            record
            for record in self.entries
            if (typecode is None or record.typecode == typecode)
            and (instance is None or record.instance == instance)
        ]

    def record(self, record_type: AnyType, instance: int = 0) -> Record:
        """The record of that type and instance, the last if there are several. Raises
        MissingRecordError, and UsageError for an unknown type."""
        typecode = typecode_of(record_type)
        for record in reversed(self.entries):
            if record.typecode == typecode and record.instance == instance:
                return record
        known = by_typecode(typecode)
        name = known.name if known else f"type {typecode}"
        raise MissingRecordError(f"the context has no {name}/{instance} record")

    def add(self, record: Record) -> None:
        """Insert a record where Xen would write it: after those of lower typecodes and those of
        its own type up to its instance, before END."""
        entries = self.entries
        key = record.typecode, record.instance
        at = len(entries)
        while (
            at
            and record.typecode != x86.END.typecode
            and (
                entries[at - 1].typecode == x86.END.typecode
                or (entries[at - 1].typecode, entries[at - 1].instance) > key
            )
        ):
            at -= 1
        entries.insert(at, record)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """`header`, `ioapic`, `rtc` ...: the structure of instance 0 of that type."""
            record_type = _type_named(name)
            if record_type.scope == VCPU:
                raise AttributeError(f"{name} belongs to a vcpu: context.vcpus[n].{name}")
            return self.record(record_type).struct

    @property
    def vcpus(self) -> Vcpus:
        """Every vcpu that has a record, see `Vcpus`."""
        return Vcpus(self)

    @property
    def has_end(self) -> bool:
        return bool(self.entries) and self.entries[-1].typecode == x86.END.typecode

    @property
    def size(self) -> int:
        """How many bytes the records have, without `tail`."""
        return sum(DESCRIPTOR_SIZE + len(record.body) for record in self.entries)


def _of_vcpus(entries: list[Record]) -> Iterator[Record]:
    codes = typecodes_of(VCPU)
    return (record for record in entries if record.typecode in codes)


def _attributes(records: Iterable[Record]) -> set[str]:
    """The names of their structures as attributes."""
    return {record.name.lower() for record in records if record.type is not None}


def _type_and_instance(what: tuple[AnyType, int]) -> tuple[AnyType, int]:
    if len(what) != 2:
        raise UsageError(f"{what!r} names no record; expected its type and instance")
    return what


def _again(data: bytes) -> HvmContext:
    """Out of a pickle: as many records as it has."""
    return HvmContext.from_bytes(data, damaged=True, limits=Limits(context_records=len(data)))


def _type_named(name: str) -> RecordType:
    if name.startswith("_") or name != name.lower():
        raise AttributeError(name)
    try:
        return by_name(name)
    except UsageError:
        raise AttributeError(f"no record type or attribute {name!r}") from None


def _damage(context: HvmContext, whole: int, offset: int, size: int) -> FormatError:
    """The error that stopped the walk after `whole` records, at `offset`."""
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
