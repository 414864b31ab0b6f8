#!/usr/bin/env python3
"""Contexts that aim at the rules of a load: `aimed_contexts.py BASE COUNT DIR [SEED]` writes
COUNT different variants of the context BASE to DIR, for a hypervisor to judge. Each changes one
record (rarely two): fields to values around the bounds of their checks, lengths, instances,
types, and records that a base may lack (CPU_XSAVE, CPU_MSR)."""

from __future__ import annotations

import os
import random
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from hvmctx.abi import x86
from hvmctx.abi.declare import RecordType, record_types
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record

VALUES: dict[str, list[tuple[str, list[int]]]] = {
    "CPU": [
        ("cr0", [0, 0x10, 0x11, 0x80000010, 0x80000011, 0xE005003F, 0x40, 1 << 32, 0x60000010]),
        ("cr4", [1 << bit for bit in range(34)] + [0, 0x7FF, 0x6F0]),
        ("msr_efer", [1 << bit for bit in range(24)] + [0, 0x500, 0x501, 0xD01, 0x1000, 0x4000]),
        ("dr6", [0, 0xFFFFFFFF, 1 << 32]), ("dr7", [0x400, 0xFFFFFFFF, 1 << 63]),
        ("cr3", [0, (1 << 40) - 1, 1 << 40, 1 << 63]),
        ("flags", [0, 1, 2, 3, 1 << 31]), ("pad0", [0, 1, 1 << 31]),
        ("msr_tsc_aux", [0, 0xFFFFFFFF, 1 << 32]),
        ("pending_event", [1 << 31 | kind << 8 | extra for kind in range(8)
                           for extra in (0, 1 << 11, 1 << 12, 0x20)] + [0, 1 << 8, 0x7FFFF000]),
        ("error_code", [0, 0xFFFF, 0x10000]), ("rflags", [0, 2, 1 << 63]),
        ("cs_arbytes", [0, 0xA09B, 0x9B, 0xFFFFFFFF]),
    ],
    "PIC": [("elcr", [0, 4, 0xFC, 0xFD, 0xFE, 0xDE, 0x21, 1, 2]), ("int_output", [0, 1, 2, 255]),
            ("is_master", [0, 1]), ("init_state", [0, 1, 15])],
    "LAPIC": [("apic_base_msr", [0, 0x400, 0x800, 0xC00, 0xFEE00900, 0xFEE00400])],
    "PCI_LINK": [(f"route[{n}]", [0, 15, 16, 255]) for n in range(4)],
    "PIT": [(f"channels[{n}].{name}", values) for n in range(3) for name, values in (
        ("count", [0, 0x10000, 0x10001]), ("count_latched", [0, 4, 5]), ("read_state", [0, 4, 5]),
        ("write_state", [4, 5]), ("rw_mode", [3, 4]), ("gate", [0, 1, 2]), ("bcd", [0, 1, 2]),
        ("mode", [0, 5, 6, 7, 255]))] + [("speaker_data_on", [0, 1, 2]), ("pad0", [0, 1])],
    "MTRR": [("msr_mtrr_cap", [0, 8, 9, 255, 0x508, 0x109])],
    "VMCE_VCPU": [("caps", [0, 0xFF, 0x100, 0x1FF, 0x200, 1 << 24, 1 << 27, 1 << 63])],
}  # fmt: skip
MSRS = (0x48, 0x140, 0x6E1, 0xD90, 0xDA0, 0xC001011F, 0xC0011027, 0xC0011019, 0xC001101A,
        0xC001101B, 0x10, 0xC0000080)  # fmt: skip


def xsave_record(rng: random.Random, vcpu: int) -> Record:
    """States, reserved words, lengths, and what lies behind the image."""
    states = rng.choice((1, 2, 3, 7, 7, 7, 0x207, 6, 5, 0xFF, 0x1F, 0x20007, 1 << 62 | 7, 0))
    accum = states | rng.choice((0, 0, 0, 7, 0x200, 0x18))
    size = rng.choice((600, 599, 608, 832 + 24, 832 + 25, 2696 + 24, 24, 0, 900, 2720))
    body = bytearray(max(size, 0))
    if size >= 600:
        struct.pack_into("<QQQ", body, 0, states, states, accum)
        struct.pack_into("<QQ", body, 536, rng.choice((0, 1, 3, accum, accum, 1 << 9)),
                         rng.choice((0, 0, 0, 0, 1 << 63, 1)))  # fmt: skip
        if rng.random() < 0.1:
            body[552 + rng.randrange(48)] = 1
        if rng.random() < 0.3 and size > 600:
            body[rng.randrange(600, size)] = 1
    return Record(x86.CPU_XSAVE, vcpu, bytes(body))


def msr_record(rng: random.Random, vcpu: int) -> Record:
    """MSRs of the list and not, values of all sizes, counts that lie."""
    count = rng.choice((0, 1, 1, 1, 2, 3))
    body = struct.pack("<II", rng.choice((count, count, count, count + 1)), rng.choice((0, 0, 1)))
    for _ in range(count):
        value = rng.choice((0, 1, 2, 0xFFFFFFFF, 1 << 32, 1 << 63))
        body += struct.pack("<IIQ", rng.choice(MSRS), rng.choice((0, 0, 0, 0, 1)), value)
    return Record(x86.CPU_MSR, vcpu, body + bytes(rng.choice((0, 0, 0, 0, 1, 16))))


def _change(rng: random.Random, context: HvmContext, known: RecordType) -> str:
    found = context.records(known)
    at = rng.random()
    if known is x86.CPU_XSAVE or known is x86.CPU_MSR:
        make = xsave_record if known is x86.CPU_XSAVE else msr_record
        context.entries.insert(-1, make(rng, rng.choice((0, 0, 0, 1, 2))))
        return f"{known.name} added"
    if not found:
        return "nothing"
    record = rng.choice(found)
    if at < 0.15:
        record.instance = rng.choice((0, 1, 2, 3, 127, 128, 0xFFFF))
        return f"{known.name} instance {record.instance}"
    if at < 0.35:
        size = max(0, len(record.body) + rng.choice((-1, 1, -8, 8, -len(record.body), 16)))
        record.body = bytes(record.body[:size]).ljust(size, b"\0")
        return f"{known.name} length {size}"
    if at < 0.4:
        return _lie(rng, context, record)
    slots = VALUES.get(known.name)
    if slots is None or at > 0.93:
        body = bytearray(record.body)
        for _ in range(rng.choice((1, 4, 8)) if body else 0):
            body[rng.randrange(len(body))] = rng.choice((0, 1, 255, rng.randrange(256)))
        record.body = bytes(body)
        return f"{known.name} bytes"
    path, values = rng.choice(slots)
    body = bytearray(record.body)
    value = rng.choice(values)
    if len(body) != known.size:  # shortened by a change before this one
        return "nothing"
    known.layout.locate(path).put(body, value)
    record.body = bytes(body)
    return f"{known.name}.{path} = {value:#x}"


def _lie(rng: random.Random, context: HvmContext, record: Record) -> str:
    length = rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFF8, 0xFFFFFFFF, len(record.body) + 8))
    place = context.entries.index(record)
    context.entries[place] = Record(record.typecode, record.instance, record.body, length=length)
    return f"{record.name} says length {length}"


def variant(base: bytes, rng: random.Random) -> tuple[str, bytes]:
    """What was changed, and the context."""
    context = HvmContext.from_bytes(base)
    kinds = [k for k in record_types() if 1 < k.typecode <= 20]
    weights = [5 if k.name in VALUES or k.name.startswith("CPU") else 1 for k in kinds]
    what = []
    for _ in range(rng.choice((1, 1, 1, 1, 2))):
        what.append(_change(rng, context, rng.choices(kinds, weights)[0]))
    if rng.random() < 0.03:
        entry = rng.choice(context.entries)
        entry.typecode = rng.choice((0, 1, 2, 3, 5, 16, 20, 21, 22, 99, 0xFFFF))
        what.append("typecode")
    data = context.to_bytes()
    if rng.random() < 0.03:
        data = data[: rng.randrange(len(data))]
        what.append("cut")
    return "; ".join(what), data


def main() -> None:
    base, count, place = sys.argv[1:4]
    rng = random.Random(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    with open(base, "rb") as file:
        data = file.read()
    os.makedirs(place, exist_ok=True)
    with open(os.path.join(place, "what.txt"), "w", encoding="ascii") as listing:
        seen = {data}
        for number in range(int(count)):
            what, context = variant(data, rng)
            while context in seen:  # a change to what was there already, or one made before
                what, context = variant(data, rng)
            seen.add(context)
            with open(os.path.join(place, f"{number:05}.bin"), "wb") as file:
                file.write(context)
            listing.write(f"{number:05} {what}\n")


if __name__ == "__main__":
    main()
