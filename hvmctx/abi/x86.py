"""The x86 HVM save records, as ctypes structures, in the order and with the names of
Xen's public header `arch-x86/hvm/save.h` (sizes of the newest release; what older
releases wrote is in `releases`).

All integers are little-endian. A record on the wire is one `hvm_save_descriptor`
followed by `length` bytes of body; bodies are neither padded nor aligned. Padding is
declared (`_pad...`), so that a structure always holds every byte of its record.
"""

from __future__ import annotations

import struct
from ctypes import c_int64 as s64
from ctypes import c_uint8 as u8
from ctypes import c_uint16 as u16
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64

from hvmctx.abi.declare import DOMAIN, MARKER, VCPU, RecordType, SaveStructure, SaveUnion, declare
from hvmctx.abi.fields import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HVM_FILE_MAGIC = 0x54381286
HVM_FILE_VERSION = 1
XEN_X86_FPU_INITIALISED = 1
VIOAPIC_NUM_PINS = 48
MTRR_VCNT = 8
NUM_FIXED_MSR = 11
HPET_TIMER_NUM = 3
RTC_CMOS_SIZE = 14


class hvm_save_descriptor(SaveStructure):
    """Precedes every record. `length` counts the body only."""

    _fields_ = [("typecode", u16), ("instance", u16), ("length", u32)]


DESCRIPTOR = struct.Struct(Layout.of(hvm_save_descriptor).format)
"""Its three numbers in one call, for whoever walks many."""


class hvm_save_end(SaveStructure):
    """No body: its descriptor alone closes a context."""

    _fields_ = []


class hvm_save_header(SaveStructure):
    """`changeset` is all ones when unknown; `cpuid` is leaf 1 EAX of the saving host."""

    _fields_ = [
        ("magic", u32),
        ("version", u32),
        ("changeset", u64),
        ("cpuid", u32),
        ("gtsc_khz", u32),
    ]


class _pending_event_bits(SaveStructure):
    _fields_ = [
        ("pending_vector", u32, 8),
        ("pending_type", u32, 3),
        ("pending_error_valid", u32, 1),
        ("pending_reserved", u32, 19),
        ("pending_valid", u32, 1),
    ]


class _pending_event(SaveUnion):
    _anonymous_ = ("_bits",)
    _fields_ = [("pending_event", u32), ("_bits", _pending_event_bits)]


# fmt: off
_CPU_UP_TO_EFER: list[tuple[str, Any]] = [
    ("fpu_regs", u8 * 512),
    ("rax", u64), ("rbx", u64), ("rcx", u64), ("rdx", u64),
    ("rbp", u64), ("rsi", u64), ("rdi", u64), ("rsp", u64),
    ("r8", u64), ("r9", u64), ("r10", u64), ("r11", u64),
    ("r12", u64), ("r13", u64), ("r14", u64), ("r15", u64),
    ("rip", u64), ("rflags", u64),
    ("cr0", u64), ("cr2", u64), ("cr3", u64), ("cr4", u64),
    ("dr0", u64), ("dr1", u64), ("dr2", u64), ("dr3", u64), ("dr6", u64), ("dr7", u64),
    ("cs_sel", u32), ("ds_sel", u32), ("es_sel", u32), ("fs_sel", u32),
    ("gs_sel", u32), ("ss_sel", u32), ("tr_sel", u32), ("ldtr_sel", u32),
    ("cs_limit", u32), ("ds_limit", u32), ("es_limit", u32), ("fs_limit", u32),
    ("gs_limit", u32), ("ss_limit", u32), ("tr_limit", u32), ("ldtr_limit", u32),
    ("idtr_limit", u32), ("gdtr_limit", u32),
    ("cs_base", u64), ("ds_base", u64), ("es_base", u64), ("fs_base", u64),
    ("gs_base", u64), ("ss_base", u64), ("tr_base", u64), ("ldtr_base", u64),
    ("idtr_base", u64), ("gdtr_base", u64),
    ("cs_arbytes", u32), ("ds_arbytes", u32), ("es_arbytes", u32), ("fs_arbytes", u32),
    ("gs_arbytes", u32), ("ss_arbytes", u32), ("tr_arbytes", u32), ("ldtr_arbytes", u32),
    ("sysenter_cs", u64), ("sysenter_esp", u64), ("sysenter_eip", u64),
    ("shadow_gs", u64),
    ("msr_flags", u64), ("msr_lstar", u64), ("msr_star", u64), ("msr_cstar", u64),
    ("msr_syscall_mask", u64), ("msr_efer", u64),
]
# fmt: on


class hvm_hw_cpu(SaveStructure):
    """1032 bytes since 4.7; 1024 (no `flags`, `pad0`) in 4.0 to 4.6."""

    _anonymous_ = ("_pending",)
    _fields_ = [
        *_CPU_UP_TO_EFER,
        ("msr_tsc_aux", u64),
        ("tsc", u64),
        ("_pending", _pending_event),
        ("error_code", u32),
        ("flags", u32),
        ("pad0", u32),
    ]


class hvm_hw_cpu_compat(SaveStructure):
    """The 1016 bytes of Xen before 3.4: no `msr_tsc_aux`, so all that follows is 8 lower."""

    _anonymous_ = ("_pending",)
    _fields_ = [
        *_CPU_UP_TO_EFER,
        ("tsc", u64),
        ("_pending", _pending_event),
        ("error_code", u32),
    ]


class hvm_hw_vpic(SaveStructure):
    """One 8259, master or slave by the record's instance (0, 1)."""

    _fields_ = [
        ("irr", u8),
        ("imr", u8),
        ("isr", u8),
        ("irq_base", u8),
        ("init_state", u8, 4),
        ("priority_add", u8, 4),
        ("readsel_isr", u8, 1),
        ("poll", u8, 1),
        ("auto_eoi", u8, 1),
        ("rotate_on_auto_eoi", u8, 1),
        ("special_fully_nested_mode", u8, 1),
        ("special_mask_mode", u8, 1),
        ("is_master", u8, 1),
        ("_pad0", u8, 1),
        ("elcr", u8),
        ("int_output", u8),
    ]


class _vioapic_redir_fields(SaveStructure):
    _fields_ = [
        ("vector", u8),
        ("delivery_mode", u8, 3),
        ("dest_mode", u8, 1),
        ("delivery_status", u8, 1),
        ("polarity", u8, 1),
        ("remote_irr", u8, 1),
        ("trig_mode", u8, 1),
        ("mask", u8, 1),
        ("reserve", u8, 7),
        ("reserved", u8 * 4),
        ("dest_id", u8),
    ]


class vioapic_redir_entry(SaveUnion):
    """A pin's redirection entry, as a number and by its fields."""

    _fields_ = [("bits", u64), ("fields", _vioapic_redir_fields)]


class hvm_hw_vioapic(SaveStructure):
    """Registers and the 48 pins of the virtual IO-APIC."""

    _fields_ = [
        ("base_address", u64),
        ("ioregsel", u32),
        ("id", u32),
        ("redirtbl", vioapic_redir_entry * VIOAPIC_NUM_PINS),
    ]


class hvm_hw_lapic(SaveStructure):
    """16 bytes in 4.0, 24 from 4.1, 32 with `pending_esr` (see `releases`)."""

    _fields_ = [
        ("apic_base_msr", u64),
        ("disabled", u32),
        ("timer_divisor", u32),
        ("tdt_msr", u64),
        ("pending_esr", u32),
        ("_pad0", u32),
    ]


class hvm_hw_lapic_regs(SaveStructure):
    """The first 0x400 bytes of the register page: 32-bit registers, one every 16 bytes."""

    _fields_ = [("data", u8 * 1024)]


class _pci_irq_words(SaveUnion):
    _fields_ = [("i", u64 * 2), ("pad", u64 * 2)]


class hvm_hw_pci_irqs(SaveStructure):
    """Level of each of the 4 INTx lines of 32 devices, a bit each."""

    _anonymous_ = ("_words",)
    _fields_ = [("_words", _pci_irq_words)]


class _isa_irq_words(SaveUnion):
    _fields_ = [("i", u64 * 1), ("pad", u64 * 1)]


class hvm_hw_isa_irqs(SaveStructure):
    """Level of the 16 ISA lines, a bit each; the rest of the first word is unused."""

    _anonymous_ = ("_words",)
    _fields_ = [("_words", _isa_irq_words)]


class hvm_hw_pci_link(SaveStructure):
    """The ISA line that each of the four PCI link devices drives; 0 for none."""

    _fields_ = [("route", u8 * 4), ("pad0", u8 * 4)]


class hvm_hw_pit_channel(SaveStructure):
    """One counter of the 8254; latched values and modes as its registers have them."""

    _fields_ = [
        ("count", u32),
        ("latched_count", u16),
        ("count_latched", u8),
        ("status_latched", u8),
        ("status", u8),
        ("read_state", u8),
        ("write_state", u8),
        ("write_latch", u8),
        ("rw_mode", u8),
        ("mode", u8),
        ("bcd", u8),
        ("gate", u8),
    ]


class hvm_hw_pit(SaveStructure):
    """The three counters, and port 0x61's speaker bit."""

    _fields_ = [
        ("channels", hvm_hw_pit_channel * 3),
        ("speaker_data_on", u32),
        ("pad0", u32),
    ]


class hvm_hw_rtc(SaveStructure):
    """16 bytes up to 4.13; `rtc_offset` (seconds, signed) since 4.14."""

    _fields_ = [
        ("cmos_data", u8 * RTC_CMOS_SIZE),
        ("cmos_index", u8),
        ("pad0", u8),
        ("rtc_offset", s64),
    ]


class hvm_hw_hpet_timer(SaveStructure):
    """A comparator's registers; `cmp` is in ticks of the counter."""

    _fields_ = [("config", u64), ("cmp", u64), ("fsb", u64), ("res4", u64)]


class hvm_hw_hpet(SaveStructure):
    """Registers by their offsets in the HPET's page; `mc64` is the main counter."""

    _fields_ = [
        ("capability", u64),
        ("res0", u64),
        ("config", u64),
        ("res1", u64),
        ("isr", u64),
        ("res2", u64 * 25),
        ("mc64", u64),
        ("res3", u64),
        ("timers", hvm_hw_hpet_timer * HPET_TIMER_NUM),
        ("res5", u64 * 84),
        ("period", u64 * HPET_TIMER_NUM),
    ]


class hvm_hw_pmtimer(SaveStructure):
    """The ACPI timer, 3.579545 MHz, and the PM1a registers."""

    _fields_ = [("tmr_val", u32), ("pm1a_sts", u16), ("pm1a_en", u16)]


class hvm_hw_mtrr(SaveStructure):
    """`msr_mtrr_var` holds base and mask of each of the eight ranges in turn."""

    _fields_ = [
        ("msr_pat_cr", u64),
        ("msr_mtrr_var", u64 * (2 * MTRR_VCNT)),
        ("msr_mtrr_fixed", u64 * NUM_FIXED_MSR),
        ("msr_mtrr_cap", u64),
        ("msr_mtrr_def_type", u64),
    ]


class hvm_viridian_domain_context(SaveStructure):
    """16 bytes up to 4.4 (called VIRIDIAN in 4.0 and 4.1), 24 in 4.5, 32 since 4.6."""

    _fields_ = [
        ("hypercall_gpa", u64),
        ("guest_os_id", u64),
        ("time_ref_count", u64),
        ("reference_tsc", u64),
    ]


class _xsave_fpu_sse(SaveStructure):
    _fields_ = [("x", u8 * 512)]


class _xsave_hdr(SaveStructure):
    """Up to 4.6 `xcomp_bv` was part of the reserved words."""

    _fields_ = [("xstate_bv", u64), ("xcomp_bv", u64), ("reserved", u64 * 6)]


class _xsave_area(SaveStructure):
    _fields_ = [("fpu_sse", _xsave_fpu_sse), ("xsave_hdr", _xsave_hdr)]


class hvm_hw_cpu_xsave(SaveStructure):
    """The least that a loader takes; the components beyond x87 and SSE follow, in the
    uncompressed layout for `xcr0_accum`."""

    _fields_ = [
        ("xfeature_mask", u64),
        ("xcr0", u64),
        ("xcr0_accum", u64),
        ("save_area", _xsave_area),
    ]


class hvm_viridian_vcpu_context(SaveStructure):
    """8 bytes up to 4.6, 16 in 4.7 to 4.12, 216 since 4.13. The first two fields were
    renamed on the way: apic_assist, apic_assist_msr, vp_assist_msr; apic_assist_vector,
    vp_assist_vector, vp_assist_pending, apic_assist_pending."""

    _fields_ = [
        ("vp_assist_msr", u64),
        ("apic_assist_pending", u8),
        ("_pad", u8 * 7),
        ("simp_msr", u64),
        ("sint_msr", u64 * 16),
        ("stimer_config_msr", u64 * 4),
        ("stimer_count_msr", u64 * 4),
    ]


class hvm_vmce_vcpu(SaveStructure):
    """8 bytes in 4.2, 24 in 4.3 to 4.9, 32 since 4.10."""

    _fields_ = [
        ("caps", u64),
        ("mci_ctl2_bank0", u64),
        ("mci_ctl2_bank1", u64),
        ("mcg_ext_ctl", u64),
    ]


class hvm_tsc_adjust(SaveStructure):
    """IA32_TSC_ADJUST, in ticks."""

    _fields_ = [("tsc_adjust", u64)]


class hvm_one_msr(SaveStructure):
    """An element of CPU_MSR."""

    _fields_ = [("index", u32), ("_rsvd", u32), ("val", u64)]


class hvm_msr(SaveStructure):
    """Followed by `count` of `hvm_one_msr`."""

    _fields_ = [("count", u32), ("_pad0", u32)]


# fmt: off
#                          name              type  structure                   instance
END             = declare("END",              0, hvm_save_end,                MARKER)
HEADER          = declare("HEADER",           1, hvm_save_header,             MARKER)
CPU             = declare("CPU",              2, hvm_hw_cpu,                  VCPU)
PIC             = declare("PIC",              3, hvm_hw_vpic,                 DOMAIN)
IOAPIC          = declare("IOAPIC",           4, hvm_hw_vioapic,              DOMAIN)
LAPIC           = declare("LAPIC",            5, hvm_hw_lapic,                VCPU)
LAPIC_REGS      = declare("LAPIC_REGS",       6, hvm_hw_lapic_regs,           VCPU)
PCI_IRQ         = declare("PCI_IRQ",          7, hvm_hw_pci_irqs,             DOMAIN)
ISA_IRQ         = declare("ISA_IRQ",          8, hvm_hw_isa_irqs,             DOMAIN)
PCI_LINK        = declare("PCI_LINK",         9, hvm_hw_pci_link,             DOMAIN)
PIT             = declare("PIT",             10, hvm_hw_pit,                  DOMAIN)
RTC             = declare("RTC",             11, hvm_hw_rtc,                  DOMAIN)
HPET            = declare("HPET",            12, hvm_hw_hpet,                 DOMAIN)
PMTIMER         = declare("PMTIMER",         13, hvm_hw_pmtimer,              DOMAIN)
MTRR            = declare("MTRR",            14, hvm_hw_mtrr,                 VCPU)
VIRIDIAN_DOMAIN = declare("VIRIDIAN_DOMAIN", 15, hvm_viridian_domain_context, DOMAIN)
CPU_XSAVE       = declare("CPU_XSAVE",       16, hvm_hw_cpu_xsave,            VCPU, ("extended", u8))
VIRIDIAN_VCPU   = declare("VIRIDIAN_VCPU",   17, hvm_viridian_vcpu_context,   VCPU)
VMCE_VCPU       = declare("VMCE_VCPU",       18, hvm_vmce_vcpu,               VCPU)
TSC_ADJUST      = declare("TSC_ADJUST",      19, hvm_tsc_adjust,              VCPU)
CPU_MSR         = declare("CPU_MSR",         20, hvm_msr,                     VCPU, ("msr", hvm_one_msr))
# fmt: on

__all__ = [
    name
    for name, value in globals().items()
    if name[0] != "_" and (type(value) in (int, struct.Struct, RecordType)
                           or getattr(value, "__module__", "") == __name__)
]  # fmt: skip
