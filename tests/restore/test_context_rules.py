"""The checks of a load, rule by rule: what fires each, and what just misses it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from hvmctx.abi.releases import Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.restore.context import TWO_PASSES_SINCE, load, rules
from hvmctx.restore.context_rules import CHECKED_SINCE, RULES
from tests.builders.contexts import body_of, instance, length, msrs, nothing, put, says, xsave
from tests.builders.loads import base, full_host, judged

_REST = 832 - 576


# rule -> what fires it, and what just misses it
CASES: dict[str, tuple[Callable[[HvmContext], None], Callable[[HvmContext], None]]] = {
    "cpu-vcpu": (instance("CPU/0", 1), nothing),
    "cpu-length": (length("CPU/0", 1), nothing),
    "cpu-pad0": (put("CPU/0.pad0", 1), put("CPU/0.pad0", 0)),
    "cpu-cr0": (put("CPU/0.cr0", 0x80000010), put("CPU/0.cr0", 0x80000011)),
    "cpu-cr4": (put("CPU/0.cr4", 1 << 12), put("CPU/0.cr4", 1 << 8)),
    "cpu-efer": (put("CPU/0.msr_efer", 1 << 9), put("CPU/0.msr_efer", 1 << 8)),
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


DEVICE_RULES = {rule.id for rule in rules() if rule.id.endswith("-device")}


TRIED = ["4.5", "4.7", "4.10", "4.14", "4.16", "4.17", "4.18", "4.19", "4.20", "newest"]


@pytest.mark.parametrize("release", TRIED)
def test_the_base_is_accepted(release: str) -> None:
    verdict = judged(release, nothing)
    assert verdict.accepted, verdict.text


RULES_OF = {rule.id: rule.record for rule in rules()}


FIELDS_SINCE_4_7 = ("cpu-pad0", "cpu-flags", "viridian-vcpu-pad")


TO_TRY = [
    (case, release)
    for case in CASES
    for release in TRIED
    if RULES_OF[case] in Release(release).sizes()
    and (case not in FIELDS_SINCE_4_7 or Release(release).since("4.7"))
]
"""Cases, with the releases that have the record, and the field in it."""


@pytest.mark.parametrize(("case", "release"), TO_TRY)
def test_every_rule(case: str, release: str) -> None:
    standing = [r for r in rules() if r.id == case and Release(release) in r.releases]
    fires, misses = CASES[case]
    verdict = judged(release, fires)
    if not standing:
        assert verdict.accepted, (verdict.rule, verdict.text)
        return
    (rule,) = standing
    since = CHECKED_SINCE.get(rule.record)
    two = Release(release).since(TWO_PASSES_SINCE)
    cut = case in ("cpu-xsave-cut", "cpu-msr-cut") and two and since is None
    assert verdict.rule == ("context-bounds" if cut else case)
    expected = rule.errno if Release(release).since("4.17") else "EPERM"
    assert verdict.errno == expected
    assert verdict.record == rule.record
    assert judged(release, misses).accepted


def test_every_rule_has_a_case() -> None:
    ids = {rule.id for rule in rules()} - DEVICE_RULES - {"cpu-xsave-host"}
    assert ids == set(CASES) == {case for case, _ in TO_TRY}
    assert all(hasattr(errno, rule.errno) for rule in rules())
    assert {rule.record for rule in rules()} == set(RULES)


@pytest.mark.parametrize("rule", [r for r in rules() if r.id in DEVICE_RULES], ids=lambda r: r.id)
def test_devices_that_are_not_there(rule: Any) -> None:
    verdict = judged("newest", nothing, devices=())
    assert verdict.errno == "ENODEV"
    only = HvmContext(
        [e for e in base(Release("newest")).entries if e.name in ("HEADER", rule.record, "END")]
    )
    verdict = load(only.to_bytes(), full_host("newest", devices=()))
    assert (verdict.rule, verdict.errno) == (rule.id, "ENODEV")
    assert load(only.to_bytes(), full_host("newest")).accepted


def test_host_without_xsave() -> None:
    verdict = judged("newest", nothing, xsave=False)
    assert (verdict.rule, verdict.errno) == ("cpu-xsave-host", "ENOTSUP")
