"""Names of the values of fields that have few, and of the bits of those that are sets, for
whoever shows or sets such a field.

Source: Xen's public header arch-x86/hvm/save.h and asm-x86/hvm/hvm.h, the datasheets of the
82093AA and the 8254, the VMPORT patch.
"""

from __future__ import annotations

import re

from hvmctx.abi.x86_bits import (
    CR0,
    CR4,
    DR6,
    DR7,
    EFER,
    RFLAGS,
    XCR0,
    ApicBase,
    McgCap,
    Pm1,
    StimerConfig,
    bits_of,
    named,
    named_bits,
)

__all__ = [
    "BITS", "NAMES", "PROTOCOLS", "PROTO_CLOSED", "PROTO_RPCI", "PROTO_TCLO", "bits_between",
    "names_of",
]  # fmt: skip

PROTO_CLOSED, PROTO_RPCI, PROTO_TCLO = 0, 0x49435052, 0x4F4C4354
PROTOCOLS = {PROTO_CLOSED: "closed", PROTO_RPCI: "RPCI", PROTO_TCLO: "TCLO"}
"""Of a VMPORT channel. RPCI carries requests from the guest, TCLO to the guest."""

_DELIVERY = {0: "FIXED", 1: "LOWEST", 2: "SMI", 4: "NMI", 5: "INIT", 7: "EXTINT"}

NAMES: dict[str, dict[int, str]] = {
    "CPU.pending_type": {
        0: "EXT_INTR", 2: "NMI", 3: "HW_EXCEPTION", 4: "SW_INTERRUPT", 5: "PRIV_SW_EXCEPTION",
        6: "SW_EXCEPTION",
    },
    "IOAPIC.redirtbl.fields.delivery_mode": _DELIVERY,
    "IOAPIC.redirtbl.fields.dest_mode": {0: "PHYSICAL", 1: "LOGICAL"},
    "IOAPIC.redirtbl.fields.polarity": {0: "HIGH", 1: "LOW"},
    "IOAPIC.redirtbl.fields.trig_mode": {0: "EDGE", 1: "LEVEL"},
    "PIT.channels.rw_mode": {1: "LSB", 2: "MSB", 3: "WORD"},
    "VMPORT.chans.proto_num": PROTOCOLS,
}  # fmt: skip
"""Record and field, without instance and indices -> value -> name of the value."""


BITS: dict[str, type] = {
    "CPU.cr0": CR0, "CPU.cr4": CR4, "CPU.msr_efer": EFER, "CPU.rflags": RFLAGS,
    "CPU.dr6": DR6, "CPU.dr7": DR7,
    "LAPIC.apic_base_msr": ApicBase,
    "PMTIMER.pm1a_sts": Pm1, "PMTIMER.pm1a_en": Pm1,
    "CPU_XSAVE.xfeature_mask": XCR0, "CPU_XSAVE.xcr0": XCR0, "CPU_XSAVE.xcr0_accum": XCR0,
    "CPU_XSAVE.save_area.xsave_hdr.xstate_bv": XCR0,
    "CPU_XSAVE.save_area.xsave_hdr.xcomp_bv": XCR0,
    "VIRIDIAN_VCPU.stimer_config_msr": StimerConfig,
    "VMCE_VCPU.caps": McgCap,
}  # fmt: skip
"""Record and field likewise -> the class of `abi.x86_bits` that names its bits."""


def _bare(path: str) -> str:
    """A path without instance and indices: `CPU.cr0` of `cpu/3.cr0`."""
    record, _, field = path.partition(".")
    name = re.sub(r"\[[^]]*\]", "", field)
    return f"{record.partition('/')[0].upper()}.{name}"


def names_of(path: str) -> dict[int, str]:
    """The names of the values of the field at a path such as `CPU/0.pending_type`; empty for
    most fields."""
    return NAMES.get(_bare(path), {})


_ROW = re.compile(r"CPUID\[(\w+)(?:,(\w+))?\]\.(e[abcd]x)|MSR\[(\w+)\]")


def bits_of_field(path: str) -> dict[int, str]:
    """The names of the bits of a field, mask -> name: of a register (`CPU/0.cr4`), of a register
    of the CPU policy (`CPUID[7,0].ecx`), of an MSR of it (`MSR[0xce]`); empty for most fields."""
    row = _ROW.fullmatch(path)
    if row is not None:
        return _bits_of_policy(*row.groups())
    register = BITS.get(_bare(path))
    return {} if register is None else named_bits(register)


def _bits_of_policy(
    leaf: str | None, subleaf: str | None, register: str, msr: str | None
) -> dict[int, str]:
    from hvmctx.abi.cpuid import MSR_FEATURES, WORDS
    from hvmctx.abi.msrs import MSR_BITS

    try:
        numbers = [None if part is None else int(part, 0) for part in (leaf, subleaf, msr)]
    except ValueError:
        return {}
    if numbers[2] is not None:
        features = {
            1 << bit: name for name, (index, bit) in MSR_FEATURES.items() if index == numbers[2]
        }
        return features or named_bits(MSR_BITS.get(numbers[2], object))
    at = ("eax", "ebx", "ecx", "edx").index(register)
    if numbers[:2] == [0xD, 0] and at in (0, 3):
        return {mask >> 32 * (at == 3): name for mask, name in named_bits(XCR0).items()}
    names = WORDS.get((numbers[0] or 0, numbers[1], 2 + at), {})
    return {1 << bit: name for bit, name in names.items()}


def bits_between(path: str, before: int, after: int) -> str:
    """The bits in which two values of a field differ, by name: `+UMIP -PGE`; "" of a field
    whose bits have no names.

    >>> bits_between("CPU/0.cr4", 0xA0, 0x820), bits_between("CPUID[7,0].ecx", 0, 4)
    ('-PGE +UMIP', '+UMIP')
    """
    names, changed = bits_of_field(path), before ^ after
    if not names:
        return ""
    signs = ("+" if after & bit else "-" for bit in bits_of(changed))
    return " ".join(sign + name for sign, name in zip(signs, named(names, changed)))
