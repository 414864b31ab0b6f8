"""Of loads of a context: what fires each rule, and what just misses it."""

from __future__ import annotations

import struct
from collections.abc import Callable

from hvmctx.context.hvm_context import HvmContext
from tests.builders.contexts import (
    Change,
    body_of,
    instance,
    length,
    msrs,
    nothing,
    put,
    says,
    xsave,
)


def without(name: str) -> Callable[[bytes], bytes]:
    def change(context: bytes) -> bytes:
        parsed = HvmContext.from_bytes(context)
        parsed.entries = [e for e in parsed.entries if e.name != name]
        return parsed.to_bytes()

    return change


WALK: dict[str, Callable[[bytes], bytes]] = {
    "context-header": without("HEADER"),
    "context-magic": lambda context: context[:8] + b"\0" + context[9:],
    "context-version": lambda context: context[:12] + b"\2" + context[13:],
    "context-end": without("END"),
    "context-type": lambda context: context[:-8] + struct.pack("<HHI", 21, 0, 0) + context[-8:],
    "context-bounds": lambda context: context[:-8] + struct.pack("<HHI", 19, 0, 0xFFFFFFFF),
}


_REST = 832 - 576


# rule -> what fires it, and what just misses it
CASES: dict[str, tuple[Change, Change]] = {
    "cpu-vcpu": (instance("CPU/0", 1), nothing),
    "cpu-length": (length("CPU/0", 1), nothing),
    "cpu-pad0": (put("CPU/0.pad0", 1), put("CPU/0.pad0", 0)),
    "cpu-cr0": (put("CPU/0.cr0", 0x80000010), put("CPU/0.cr0", 0x80000011)),
    "cpu-cr4": (put("CPU/0.cr4", 1 << 12), put("CPU/0.cr4", 1 << 8)),
    "cpu-efer": (put("CPU/0.msr_efer", 1 << 12), put("CPU/0.msr_efer", 1 << 8)),
    "cpu-dr": (put("CPU/0.dr6", 1 << 32), put("CPU/0.dr6", 0xFFFFFFFF)),
    "cpu-cr3": (put("CPU/0.cr3", 1 << 52), put("CPU/0.cr3", (1 << 52) - 1)),
    "cpu-flags": (put("CPU/0.flags", 2), put("CPU/0.flags", 1)),
    "cpu-tsc-aux": (put("CPU/0.msr_tsc_aux", 1 << 32), put("CPU/0.msr_tsc_aux", 0xFFFFFFFF)),
    "cpu-event": (put("CPU/0.pending_event", 1 << 31 | 1 << 8), put("CPU/0.pending_event", 1 << 31 | 2 << 8)),
    "cpu-error-code": (put("CPU/0.pending_event", 1 << 31 | 3 << 8 | 1 << 11, "CPU/0.error_code", 1 << 16), put("CPU/0.pending_event", 1 << 31 | 3 << 8 | 1 << 11, "CPU/0.error_code", 0xFFFF)),
    "pic-instance": (instance("PIC/1", 2), instance("PIC/1", 1)),
    "pic-length": (length("PIC/0", 1), nothing),
    "pic-int-output": (put("PIC/0.int_output", 2), put("PIC/0.int_output", 1)),
    "pic-state": (put("PIC/0.is_master", 0), put("PIC/0.is_master", 1)),
    "ioapic-length": (length("IOAPIC/0", -8), nothing),
    "lapic-vcpu": (instance("LAPIC/0", 1), nothing),
    "lapic-length": (length("LAPIC/0", 1), nothing),
    "lapic-base": (put("LAPIC/0.apic_base_msr", 0x400), put("LAPIC/0.apic_base_msr", 0xC00)),
    "lapic-regs-vcpu": (instance("LAPIC_REGS/0", 1), nothing),
    "lapic-regs-length": (length("LAPIC_REGS/0", -1), nothing),
    "pci-irq-length": (length("PCI_IRQ/0", -1), nothing),
    "isa-irq-length": (length("ISA_IRQ/0", 1), nothing),
    "pci-link-length": (length("PCI_LINK/0", 1), nothing),
    "pci-link-pad0": (put("PCI_LINK/0.pad0", b"\0\0\0\1"), nothing),
    "pci-link-route": (put("PCI_LINK/0.route[3]", 16), put("PCI_LINK/0.route[3]", 15)),
    "pit-length": (length("PIT/0", -4), nothing),
    "pit-range": (put("PIT/0.channels[2].count", 0x10001), put("PIT/0.channels[2].count", 0x10000)),
    "pit-gate": (put("PIT/0.channels[1].gate", 0), put("PIT/0.channels[2].gate", 0)),
    "rtc-length": (length("RTC/0", 1), nothing),
    "hpet-length": (length("HPET/0", -8), nothing),
    "pmtimer-length": (length("PMTIMER/0", 8), nothing),
    "mtrr-vcpu": (instance("MTRR/0", 1), nothing),
    "mtrr-length": (length("MTRR/0", 8), nothing),
    "mtrr-cap": (put("MTRR/0.msr_mtrr_cap", 9), put("MTRR/0.msr_mtrr_cap", 8)),
    "viridian-domain-length": (length("VIRIDIAN_DOMAIN/0", 1), nothing),
    "cpu-xsave-vcpu": (instance("CPU_XSAVE/0", 1), nothing),
    "cpu-xsave-cut": (says("CPU_XSAVE/0", 601), nothing),
    "cpu-xsave-length": (length("CPU_XSAVE/0", -1), nothing),
    "cpu-xsave-long": (body_of("CPU_XSAVE/0", xsave(3, bytes(2121))), body_of("CPU_XSAVE/0", xsave(3))),
    "cpu-xsave-mask": (put("CPU_XSAVE/0.xfeature_mask", 1 << 12), put("CPU_XSAVE/0.xfeature_mask", 1 << 9)),
    "cpu-xsave-states": (body_of("CPU_XSAVE/0", xsave(3, xcr0=2)), body_of("CPU_XSAVE/0", xsave(3, xcr0=1))),
    "cpu-xsave-compact": (body_of("CPU_XSAVE/0", xsave(3, comp=1 << 63)), body_of("CPU_XSAVE/0", xsave(3))),
    "cpu-xsave-reserved": (body_of("CPU_XSAVE/0", xsave(3, reserved=1)), body_of("CPU_XSAVE/0", xsave(3))),
    "cpu-xsave-excess": (body_of("CPU_XSAVE/0", xsave(3, b"\0\1")), body_of("CPU_XSAVE/0", xsave(3, b"\0\0"))),
    "cpu-xsave-short": (body_of("CPU_XSAVE/0", xsave(7, bytes(_REST - 1))), body_of("CPU_XSAVE/0", xsave(7, bytes(_REST)))),
    "viridian-vcpu-vcpu": (instance("VIRIDIAN_VCPU/0", 1), nothing),
    "viridian-vcpu-length": (length("VIRIDIAN_VCPU/0", 1), nothing),
    "viridian-vcpu-pad": (put("VIRIDIAN_VCPU/0._pad", b"\0\0\0\0\0\0\1"), nothing),
    "vmce-vcpu-vcpu": (instance("VMCE_VCPU/0", 1), nothing),
    "vmce-vcpu-length": (length("VMCE_VCPU/0", 1), nothing),
    "vmce-vcpu-caps": (put("VMCE_VCPU/0.caps", 0x200), put("VMCE_VCPU/0.caps", 0x1FF)),
    "tsc-adjust-vcpu": (instance("TSC_ADJUST/0", 1), nothing),
    "tsc-adjust-length": (length("TSC_ADJUST/0", 1), nothing),
    "cpu-msr-vcpu": (instance("CPU_MSR/0", 1), nothing),
    "cpu-msr-cut": (says("CPU_MSR/0", 40), nothing),
    "cpu-msr-length": (body_of("CPU_MSR/0", bytes(23)), nothing),
    "cpu-msr-count": (body_of("CPU_MSR/0", msrs((0xC0011019, 0, 5), count=2)), nothing),
    "cpu-msr-reserved": (body_of("CPU_MSR/0", msrs((0xC0011019, 1, 5))), nothing),
    "cpu-msr-index": (body_of("CPU_MSR/0", msrs((0x10, 0, 5))), nothing),
    "cpu-msr-mask": (body_of("CPU_MSR/0", msrs((0xC0011019, 0, 1 << 32))), body_of("CPU_MSR/0", msrs((0xC0011019, 0, 0xFFFFFFFF)))),
}  # fmt: skip
