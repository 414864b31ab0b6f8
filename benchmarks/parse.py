"""Parsing a context of sixteen vcpus, against the same layouts in construct and
dissect.cstruct: every field of every record, and one field of one record."""

from __future__ import annotations

import ctypes
from typing import Any

from benchmarks.measure import best_of
from hvmctx.abi.fields import Layout
from hvmctx.abi.registry import record_types
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from tests.builders.samples import context_bytes

VCPUS = 16
_CSTRUCT = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64"}


def context_of(vcpus: int) -> bytes:
    """The genuine context of one vcpu, its per-vcpu records repeated, each of the length that
    the newest release gives it, so that the peers can read it."""
    context = HvmContext.from_bytes(context_bytes())
    entries = []
    for entry in context.entries:
        known = entry.type
        count = vcpus if known is not None and known.scope == "vcpu" else 1
        body = entry.body if known is None else entry.as_read()
        entries += [Record(entry.typecode, entry.instance + n, body) for n in range(count)]
    return HvmContext(entries).to_bytes()


def _units(layout: Layout) -> list[Any]:
    """The fields that take room of their own: of a unit of bits the first."""
    units, end = [], 0
    for field in layout.fields:
        if not field.alternate and field.offset >= end:
            units.append(field)
            end = field.offset + field.size
    return units


def _items(array: Any) -> tuple[Any, int]:
    return array._type_, array._length_


def in_construct() -> Any:
    """The same layouts and descriptor loop, as one writes them in construct."""
    import construct

    c: Any = construct  # it makes its fields as it is imported

    integers = {1: c.Int8ul, 2: c.Int16ul, 4: c.Int32ul, 8: c.Int64ul}

    def of(ctype: Any) -> Any:
        if issubclass(ctype, ctypes.Array):
            item, count = _items(ctype)
            return c.Bytes(count) if item is ctypes.c_uint8 else c.Array(count, of(item))
        if issubclass(ctype, (ctypes.Structure, ctypes.Union)):
            return c.Struct(*(f.name / of(f.ctype) for f in _units(Layout.of(ctype))))
        return integers[ctypes.sizeof(ctype)]

    bodies = {known.typecode: of(known.struct) for known in record_types() if known.size}
    record = c.Struct(
        "typecode" / c.Int16ul,
        "instance" / c.Int16ul,
        "length" / c.Int32ul,
        "body" / c.FixedSized(c.this.length, c.Switch(c.this.typecode, bodies, c.GreedyBytes)),
    )
    return c.GreedyRange(record)


def in_cstruct() -> tuple[Any, dict[int, Any]]:
    """The same layouts in dissect.cstruct: the descriptor, and the structures by typecode."""
    from dissect.cstruct import cstruct

    text = "struct descriptor { uint16 typecode; uint16 instance; uint32 length; };\n"

    def members(ctype: Any) -> str:
        out = ""
        for field in _units(Layout.of(ctype)):
            kind, count, name = field.ctype, "", field.name
            if issubclass(kind, ctypes.Array):
                kind, length = _items(kind)
                count = f"[{length}]"
            if issubclass(kind, (ctypes.Structure, ctypes.Union)):
                out += f"struct {{ {members(kind)} }} {name}{count}; "
            else:
                out += f"{_CSTRUCT[ctypes.sizeof(kind)]} {name}{count}; "
        return out

    known = [one for one in record_types() if one.size and one.name != "VMPORT"]
    for one in known:
        text += f"struct record_{one.typecode} {{ {members(one.struct)} }};\n"
    library = cstruct(endian="<")
    library.load(text)
    return library.descriptor, {
        one.typecode: getattr(library, f"record_{one.typecode}") for one in known
    }


def main() -> None:
    data = context_of(VCPUS)
    construct_context = in_construct()
    descriptor, structures = in_cstruct()

    def ours_in_full() -> None:
        for record in HvmContext.from_bytes(data):
            record.fields()

    def ours_one_field() -> None:
        _ = HvmContext.from_bytes(data).vcpus[3].cpu.rip

    def construct_in_full() -> None:
        construct_context.parse(data)

    def cstruct_in_full() -> None:
        offset = 0
        while offset < len(data):
            head = descriptor(data[offset : offset + 8])
            offset += 8
            if head.typecode in structures:
                structures[head.typecode](data[offset : offset + head.length])
            offset += head.length

    assert len(construct_context.parse(data)) == len(HvmContext.from_bytes(data))
    ours = best_of(ours_in_full, 20, loops=5)
    lazy = best_of(ours_one_field, 20, loops=20)
    peers = {
        "construct": best_of(construct_in_full, 20),
        "dissect.cstruct": best_of(cstruct_in_full, 20),
    }
    print(
        f"context of {VCPUS} vcpus, {len(data)} bytes: all fields in {ours * 1e3:.2f} ms, "
        f"one field in {lazy * 1e3:.3f} ms"
    )
    for name, seconds in peers.items():
        print(
            f"  {name}: {seconds * 1e3:.2f} ms; hvmctx is {seconds / ours:.0f} times as fast for "
            f"all fields, {seconds / lazy:.0f} times for one"
        )


if __name__ == "__main__":
    main()
