"""Of strict, about contexts: what fires each rule, and what just misses it."""

from __future__ import annotations

import struct

from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from tests.builders.contexts import Change, cpu, drop, put


def add(at: int, made: Record) -> Change:
    return lambda context: context.entries.insert(at, made)


def vcpu1(context: HvmContext) -> None:
    """A second vcpu, as a writer puts it in its place."""
    for name in ("CPU", "LAPIC", "LAPIC_REGS", "MTRR"):
        at = max(n for n, r in enumerate(context.entries) if r.name == name)
        old = context.entries[at]
        body = bytearray(old.body)
        if name == "LAPIC":
            body[1] &= ~1  # the bit of the boot processor
        elif name == "LAPIC_REGS":
            body[0x20:0x24] = struct.pack("<I", 2 << 24)
        context.entries.insert(at + 1, Record(old.typecode, 1, bytes(body)))


PROTECTED = dict(
    cr0=0x11, rflags=2, cs_arbytes=0xC9B, cs_limit=0xFFFFFFFF, ss_arbytes=0xC93,
    ss_limit=0xFFFFFFFF, tr_arbytes=0x8B, tr_limit=0x67, ldtr_arbytes=0,
)  # fmt: skip
LONG = PROTECTED | dict(
    cr0=0x80000011, cr4=0x20, msr_efer=0x500, cs_arbytes=0xA9B, cr3=0x1000
)  # fmt: skip
V86 = PROTECTED | dict(
    rflags=0x20002,
    **{f"{s}_arbytes": 0xF3 for s in ("cs", "ds", "es", "fs", "gs", "ss")},
    **{f"{s}_limit": 0xFFFF for s in ("cs", "ds", "es", "fs", "gs", "ss")},
    **{f"{s}_sel": 0x1234 for s in ("cs", "ds", "es", "fs", "gs", "ss")},
    **{f"{s}_base": 0x12340 for s in ("cs", "ds", "es", "fs", "gs", "ss")},
)  # fmt: skip
HIGH = 0xFFFF800000000000


def mxcsr(value: int) -> Change:
    return put("CPU/0.fpu_regs[24:+4]", value, "CPU/0.flags", 1)


Cases = dict[str, tuple[tuple[Change, ...], tuple[Change, ...]]]
CASES: Cases = {
    "cpu-cr0-contradiction": ((cpu(**PROTECTED | {"cr0": 0x80000010}),), (cpu(**PROTECTED),)),
    "cpu-cr0-contradiction#nw": ((cpu(cr0=0x20000010),), (cpu(cr0=0x60000010),)),
    "cpu-cr0-contradiction#cet": ((cpu(cr4=1 << 23),), (cpu(cr0=0x10010, cr4=1 << 23),)),
    "cpu-long-mode": ((cpu(**LONG | {"msr_efer": 0x100}),), (cpu(**LONG),)),
    "cpu-long-mode#lma": ((cpu(msr_efer=0x400),), (cpu(msr_efer=0x100),)),
    "cpu-long-mode#pae": ((cpu(**LONG | {"cr4": 0}),), (cpu(**LONG),)),
    "cpu-long-mode#pcide": ((cpu(cr4=1 << 17),), (cpu(**LONG | {"cr4": 0x20020}),)),
    "cpu-long-mode#vm": ((cpu(**LONG | {"rflags": 0x20002}),), (cpu(**LONG),)),
    "cpu-canonical": ((cpu(msr_lstar=1 << 47),), (cpu(msr_lstar=HIGH),)),
    "cpu-canonical#low": ((cpu(gdtr_base=HIGH - 1),), (cpu(gdtr_base=(1 << 47) - 1),)),
    "cpu-canonical#la57": ((cpu(shadow_gs=1 << 47),), (cpu(shadow_gs=1 << 47, cr4=1 << 12),)),
    "cpu-canonical#rip": ((cpu(**LONG | {"rip": 1 << 47}),), (cpu(**LONG | {"rip": HIGH}),)),
    "cpu-canonical#fs": ((cpu(**LONG | {"fs_base": 1 << 63}),), (cpu(fs_base=1 << 63),)),
    "cpu-rip": ((cpu(**PROTECTED | {"rip": 1 << 32}),), (cpu(rip=(1 << 32) - 1),)),
    "cpu-rflags": ((cpu(rflags=1 << 22),), (cpu(rflags=1 << 21 | 2),)),
    "cpu-rflags#3": ((cpu(rflags=8),), (cpu(rflags=4),)),
    "cpu-dr-high": ((cpu(dr7=1 << 32),), (cpu(dr7=0xFFFFFFFF),)),
    "cpu-mxcsr": ((mxcsr(1 << 16),), (mxcsr(0xFFFF),)),
    "segment-bits": ((cpu(ds_arbytes=0x1193),), (cpu(ds_arbytes=0x193),)),
    "segment-limit": ((cpu(ds_arbytes=0x93, ds_limit=1 << 20),), (cpu(ds_arbytes=0x893, ds_limit=(1 << 21) - 1),)),
    "segment-limit#g": ((cpu(ds_arbytes=0x893, ds_limit=0x1000),), (cpu(ds_arbytes=0x813, ds_limit=0x1000),)),
    "segment-cs": ((cpu(**LONG | {"cs_arbytes": 0xE9B}),), (cpu(**LONG),)),
    "segment-cs#absent": ((cpu(**PROTECTED | {"cs_arbytes": 0xC1B}),), (cpu(**PROTECTED),)),
    "segment-cs#data": ((cpu(**PROTECTED | {"cs_arbytes": 0xC92}),), (cpu(**PROTECTED | {"cs_arbytes": 0xC93}),)),
    "segment-data": ((cpu(**PROTECTED | {"es_arbytes": 0x83, "es_limit": 1}),), (cpu(**PROTECTED | {"es_arbytes": 0x93, "es_limit": 1}),)),
    "segment-tr": ((cpu(tr_arbytes=0x89),), (cpu(tr_arbytes=0x83),)),
    "segment-tr#long": ((cpu(**LONG | {"tr_arbytes": 0x83}),), (cpu(**LONG | {"tr_arbytes": 0x8B}),)),
    "segment-ldtr": ((cpu(ldtr_arbytes=0x83),), (cpu(ldtr_arbytes=0x82),)),
    "segment-v86": ((cpu(**V86 | {"cs_arbytes": 0x9B}),), (cpu(**V86),)),
    "segment-v86#base": ((cpu(**V86 | {"ds_base": 0x12350}),), (cpu(**V86),)),
    "segment-privilege": ((cpu(**PROTECTED | {"ss_arbytes": 0xCF3}),), (cpu(**PROTECTED | {"ss_arbytes": 0xCF3, "cs_arbytes": 0xC9F}),)),
    "lapic-base-msr": ((put("LAPIC/0.apic_base_msr", 0xFEE00901),), (put("LAPIC/0.apic_base_msr", 0xFEE00D00),)),
    "lapic-base-msr#base": ((put("LAPIC/0.apic_base_msr", 0xFED00900),), (put("LAPIC/0.apic_base_msr", 0xFEE00900),)),
    "ioapic-base": ((put("IOAPIC/0.base_address", 0xFEC01000),), ()),
    "ioapic-reserved": ((put("IOAPIC/0.redirtbl[3].bits", 1 << 17),), (put("IOAPIC/0.redirtbl[3].bits", 1 << 16),)),
    "mtrr-pat": ((put("MTRR/0.msr_pat_cr", 2),), (put("MTRR/0.msr_pat_cr", 7),)),
    "mtrr-type": ((put("MTRR/0.msr_mtrr_def_type", 0xC07),), (put("MTRR/0.msr_mtrr_def_type", 0xC06),)),
    "mtrr-type#fixed": ((put("MTRR/0.msr_mtrr_fixed[4]", 2 << 56),), (put("MTRR/0.msr_mtrr_fixed[4]", 4 << 56),)),
    "reserved-field": ((put("HPET/0.res5[83]", 1),), ()),
    "reserved-field#pending": ((cpu(pending_event=1 << 12),), (cpu(pending_event=1 << 11),)),
    "reserved-field#timer": ((put("HPET/0.timers[2].res4", 1),), (put("HPET/0.timers[2].fsb", 1),)),
    "context-order": ((drop("PIT/0"), add(-2, Record(10, 0, bytes(56)))), ()),
    "context-duplicate": ((add(-2, Record(19, 0, bytes(8))),), ()),
    "context-end-body": ((lambda c: setattr(c.entries[-1], "instance", 1),), ()),
    "context-tail": ((lambda c: setattr(c, "tail", b"x"),), ()),
    "context-no-cpu": ((drop("CPU/0"),), ()),
    "context-incomplete": ((drop("MTRR/0"),), ()),
    "context-incomplete#pic": ((drop("PIC/1"),), ()),
    "context-incomplete#rtc": ((drop("RTC/0"),), ()),
    "context-incomplete#vcpu1": ((vcpu1, drop("LAPIC_REGS/1")), (vcpu1,)),
    "lapic-bsp": ((put("LAPIC/0.apic_base_msr", 0xFEE00800),), ()),
    "lapic-bsp#1": ((vcpu1, put("LAPIC/1.apic_base_msr", 0xFEE00900)), (vcpu1,)),
    "lapic-id": ((vcpu1, put("LAPIC_REGS/1.data[0x23]", 6)), (vcpu1,)),
    "lapic-same-id": ((vcpu1, put("LAPIC_REGS/1.data[0x23]", 0)), (vcpu1,)),
    "vcpu-offline": ((vcpu1, drop("CPU/1")), (vcpu1,)),
}  # fmt: skip
