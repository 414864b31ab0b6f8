"""Of what a release loads and suffers by: what shows each hazard, and what just misses it."""

from __future__ import annotations

import struct

from hvmctx.abi import x86
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.restore.machine import AMD, INTEL
from tests.builders.contexts import Change, body_of, put, xsave

Case = tuple[str, Change, Change, str]
"""A release that suffers, what shows the hazard and what just misses it, and the host's vendor."""


def x2apic(number: int, ldr: int) -> Change:
    """Vcpu 0 in x2APIC mode."""

    def change(context: HvmContext) -> None:
        put("LAPIC/0.apic_base_msr", 0xFEE00D00)(context)
        body = bytearray(context.record(x86.LAPIC_REGS).body)
        struct.pack_into("<I", body, 0x20, number)
        struct.pack_into("<I", body, 0xD0, ldr)
        body_of("LAPIC_REGS/0", bytes(body))(context)

    return change


def page_first(change: Change) -> Change:
    """The same, with the LAPIC_REGS record before the LAPIC record."""

    def changed(context: HvmContext) -> None:
        change(context)
        at = next(n for n, e in enumerate(context.entries) if e.name == "LAPIC")
        context.entries[at : at + 2] = context.entries[at : at + 2][::-1]

    return changed


def lvterr(entry: int) -> Change:
    def change(context: HvmContext) -> None:
        body = bytearray(context.record(x86.LAPIC_REGS).body)
        struct.pack_into("<I", body, 0x370, entry)
        body_of("LAPIC_REGS/0", bytes(body))(context)

    return change


def mxcsr(value: int) -> Change:
    def change(context: HvmContext) -> None:
        body = bytearray(context.record(x86.CPU).body)
        struct.pack_into("<I", body, 24, value)
        body_of("CPU/0", bytes(body))(context)

    return change


def stimer(config: int, count: int, simp: int) -> Change:
    return put(
        "VIRIDIAN_VCPU/0.stimer_config_msr[3]", config,
        "VIRIDIAN_VCPU/0.stimer_count_msr[3]", count, "VIRIDIAN_VCPU/0.simp_msr", simp,
    )  # fmt: skip


def hpet(config: int, comparator: int, now: int = 0x100000) -> Change:
    """Timer 2, with the HPET running."""
    return put(
        "HPET/0.config", 1, "HPET/0.mc64", now,
        "HPET/0.timers[2].config", config, "HPET/0.timers[2].cmp", comparator,
    )  # fmt: skip


def assist(*values: int) -> Change:
    """VIRIDIAN_VCPU records of vcpu 0, one after the other."""

    def change(context: HvmContext) -> None:
        at = next(n for n, e in enumerate(context.entries) if e.name == "VIRIDIAN_VCPU")
        size = len(context.entries[at].body)
        context.entries[at : at + 1] = [
            Record(x86.VIRIDIAN_VCPU, 0, struct.pack("<Q", value).ljust(size, b"\0"))
            for value in values
        ]

    return change


def area(at: int, value: int, accum: int = 3) -> Change:
    """A CPU_XSAVE record with a u64 at an offset of its body."""
    body = bytearray(xsave(accum))
    struct.pack_into("<Q", body, at, value)
    return body_of("CPU_XSAVE/0", bytes(body))


_ROUTE_20 = 0x00F0_0000_0000_0004 | 20 << 9
_ONE_SHOT_32 = 0x104 | 8 << 9

CASES: dict[str, Case] = {
    "cpu-mxcsr-fault": ("4.2.2", mxcsr(0x11F80), mxcsr(0xFFFF), AMD),
    "cpu-dr6-fault": ("4.11", put("CPU/0.dr6", 1 << 32), put("CPU/0.dr6", 0xFFFFFFFF), INTEL),
    "cpu-dr-entry": ("4.17", put("CPU/0.dr7", 1 << 63), put("CPU/0.dr7", 0xFFFFFFFF), INTEL),
    "cpu-dr-entry#amd": ("4.17", put("CPU/0.dr6", 1 << 32), put("CPU/0.dr6", 0xFFFFFFFF), AMD),
    "cpu-cr3-entry": ("4.13", put("CPU/0.cr3", 1 << 52), put("CPU/0.cr3", (1 << 52) - 1), AMD),
    "cpu-event-entry": ("4.8", put("CPU/0.pending_event", 1 << 31 | 5 << 8), put("CPU/0.pending_event", 1 << 31 | 4 << 8), AMD),
    "pic-wrong-master": ("4.18", put("PIC/1.is_master", 1), put("PIC/1.is_master", 0), AMD),
    "lapic-divisor": ("newest", put("LAPIC/0.timer_divisor", 0), put("LAPIC/0.timer_divisor", 1), AMD),
    "lapic-divisor#wraps": ("4.17", put("LAPIC/0.timer_divisor", 1 << 31), put("LAPIC/0.timer_divisor", 1 << 30), AMD),
    "lapic-ldr-one": ("4.4", x2apic(2, 1), x2apic(0, 1), AMD),
    "lapic-ldr-one#page-first": ("4.4", page_first(x2apic(2, 1)), page_first(x2apic(2, 4)), AMD),
    "lapic-ldr": ("4.17", x2apic(2, 8), x2apic(2, 4), AMD),
    "lapic-ldr#page-first": ("newest", page_first(x2apic(0x12, 0x10008)), page_first(x2apic(0x12, 0x10004)), AMD),
    "lapic-error-vector": ("4.17.5", lvterr(0xF), lvterr(0x10), AMD),
    "lapic-error-vector#masked": ("4.17.5", lvterr(0), lvterr(1 << 16), AMD),
    "pit-out-of-range": ("4.18", put("PIT/0.channels[2].count", 0x10001), put("PIT/0.channels[2].count", 0x10000), AMD),
    "pit-out-of-range#gate": ("4.18", put("PIT/0.channels[0].gate", 0), put("PIT/0.channels[2].gate", 0), AMD),
    "hpet-route": ("4.10.1", hpet(_ROUTE_20, 1 << 30), hpet(_ROUTE_20 & ~4, 1 << 30), AMD),
    "hpet-late": ("4.12.0", hpet(_ONE_SHOT_32, 0x100000 - 61036), hpet(_ONE_SHOT_32, 0x100000 - 61035), AMD),
    "hpet-late#periodic": ("4.12.0", hpet(_ONE_SHOT_32, 0), hpet(_ONE_SHOT_32 | 8, 0), AMD),
    "mtrr-overread": ("4.11", put("MTRR/0.msr_mtrr_cap", 9), put("MTRR/0.msr_mtrr_cap", 8), AMD),
    "cpu-xsave-overread": ("4.2.3", body_of("CPU_XSAVE/0", xsave(7)), body_of("CPU_XSAVE/0", xsave(7, bytes(256))), AMD),
    "cpu-xsave-xsetbv": ("4.2.2", area(8, 2), area(8, 1), AMD),
    "cpu-xsave-xsetbv#host": ("4.1.6.1", area(16, 1 << 60 | 3), area(16, 3), AMD),
    "cpu-xsave-fault": ("4.2.2", area(24 + 24, 0x10000), area(24 + 24, 0xFFFF), AMD),
    "cpu-xsave-fault#header": ("4.2.2", area(24 + 512 + 8, 1), area(24 + 512 + 24, 1), AMD),
    "cpu-xsave-lost": ("4.6", area(24 + 512 + 16, 1), area(24 + 512 + 24, 1), AMD),
    "viridian-vcpu-count": ("4.21.1", stimer(0x10003, 0, 1), stimer(0x10003, 1, 1), AMD),
    "viridian-vcpu-count#one-shot": ("4.17.6", stimer(0x10003, 0, 1), stimer(0x10001, 0, 1), AMD),
    "viridian-vcpu-page": ("4.17.5", stimer(0x10001, 5, 0), stimer(0x10001, 5, 1), AMD),
    "viridian-vcpu-page#off": ("4.20.1", stimer(0x10001, 5, 0), stimer(0x10000, 5, 0), AMD),
    "viridian-vcpu-again": ("4.8", assist(1, 1), assist(1, 0), AMD),
    "viridian-vcpu-again#first": ("4.7", assist(0x1001, 0x1001), assist(0, 1), AMD),
}  # fmt: skip
"""Rule -> what shows it. `#` and a word after an id tell its cases apart."""
