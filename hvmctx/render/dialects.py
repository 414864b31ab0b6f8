"""The dialects of Xen's own xen-hvmctx, as data: the lines that each release's tool prints for
each record.

A line is a C format and the fields that it prints, as paths of `abi.fields`. There are three
other kinds of argument: `=3` is the number 3, `path?on:off` is one of two words, and within
`each` `#` stands for the index.

Source: tools/misc/xen-hvmctx.c, 4.0 to c447b730, checked against the tool compiled from
each of the releases 4.0 to 4.22 and from the newest tree.
"""

from __future__ import annotations

from hvmctx.abi.releases import NEWEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Line = tuple[str, str]
    Lines = tuple[Line, ...]

__all__ = [
    "EXTRA_LINES", "FPU_AREAS", "FPU_CONDITIONAL_SINCE", "FPU_LINES", "LINES", "REST_LINES",
    "SPEAKER", "XMM_LEFT_JUSTIFIED", "XMM_ZERO_FILLED", "each", "fpu_lines",
]  # fmt: skip

SPEAKER = "speaker_data_on?on:off"


def each(indices: Iterable[int], *lines: Line) -> Lines:
    """The lines once for every index, `#` in their arguments replaced by it."""
    return tuple(
        (text, fields.replace("#", str(index))) for index in indices for text, fields in lines
    )


def _segments(order: str, text: str, system: str) -> Lines:
    """`order` has label and fields of each line: since 4.12 the tool prints ds as `es`."""
    return tuple(
        (
            (text if len(label) == 2 and label != "tr" else system).replace("LABEL", f"{label:>4}"),
            f"{name}_sel {name}_base {name}_limit {name}_arbytes",
        )
        for label, _, name in (pair.partition("=") for pair in order.split())
    )


_HEADER: Lines = (
    ("     Header: magic %#x, version %u", "magic version"),
    ("             Xen changeset %x", "changeset"),
    ("             CPUID[0][%%eax] 0x%.8x", "cpuid"),
    ("             gtsc_khz %u", "gtsc_khz"),
)

_REGISTERS: Lines = (
    ("    CPU:    rax 0x%016x     rbx 0x%016x", "rax rbx"),
    ("            rcx 0x%016x     rdx 0x%016x", "rcx rdx"),
    ("            rbp 0x%016x     rsi 0x%016x", "rbp rsi"),
    ("            rdi 0x%016x     rsp 0x%016x", "rdi rsp"),
    ("             r8 0x%016x      r9 0x%016x", "r8 r9"),
    ("            r10 0x%016x     r11 0x%016x", "r10 r11"),
    ("            r12 0x%016x     r13 0x%016x", "r12 r13"),
    ("            r14 0x%016x     r15 0x%016x", "r14 r15"),
    ("            rip 0x%016x  rflags 0x%016x", "rip rflags"),
    ("            cr0 0x%016x     cr2 0x%016x", "cr0 cr2"),
    ("            cr3 0x%016x     cr4 0x%016x", "cr3 cr4"),
    ("            dr0 0x%016x     dr1 0x%016x", "dr0 dr1"),
    ("            dr2 0x%016x     dr3 0x%016x", "dr2 dr3"),
    ("            dr6 0x%016x     dr7 0x%016x", "dr6 dr7"),
)
_TSC_AND_EVENT: Lines = (
    ("            tsc 0x%016x", "tsc"),
    ("          event 0x%08x error 0x%08x", "pending_event error_code"),
)


def _cpu_before_4_12(idt: str) -> Lines:
    segment = "           LABEL 0x%08x (0x%016x + 0x%08x / 0x%05x)"
    return (
        *_REGISTERS,
        *_segments("cs=cs ds=ds es=es fs=fs gs=gs ss=ss tr=tr ldtr=ldtr", segment, segment),
        (f"           {idt}            (0x%016x + 0x%08x)", "idtr_base idtr_limit"),
        ("           gdtr            (0x%016x + 0x%08x)", "gdtr_base gdtr_limit"),
        (
            "    sysenter cs 0x%08x  eip 0x%016x  esp 0x%016x",
            "sysenter_cs sysenter_eip sysenter_esp",
        ),
        ("      shadow gs 0x%016x", "shadow_gs"),
        ("      MSR flags 0x%016x  lstar 0x%016x", "msr_flags msr_lstar"),
        ("           star 0x%016x  cstar 0x%016x", "msr_star msr_cstar"),
        ("         sfmask 0x%016x   efer 0x%016x", "msr_syscall_mask msr_efer"),
        *_TSC_AND_EVENT,
    )


_CPU_4_12: Lines = (
    *_REGISTERS,
    *_segments(
        "cs=cs es=ds ds=es fs=fs gs=gs ss=ss tr=tr ldtr=ldtr",
        "           LABEL %#6.4x (%#18.8x + %#10.8x / %#7.4x)",
        "           LABEL %#6.4x (%#18.8x + %#10.4x / %#7.4x)",
    ),
    ("           idtr        (%#18.8x + %#10.4x)", "idtr_base idtr_limit"),
    ("           gdtr        (%#18.8x + %#10.4x)", "gdtr_base gdtr_limit"),
    (
        "    sysenter cs 0x%08x  eip 0x%016x  esp 0x%016x",
        "sysenter_cs sysenter_eip sysenter_esp",
    ),
    ("      shadow gs %#18.16x   efer %#18.8x", "shadow_gs msr_efer"),
    ("          lstar %#18.16x  cstar %#18.16x", "msr_lstar msr_cstar"),
    ("           star %#18.16x sfmask %#18.8x", "msr_star msr_syscall_mask"),
    *_TSC_AND_EVENT,
)


def fpu_lines(xmm: str, residue: int = 416) -> Lines:
    """The FXSAVE image in the byte array `#`; `residue` is where the six lines without a
    label start."""

    def word(offset: int, size: int) -> str:
        return f"#[{offset}:+{size}]"

    head = (
        ("    FPU:    fcw 0x%04x fsw 0x%04x", f"{word(0, 2)} {word(2, 2)}"),
        ("            ftw 0x%02x (0x%02x) fop 0x%04x", f"{word(4, 1)} {word(5, 1)} {word(6, 2)}"),
        ("          fpuip 0x%016x fpudp 0x%016x", f"{word(8, 8)} {word(16, 8)}"),
        ("          mxcsr 0x%08x mask 0x%08x", f"{word(24, 4)} {word(28, 4)}"),
    )
    mm = tuple(
        (
            "            mm%i 0x%04x%016x (0x%04x%04x%04x)",
            f"={i} {word(at + 8, 2)} {word(at, 8)} "
            f"{word(at + 14, 2)} {word(at + 12, 2)} {word(at + 10, 2)}",
        )
        for i, at in enumerate(range(32, 160, 16))
    )
    wide = tuple(
        (xmm, f"={i} {word(at + 8, 8)} {word(at, 8)}") for i, at in enumerate(range(160, 416, 16))
    )
    unlabelled = tuple(
        ("               (0x%016x%016x)", f"{word(at + 8, 8)} {word(at, 8)}")
        for at in range(residue, residue + 96, 16)
    )
    return (*head, *mm, *wide, *unlabelled)


XMM_ZERO_FILLED = "          xmm%2.2i 0x%016x%016x"
XMM_LEFT_JUSTIFIED = "          xmm%-2i 0x%016x%016x"

_PIC: Lines = (
    ("    PIC: IRQ base %#x, irr %#x, imr %#x, isr %#x", "irq_base irr imr isr"),
    (
        "         init_state %u, priority_add %u, readsel_isr %u, poll %u",
        "init_state priority_add readsel_isr poll",
    ),
    ("         auto_eoi %u, rotate_on_auto_eoi %u", "auto_eoi rotate_on_auto_eoi"),
    (
        "         special_fully_nested_mode %u, special_mask_mode %u",
        "special_fully_nested_mode special_mask_mode",
    ),
    ("         is_master %u, elcr %#x, int_output %#x", "is_master elcr int_output"),
)

_IOAPIC: Lines = (
    ("    IOAPIC: base_address %#x, ioregsel %#x id %#x", "base_address ioregsel id"),
    *each(range(48), ("            pin %.2i: 0x%.16x", "=# redirtbl[#].bits")),
)

_LAPIC: Lines = (
    (
        "    LAPIC: base_msr %#x, disabled %#x, timer_divisor %#x",
        "apic_base_msr disabled timer_divisor",
    ),
)


def _lapic_regs(text: str, size: int) -> Lines:
    return (
        ("    LAPIC registers:", ""),
        *(
            (text, f"={at} data[{at}:+{size}] ={at + 16} data[{at + 16}:+{size}]")
            for at in range(0, 1024, 32)
        ),
    )


_PIT_CHANNEL: Lines = (
    (
        "         ch %1i: count %#x, latched_count %#x, count_latched %u",
        "=# channels[#].count channels[#].latched_count channels[#].count_latched",
    ),
    (
        "               status %#x, status_latched %#x",
        "channels[#].status channels[#].status_latched",
    ),
    (
        "               rd_state %#x, wr_state %#x, wr_latch %#x, rw_mode %#x",
        "channels[#].read_state channels[#].write_state channels[#].write_latch "
        "channels[#].rw_mode",
    ),
    (
        "               mode %#x, bcd %#x, gate %#x",
        "channels[#].mode channels[#].bcd channels[#].gate",
    ),
)
_PIT: Lines = (("    PIT: speaker %s", SPEAKER), *each(range(2), *_PIT_CHANNEL))

_RTC: Lines = (
    (
        "    RTC: regs 0x%02x 0x%02x 0x%02x 0x%02x 0x%02x 0x%02x 0x%02x 0x%02x",
        " ".join(f"cmos_data[{i}]" for i in range(8)),
    ),
    (
        "              0x%02x 0x%02x 0x%02x 0x%02x 0x%02x 0x%02x, index 0x%02x",
        " ".join(f"cmos_data[{i}]" for i in range(8, 14)) + " cmos_index",
    ),
)


def _hpet(timer: str, period: str) -> Lines:
    return (
        ("    HPET: capability %#x config %#x", "capability config"),
        ("          isr %#x counter %#x", "isr mc64"),
        *each(
            range(3),
            (timer, "=# timers[#].config timers[#].cmp"),
            (period, "=# period[#] timers[#].fsb"),
        ),
    )


_PMTIMER: Lines = (
    ("    ACPI PM: TMR_VAL 0x%x, PM1a_STS 0x%x, PM1a_EN 0x%x", "tmr_val pm1a_sts pm1a_en"),
)


def _mtrr(head: str, var: str, fixed: str) -> Lines:
    return (
        (head, "msr_pat_cr msr_mtrr_cap msr_mtrr_def_type"),
        *((var, f"={i} msr_mtrr_var[{2 * i}] msr_mtrr_var[{2 * i + 1}]") for i in range(8)),
        *each(range(11), (fixed, "=# msr_mtrr_fixed[#]")),
    )


_VMCE_CAPS = ("    VMCE_VCPU: caps %x", "caps")

# fmt: off
LINES: dict[str, dict[str, Lines]] = {
    "HEADER": {"4.0": _HEADER},
    "CPU": {"4.0": _cpu_before_4_12("itdr"), "4.1": _cpu_before_4_12("idtr"), "4.12": _CPU_4_12},
    "PIC": {"4.0": _PIC},
    "IOAPIC": {"4.0": _IOAPIC},
    "LAPIC": {"4.0": _LAPIC},
    "LAPIC_REGS": {
        "4.0": _lapic_regs("          0x%04x: 0x%016x   0x%04x: 0x%016x", 8),
        "4.12": _lapic_regs("          0x%03x: 0x%08x   0x%03x: 0x%08x", 4),
    },
    "PCI_IRQ": {"4.0": (("    PCI IRQs: 0x%016x%016x", "pad[0] pad[1]"),)},
    "ISA_IRQ": {"4.0": (("    ISA IRQs: 0x%04x", "pad[0]"),)},
    "PCI_LINK": {"4.0": (("    PCI LINK: %u %u %u %u", "route[0] route[1] route[2] route[3]"),)},
    "PIT": {"4.0": _PIT},
    "RTC": {"4.0": _RTC},
    "HPET": {
        "4.0": _hpet("          timer%u config %#x cmp %#x",
                     "          timer%u period %#x fsb %#x"),
        "4.12": _hpet("          timer%u config %#18.16x cmp %#18.8x",
                      "          timer%u period %#18.8x fsb %#18.8x"),
    },
    "PMTIMER": {"4.0": _PMTIMER},
    "MTRR": {
        "4.0": _mtrr("    MTRR: PAT 0x%x, cap 0x%x, default 0x%x",
                     "          var %i 0x%016x 0x%016x", "          fixed %.2i 0x%016x"),
        "4.12": _mtrr("    MTRR: PAT %#x, cap %#x, default %#x",
                      "          var %u %#18.13x %#18.13x", "          fixed %02x %#18.16x"),
    },
    "VIRIDIAN_DOMAIN": {
        "4.0": (("    VIRIDIAN: hypercall gpa 0x%x, guest ID 0x%x", "hypercall_gpa guest_os_id"),),
        "4.2": (("    VIRIDIAN_DOMAIN: hypercall gpa 0x%x, guest_os_id 0x%x",
                 "hypercall_gpa guest_os_id"),),
    },
    "VIRIDIAN_VCPU": {
        "4.2": (("    VIRIDIAN_VCPU: apic_assist 0x%x", "vp_assist_msr"),),
        "4.7": (("    VIRIDIAN_VCPU: apic_assist_msr 0x%x, apic_assist_vector 0x%x",
                 "vp_assist_msr apic_assist_pending"),),
        "4.9": (("    VIRIDIAN_VCPU: vp_assist_msr 0x%x, vp_assist_vector 0x%x",
                 "vp_assist_msr apic_assist_pending"),),
        "4.11": (("    VIRIDIAN_VCPU: vp_assist_msr 0x%x, vp_assist_pending %s",
                  "vp_assist_msr apic_assist_pending?true:false"),),
        "4.12": (("    VIRIDIAN_VCPU: vp_assist_msr 0x%x, apic_assist_pending %s",
                  "vp_assist_msr apic_assist_pending?true:false"),),
    },
    "VMCE_VCPU": {
        "4.2": (_VMCE_CAPS,),
        "4.3": (_VMCE_CAPS,
                ("    VMCE_VCPU: bank0 mci_ctl2 %x", "mci_ctl2_bank0"),
                ("    VMCE_VCPU: bank1 mci_ctl2 %x", "mci_ctl2_bank1")),
    },
    "TSC_ADJUST": {"4.3": (("    TSC_ADJUST: tsc_adjust %x", "tsc_adjust"),)},
}
"""Record -> first release -> lines. The tool of a release does not understand a type that has
no entry, or none so early."""

FPU_LINES: dict[str, Lines] = {
    "4.0": fpu_lines(XMM_ZERO_FILLED, 400),  # xmm[] was declared one too short
    "4.2": fpu_lines(XMM_ZERO_FILLED),
    NEWEST: fpu_lines(XMM_LEFT_JUSTIFIED),
}
"""Printed after the lines of a CPU record: always up to 4.11, since 4.12 only if the record's
flags say that the FPU state is initialised."""
FPU_CONDITIONAL_SINCE = "4.12"
FPU_AREAS = {"CPU": "fpu_regs", "CPU_XSAVE": "save_area.fpu_sse.x"}
"""The byte array `#` of each record that has an FXSAVE image. The tool knows only the first;
with --all the lines follow EXTRA_LINES, whatever the flags say."""

EXTRA_LINES: dict[str, Lines] = {
    "PIT": each([2], *_PIT_CHANNEL),
    "CPU_XSAVE": (
        ("    CPU_XSAVE: xfeature_mask %#x", "xfeature_mask"),
        ("          xcr0 %#18.16x accum %#18.16x", "xcr0 xcr0_accum"),
        ("          xstate_bv %#18.16x xcomp_bv %#18.16x",
         "save_area.xsave_hdr.xstate_bv save_area.xsave_hdr.xcomp_bv"),
    ),
    "CPU_MSR": (("    CPU_MSR: count %u", "count"),),
}
"""With --all: in the tool's style, what it has no lines for. Whatever no line shows is added
after these by name, so that nothing is lost for not being listed here."""

REST_LINES: dict[str, Line] = {
    "CPU_MSR": ("          msr %#10.8x val %#18.16x", "index val"),
}
"""With --all: one line for each element of a record's variable part. What the line does not
show of the element is added to it if it is not zero."""
# fmt: on
