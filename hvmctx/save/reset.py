"""An HVM context of a guest whose devices are as after a reset: what stands around CPU
state that comes from elsewhere.

Values: what Xen 4.17 itself saves of a fresh guest, and the devices' reset states (8259,
82093AA, 82489DX, 8254, ACPI).
"""

from __future__ import annotations

from hvmctx.abi import x86
from hvmctx.abi.registry import by_name
from hvmctx.abi.releases import NEWEST, Release, emission_order
from hvmctx.abi.x86_bits import CR0, RFLAGS, ApicBase
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["reset_context"]

_APIC_BASE = ApicBase.ADDRESS | ApicBase.EN
_MASKED = 0x10000
_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss")


def reset_context(vcpus: int, release: Release | None = None) -> HvmContext:
    """Records of every type that this release (the newest by default) writes for such a
    guest, CPU_XSAVE and the viridian ones aside, as long as it has them: the CPUs at the
    reset vector, interrupts masked."""
    entries = [_record("HEADER", magic=x86.HVM_FILE_MAGIC, version=x86.HVM_FILE_VERSION,
                       changeset=(1 << 64) - 1)]  # fmt: skip
    entries += [_cpu(vcpu) for vcpu in range(vcpus)]
    for master in (True, False):
        irq_base, elcr = (0x08, 0x20) if master else (0x70, 0x0C)
        entries.append(
            _record("PIC", 0 if master else 1, imr=0xFF, irq_base=irq_base, is_master=master,
                    elcr=elcr)
        )  # fmt: skip
    entries.append(
        _record("IOAPIC", base_address=0xFEC00000,
                **{f"redirtbl[{pin}].bits": _MASKED for pin in range(x86.VIOAPIC_NUM_PINS)})
    )  # fmt: skip
    entries += [
        _record(
            "LAPIC",
            vcpu,
            timer_divisor=2,  # Xen divides by it
            apic_base_msr=_APIC_BASE if vcpu else _APIC_BASE | ApicBase.BSP,
        )
        for vcpu in range(vcpus)
    ]
    entries += [_lapic_regs(vcpu) for vcpu in range(vcpus)]
    entries += [_record("PCI_IRQ"), _record("ISA_IRQ"), _record("PCI_LINK")]
    channels = {f"channels[{n}].gate": int(n < 2) for n in range(3)}
    entries.append(
        _record("PIT", **channels, **{f"channels[{n}].count": 0x10000 for n in range(3)})
    )
    entries += [_record("RTC"), _record("HPET", **_HPET), _record("PMTIMER")]
    entries += [
        _record("MTRR", vcpu, msr_pat_cr=0x0007040600070406, msr_mtrr_cap=0x508)
        for vcpu in range(vcpus)
    ]
    entries += [_record("VMCE_VCPU", vcpu) for vcpu in range(vcpus)]
    entries += [_record("TSC_ADJUST", vcpu) for vcpu in range(vcpus)]
    sizes = (release or Release(NEWEST)).sizes()
    for record in entries:
        record.body = bytes(record.body)[: sizes.get(record.name, 0)]
    known = [record for record in entries if record.name in sizes]
    known.sort(key=lambda record: emission_order(record.typecode, record.instance))
    return HvmContext([*known, _record("END")])


_HPET = {
    "capability": 0x00F4_2400_8086_A201,
    **{f"timers[{n}].config": 0x00F0_0000_0000_0030 for n in range(3)},
    **{f"timers[{n}].cmp": 0xFFFF_FFFF_FFFF_FFFF for n in range(3)},
}


def _record(name: str, instance: int = 0, **fields: Any) -> Record:
    known = by_name(name)
    body = bytearray(known.size)
    for path, value in fields.items():
        known.layout.locate(path).put(body, int(value))
    return Record(known, instance, bytes(body))


def _cpu(vcpu: int) -> Record:
    segments: dict[str, int] = {}
    for name in _SEGMENTS:
        segments[f"{name}_limit"] = 0xFFFF
        segments[f"{name}_arbytes"] = 0x9B if name == "cs" else 0x93
    return _record(
        "CPU", vcpu, **segments, rip=0xFFF0, rflags=RFLAGS.ONE, cr0=CR0.ET, dr6=0xFFFF0FF0,
        dr7=0x400, cs_sel=0xF000, cs_base=0xFFFF0000, tr_limit=0xFFFF, tr_arbytes=0x8B,
        ldtr_limit=0xFFFF, ldtr_arbytes=0x82, idtr_limit=0xFFFF, gdtr_limit=0xFFFF,
    )  # fmt: skip


def _lapic_regs(vcpu: int) -> Record:
    registers = {
        0x20: 2 * vcpu << 24,  # id
        0x30: 0x00050014,  # version, six local vectors
        0xE0: 0xFFFFFFFF,  # destination format: flat
        0xF0: 0xFF,  # spurious vector, switched off
        **dict.fromkeys(range(0x320, 0x380, 0x10), _MASKED),  # timer to error
    }
    body = bytearray(x86.LAPIC_REGS.size)
    for at, value in registers.items():
        body[at : at + 4] = value.to_bytes(4, "little")
    return Record(x86.LAPIC_REGS, vcpu, bytes(body))
