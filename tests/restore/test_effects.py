"""What an accepted load does not take over, in words, release by release."""

from __future__ import annotations

import pytest

from hvmctx.abi.releases import Release
from hvmctx.restore.effects import unfolded
from tests.builders.cases.hazards import hpet, mxcsr, stimer, x2apic
from tests.builders.contexts import Change, body_of, length, nothing, put, xsave
from tests.builders.loads import base, judged

OFFERED = 0x00F0_0000_0000_0000


def told(release: str, change: Change) -> set[str]:
    """What the change adds to what is told."""
    verdict = judged(release, change)
    assert verdict.accepted, verdict
    return set(verdict.applied) - set(judged(release, nothing).applied)


@pytest.mark.parametrize(
    ("change", "text", "without", "since"),
    [
        (put("CPU/0.rflags", 0), "CPU/0: rflags gets bit 1", "", "4.0"),
        (put("CPU/0.cs_arbytes", 0xA09B), "CPU/0: cs_arbytes 0xa09b -> 0xa9b", "", "4.0"),
        (put("CPU/0.dr6", 0x1001), "CPU/0: dr6 0x1001 -> 0xfffe07f1", "4.17", "4.18.0"),
        (put("CPU/0.dr7", 0xF000), "CPU/0: dr7 0xf000 -> 0x2400", "4.17", "4.18.0"),
        (put("CPU/0.flags", 0), "CPU/0: fpu_regs is not taken: flags says that the FPU is not "
         "initialised, and it is reset", "", "4.7"),
        (mxcsr(0x10000), "CPU/0: MXCSR is 0x10000, which has reserved bits: the FPU is reset when "
         "it is used", "4.2.2", "4.2.3"),
        (put("HEADER/0.gtsc_khz", 0), "HEADER/0: gtsc_khz is 0: the guest keeps the TSC frequency "
         "that it was made with", "", "4.0"),
        (put("PIC/0.elcr", 0), "PIC/0: elcr gets bit 2, the cascade", "4.18", "4.19.0"),
        (put("PIT/0.channels[0].mode", 0xFF), "PIT/0: channels[0].mode 0xff -> 3", "4.18", "4.19.0"),
        (put("PIT/0.channels[1].count", 0), "PIT/0: channels[1].count 0x0 -> 0x10000", "", "4.0"),
        (x2apic(2, 1), "LAPIC_REGS/0: x2APIC: id 0x2 -> 0x0, LDR 0x1 -> 0x1", "4.4", "4.5.0"),
        (hpet(OFFERED | 4 | 3 << 9, 0), "HPET/0: timers[2] is routed to interrupt 20 instead of 3",
         "4.11", "4.12.0"),
        (hpet(OFFERED | 3 << 9, 0), "HPET/0: timers[2] is routed to interrupt 0 instead of 3",
         "4.11", "4.12.0"),
        (put("MTRR/0.msr_pat_cr", 0x0302), "MTRR/0: msr_pat_cr is not taken: unknown memory type 2, 3",
         "", "4.0"),
        (put("MTRR/0.msr_mtrr_fixed[3]", 0x0606060606060602),
         "MTRR/0: msr_mtrr_fixed[3] is not taken: unknown memory type 2", "", "4.0"),
        (put("MTRR/0.msr_mtrr_var[0]", 0x1002), "MTRR/0: msr_mtrr_var[0] is not taken: "
         "unknown memory type 2", "", "4.0"),
        (put("MTRR/0.msr_mtrr_def_type", 0xC07), "MTRR/0: msr_mtrr_def_type is not taken: "
         "unknown memory type 7", "", "4.0"),
        (put("MTRR/0.msr_mtrr_cap", 0x507, "MTRR/0.msr_mtrr_var[15]", 0x800),
         "MTRR/0: msr_mtrr_var[15] is not taken: beyond the ranges of msr_mtrr_cap",
         "4.11", "4.12.0"),
        (body_of("CPU_XSAVE/0", xsave(3, bytes(8))),
         "CPU_XSAVE/0: 8 bytes after the image for xcr0_accum are not taken", "", "4.5"),
        (put("CPU_XSAVE/0.save_area.fpu_sse.x[24:+4]", 0x10000), "CPU_XSAVE/0: MXCSR is 0x10000, "
         "which has reserved bits: XSAVE state is reset when it is used", "4.2.2", "4.2.3"),
        (stimer(0x10003, 0, 1), "VIRIDIAN_VCPU/0: stimer_config_msr[3] loses ENABLE: it has no count",
         "4.21.1", "4.21.2"),
        (stimer(0x10003, 0, 1), "VIRIDIAN_VCPU/0: stimer_config_msr[3] loses ENABLE: it has no count",
         "4.17.6", "4.17.7"),
        (stimer(1, 0, 1), "VIRIDIAN_VCPU/0: stimer_config_msr[3] loses ENABLE: it has no count and "
         "no interrupt source", "4.20.3", "4.22.0"),
        (length("CPU/0", -8), "CPU/0: read from 1024 bytes, flags forced to 1", "", "4.7"),
        (length("LAPIC/0", -8), "LAPIC/0: 24 bytes, zeros after them", "", "newest"),
    ],
)  # fmt: skip
def test_what_is_told(change: Change, text: str, without: str, since: str) -> None:
    assert text in told(since, change)
    assert not without or text not in told(without, change)


def test_where_the_id_of_an_x2apic_goes() -> None:
    """An LDR of 1 is made anew: of the vcpu's number at first, of the id that it gives later."""
    for release, ldr in (
        ("4.5.0", 0x8), ("4.17.2", 0x8), ("4.17.3", 0x40), ("4.18.0", 0x8), ("4.18.1", 0x40),
        ("newest", 0x40),
    ):  # fmt: skip
        context = base(Release(release))
        x2apic(7, 1)(context)
        for name in ("CPU", "LAPIC", "LAPIC_REGS"):
            next(e for e in context.entries if e.name == name).instance = 3
        from hvmctx.restore.context import load
        from hvmctx.restore.guest import Guest
        from hvmctx.restore.machine import AMD, Machine

        data = context.to_bytes()
        verdict = load(data, Release(release), Guest(vcpus=4), Machine(vendor=AMD))
        assert f"LAPIC_REGS/3: x2APIC: id 0x7 -> 0x6, LDR 0x1 -> {ldr:#x}" in verdict.applied


def test_a_route_of_legacy_mode() -> None:
    """Timers 0 and 1 do not go by their registers then; since fb0e37df71 these are left alone."""
    change = put("HPET/0.config", 3, "HPET/0.timers[0].config", OFFERED | 3 << 9)
    text = "HPET/0: timers[0] is routed to interrupt 0 instead of 3"
    assert text in told("4.20.2", change) and text not in told("4.20.3", change)


def test_the_tsc_goes_on() -> None:
    """Said once, of the first vcpu."""
    (line,) = [line for line in judged("newest", nothing).applied if "TSC" in line]
    assert line.startswith("CPU/0: the guest's TSC goes on from 0x")


def test_attributes() -> None:
    assert (unfolded(0xA09B), unfolded(0xA9B), unfolded(0x9B)) == (0xA9B, 0xA9B, 0x9B)
