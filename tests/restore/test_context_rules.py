"""The checks of a load, rule by rule: what fires each, and what just misses it."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from hvmctx.abi.cpuid import NO_SUBLEAF
from hvmctx.abi.releases import Release, came_with
from hvmctx.abi.x86_bits import CR0, EFER
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.restore.context import ERRNO_SINCE, TWO_PASSES_SINCE, load
from hvmctx.restore.context_rules import CHECKED_SINCE, RULES, UNPAUSED, WALK, tsc_page_of
from hvmctx.restore.guest import Guest
from hvmctx.restore.machine import AMD, INTEL, Machine
from hvmctx.restore.remedies import REMEDIES
from hvmctx.restore.rules import Rule, Seen
from tests.builders.cases.context_rules import CASES
from tests.builders.contexts import Change, body_of, instance, length, msrs, nothing, put, xsave
from tests.builders.loads import base, having, judged, loaded

DEVICES = ("pic", "ioapic", "lapic", "lapic-regs", "pit", "rtc", "hpet", "pmtimer")
DEVICE_RULES = {f"{device}-device" for device in DEVICES}


TRIED = ["4.1", "4.5", "4.7", "4.10", "4.14", "4.16", "4.17", "4.18", "4.19", "4.20", "newest"]


@pytest.mark.parametrize("release", TRIED)
def test_the_base_is_accepted(release: str) -> None:
    verdict = judged(release, nothing)
    assert verdict.accepted, verdict.text


RULES_OF = {rule.id: rule.record for rule in RULES}


SINCE_4_7 = ("cpu-pad0", "cpu-flags", "viridian-vcpu-pad", "cpu-xsave-compact")


TO_TRY = [
    (case, release)
    for case in CASES
    for release in TRIED
    if RULES_OF[case] in Release(release).sizes()
    and (case not in SINCE_4_7 or Release(release).since("4.7"))
]
"""Cases, with the releases that have the record, and the field in it."""


REPLACED = {("cpu-msr-mask", "cpu-msr-index")}
"""Rules that became part of another."""


@pytest.mark.parametrize(("case", "release"), TO_TRY)
def test_every_rule(case: str, release: str) -> None:
    standing = [r for r in RULES if r.id == case and Release(release) in r.releases]
    fires, misses = CASES[case]
    verdict = judged(release, fires)
    if not standing:
        assert verdict.accepted or (case, verdict.rule) in REPLACED
        return
    (rule,) = standing
    since = CHECKED_SINCE.get(rule.record)
    two = Release(release).since(TWO_PASSES_SINCE)
    cut = case in ("cpu-xsave-cut", "cpu-msr-cut") and two and since is None
    assert verdict.rule == ("context-bounds" if cut else case)
    expected = rule.errno if Release(release).since(ERRNO_SINCE) else "EPERM"
    assert verdict.errno == expected
    assert verdict.record == rule.record
    assert judged(release, misses).accepted


def test_every_case_is_tried() -> None:
    assert set(CASES) == {case for case, _ in TO_TRY}
    assert {*CASES, *DEVICE_RULES, "cpu-xsave-host", "cpu-cr3-page"} == {rule.id for rule in RULES}
    assert all(hasattr(errno, rule.errno or "") for rule in RULES)


@pytest.mark.parametrize("rule", [r for r in RULES if r.id in DEVICE_RULES], ids=lambda r: r.id)
def test_devices_that_are_not_there(rule: Rule) -> None:
    verdict = judged("newest", nothing, devices=())
    assert verdict.errno == "ENODEV"
    only = HvmContext(
        [e for e in base(Release("newest")).entries if e.name in ("HEADER", rule.record, "END")]
    )
    verdict = loaded(only, "newest", devices=())
    assert (verdict.rule, verdict.errno) == (rule.id, "ENODEV")
    assert loaded(only, "newest").accepted


def test_host_without_xsave() -> None:
    verdict = judged("newest", nothing, xsave=False)
    assert (verdict.rule, verdict.errno) == ("cpu-xsave-host", "ENOTSUP")


@pytest.mark.parametrize("release", ["4.0", "4.5.5", "4.13.0", "newest"])
def test_shadowed_page_tables_need_their_page(release: str) -> None:
    """Read in every release; EINVAL where the errno is passed on."""
    for cr0, hap, pages, rule in (
        (0x80000011, False, (), "cpu-cr3-page"), (0x80000011, False, (0x123,), ""),
        (0x80000011, True, (), ""), (0x11, False, (), ""), (0x80000011, False, None, ""),
    ):  # fmt: skip
        has_page = None if pages is None else pages.__contains__
        guest = Guest(vcpus=1, hap=hap, has_page=has_page)
        assert cpu(release, guest, Machine(), cr0=cr0, cr3=0x123FFF) == rule


_TSC = "viridian-domain-tsc-page"


@pytest.mark.parametrize(
    ("release", "dies"),
    [("4.12", False), ("4.13.0", True), ("4.14.6", True), ("4.16.7", True), ("4.17.5", True),
     ("4.17.6", False), ("4.17", False), ("4.18.5", True), ("4.18.6", False), ("4.19.3", True),
     ("4.19.4", False), ("4.20.1", True), ("4.20.2", False), ("4.21.0", False),
     ("newest", False)],
)  # fmt: skip
def test_a_reference_tsc_without_its_page(release: str, dies: bool) -> None:
    """CVE-2025-27466: the load itself ends the pause in which Xen writes to the page."""
    context = base(Release(release))
    put("VIRIDIAN_DOMAIN/0.reference_tsc", 0x123 << 12 | 1)(context)
    for guest, seen in (
        (Guest(has_page=set().__contains__), dies),
        (Guest(has_page={0x123}.__contains__), False),
        (Guest(has_page=set().__contains__, viridian=False), False),
        (Guest(), False),
    ):
        verdict = load(context.to_bytes(), Release(release), guest, Machine(vendor=AMD))
        assert (verdict.verdict == "violation", verdict.rule) == (seen, _TSC if seen else "")
        assert not seen or (verdict.errno, verdict.record) == (None, "VIRIDIAN_DOMAIN")


def test_the_last_reference_tsc_counts_and_a_later_refusal_does_not() -> None:
    guest = Guest(vcpus=1, has_page={0x123}.__contains__)

    def rule(release: str, *values: int, then: Change = nothing) -> str:
        context = base(Release(release))
        then(context)
        (at,) = (n for n, e in enumerate(context.entries) if e.name == "VIRIDIAN_DOMAIN")
        made = []
        for value in values:
            put("VIRIDIAN_DOMAIN/0.reference_tsc", value)(context)
            made.append(Record(15, 0, bytes(context.entries[at].body)))
        context.entries[at : at + 1] = made
        return load(context.to_bytes(), Release(release), guest, Machine(vendor=AMD)).rule

    bad, good, off = 0x456 << 12 | 1, 0x123 << 12 | 1, 0x456 << 12
    assert [rule("4.16", bad), rule("4.16", bad, off), rule("4.16", off, bad)] == [_TSC, "", _TSC]
    assert [rule("4.16", good, bad), rule("4.16", bad, good)] == ["", ""], "once mapped, it stays"
    later = instance("VMCE_VCPU/0", 1)
    assert [rule("4.16", bad, then=later), rule("4.16", off, then=later)] == [
        _TSC,
        "vmce-vcpu-vcpu",
    ]
    checked = put("PIC/0.int_output", 2)  # by 4.19 before it loads anything
    assert [rule("4.16", bad, then=checked), rule("4.19.3", bad, then=checked)] == [
        _TSC, "pic-int-output",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "machine", "taken"),
    [(None, None, True), (None, AMD, False), (AMD, None, False), (AMD, INTEL, True)],
)
def test_the_vendor(policy: str | None, machine: str | None, taken: bool) -> None:
    """The machine's, else that of the guest's policy, else Intel."""
    context = base(Release("newest"))
    put("VMCE_VCPU/0.caps", 0x800)(context)  # which only Intel's CPUs have
    only = [e for e in context.entries if e.name in ("HEADER", "VMCE_VCPU", "END")]
    name = (0, NO_SUBLEAF, 0xD, 0x68747541, 0x444D4163, 0x69746E65)
    guest = Guest(vcpus=1, leaves=[name] if policy else ())
    data = HvmContext(only).to_bytes()
    verdict = load(data, Release("newest"), guest, Machine(vendor=machine))
    assert verdict.rule == ("" if taken else "vmce-vcpu-caps")


def cpu(release: str, guest: Guest, machine: Machine, **fields: int) -> str:
    """The rule that refuses a CPU record with these fields; nothing where it is loaded."""
    context = base(Release(release))
    put(*(item for name, value in fields.items() for item in (f"CPU/0.{name}", value)))(context)
    only = [e for e in context.entries if e.name in ("HEADER", "CPU", "END")]
    return load(HvmContext(only).to_bytes(), Release(release), guest, machine).rule


_LEAF1 = (1, NO_SUBLEAF, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("release", "host"),
    [("4.8.5", True), ("4.9.3", True), ("4.9.4", False), ("4.10.2", True), ("4.10.3", False),
     ("4.11.1", True), ("4.11.2", False), ("4.12.0", False), ("newest", False)],
)  # fmt: skip
def test_whose_policy_cr4_is_checked_against(release: str, host: bool) -> None:
    """Older releases ask the host, newer ones the guest's policy."""
    pge = (1, NO_SUBLEAF, 0, 0, 0, 1 << 13)
    with_pge, without = Guest(vcpus=1, leaves=[pge]), Guest(vcpus=1, leaves=[_LEAF1])
    assert (cpu(release, with_pge, Machine(leaves=[_LEAF1]), cr4=1 << 7) == "") == (not host)
    assert (cpu(release, without, Machine(leaves=[pge]), cr4=1 << 7) == "") == host
    assert cpu(release, with_pge, Machine(), cr4=1 << 7) == "", "no host: the guest's for it"


@pytest.mark.parametrize(
    ("release", "bits", "taken"),
    [("4.9", 1 << 11, False), ("4.10.0", 1 << 11, True), ("4.15", 1 << 23, False),
     ("4.16.0", 1 << 23, True), ("4.21", 1 << 27, False), ("4.22", 1 << 27, True),
     ("4.14.6", 1 << 13, True), ("4.13.5", 1 << 13, True), ("4.15.0", 1 << 13, False)],
)  # fmt: skip
def test_since_when_a_bit_of_cr4_is_taken(release: str, bits: int, taken: bool) -> None:
    assert (cpu(release, Guest(vcpus=1), Machine(), cr4=bits) == "") == taken
    assert (cpu(release, Guest(vcpus=1, nested=True), Machine(), cr4=1 << 13)) == ""


@pytest.mark.parametrize(
    ("release", "bit", "taken"),
    [("4.1.1", 16, False), ("4.1.2", 16, True), ("4.1.1", 20, False), ("4.1.2", 20, True),
     ("4.1.6.1", 17, False), ("4.2.0", 17, True), ("4.4.4", 21, False), ("4.5.0", 21, True)],
)  # fmt: skip
def test_bits_of_cr4_that_the_first_releases_refuse(release: str, bit: int, taken: bool) -> None:
    """FSGSBASE, SMEP, PCIDE and SMAP, whatever the host has."""
    assert (cpu(release, Guest(vcpus=1), Machine(), cr4=1 << bit) == "") == taken


@pytest.mark.parametrize(
    ("release", "plain", "nested"),
    [("4.1", False, False), ("4.2.0", False, True), ("4.4.4", False, True),
     ("4.5.0", True, True), ("4.14", True, True), ("4.15.0", False, True)],
)  # fmt: skip
def test_vmxe(release: str, plain: bool, nested: bool) -> None:
    for has, taken in ((False, plain), (True, nested)):
        guest = Guest(vcpus=1, nested=has)
        assert (cpu(release, guest, Machine(), cr4=1 << 13) == "") == taken


@pytest.mark.parametrize(("release", "taken"), [("4.4.4", True), ("4.5.0", False)])
def test_before_4_5_most_bits_of_cr4_need_no_feature(release: str, taken: bool) -> None:
    host = Machine(leaves=[_LEAF1])
    assert (cpu(release, Guest(vcpus=1), host, cr4=0x7FF) == "") == taken


@pytest.mark.parametrize("vendor", [AMD, INTEL])
def test_caps_of_4_2_are_the_same_on_every_host(vendor: str) -> None:
    """4.2 gives each guest MCG_TES_P and MCG_SER_P, and refuses MCG_CMCI_P."""
    for caps, taken in ((0x1000802, True), (0x100, True), (0x400, False)):
        context = base(Release("4.2"))
        put("VMCE_VCPU/0.caps", caps)(context)
        only = [e for e in context.entries if e.name in ("HEADER", "VMCE_VCPU", "END")]
        data = HvmContext(only).to_bytes()
        verdict = load(data, Release("4.2"), Guest(vcpus=1), Machine(vendor=vendor))
        assert verdict.rule == ("" if taken else "vmce-vcpu-caps"), hex(caps)


@pytest.mark.parametrize(
    ("release", "efer", "taken"),
    [("4.5.5", 1 << 9, False), ("4.6", 1 << 9, True), ("4.7", 1 << 9, True),
     ("4.8.4", 1 << 9, True), ("4.8.5", 1 << 9, False), ("4.9.2", 1 << 9, True),
     ("4.9.3", 1 << 9, False), ("4.10.1", 1 << 9, True), ("4.10.2", 1 << 9, False),
     ("4.11.0", 1 << 9, True), ("4.11.1", 1 << 9, False), ("4.12.0", 1 << 9, False),
     ("4.17", 1 << 21, False), ("4.18", 1 << 21, True)],
)  # fmt: skip
def test_unknown_bits_of_efer(release: str, efer: int, taken: bool) -> None:
    assert (cpu(release, Guest(vcpus=1), Machine(), msr_efer=efer) == "") == taken


@pytest.mark.parametrize(
    ("release", "taken"),
    [("4.0", False), ("4.1", True), ("4.5", True), ("4.8.5", True), ("4.11", True),
     ("4.12.0", False), ("newest", False)],
)  # fmt: skip
def test_segment_limits_in_long_mode(release: str, taken: bool) -> None:
    """Up to 4.11, on a host that has them."""
    guest = Guest(vcpus=1)
    assert (cpu(release, guest, Machine(lmsle=True), msr_efer=1 << 13) == "") == taken
    assert cpu(release, guest, Machine(), msr_efer=1 << 13) == "cpu-efer"


@pytest.mark.parametrize(
    ("release", "vendor", "highest"),
    [("4.8.5", AMD, 6), ("4.9.0", AMD, 4), ("newest", AMD, 4), ("4.9.0", INTEL, 6)],
)
def test_types_of_pending_events(release: str, vendor: str, highest: int) -> None:
    for kind in (0, 2, 3, 4, 5, 6, 7):
        event = 1 << 31 | kind << 8
        rule = cpu(release, Guest(vcpus=1), Machine(vendor=vendor), pending_event=event)
        assert rule == ("" if kind <= highest else "cpu-event")


@pytest.mark.parametrize(("release", "fires"), [("4.8.5", False), ("4.9.0", True)])
def test_error_codes_of_pending_events(release: str, fires: bool) -> None:
    event = {"pending_event": 1 << 31 | 3 << 8 | 1 << 11, "error_code": 1 << 16}
    assert cpu(release, Guest(vcpus=1), Machine(), **event) == ("cpu-error-code" if fires else "")


_XCR0 = [
    # release, states, whether they are taken together as xcr0
    ("4.4", 0x1, True), ("4.4", 0x7, True), ("4.4", 0x2, False), ("4.4", 0x5, False),
    ("4.4", 0x401, False), ("4.4", 0x20003, True), ("4.4", 0xB, True), ("4.4", 0x27, True),
    ("4.5", 0xB, False), ("4.5", 0x13, False), ("4.5", 0x1B, True), ("4.5", 0x203, True),
    ("4.5", 0x27, False), ("4.5", 0x67, False), ("4.5", 0xC7, False), ("4.5", 0xE7, True),
    ("4.5", 0xE3, False), ("4.5", 0x103, False), ("4.5", 1 << 62 | 3, True),
    ("4.5", 1 << 61 | 3, False), ("4.18", 0x20003, True), ("4.18", 0x40003, True),
    ("4.19", 0x20003, False), ("4.19", 0x40003, False), ("4.19", 0x60003, True),
    ("newest", 0x80003, False), ("newest", 0x602E7, True),
]  # fmt: skip


@pytest.mark.parametrize(("release", "states", "taken"), _XCR0)
def test_states_that_go_together(release: str, states: int, taken: bool) -> None:
    """AVX needs SSE; since 4.5 AVX-512 is whole and needs AVX, and MPX is whole; since 4.19
    AMX is whole."""
    policy = (0xD, 0, 0xFFFFFFFF, 0, 0, 0xFFFFFFFF)  # all states, of no size
    context = base(Release(release))
    for body in (xsave(states), xsave(states, xcr0=1)):
        body_of("CPU_XSAVE/0", body)(context)
        only = [e for e in context.entries if e.name in ("HEADER", "CPU_XSAVE", "END")]
        data = HvmContext(only).to_bytes()
        verdict = load(data, Release(release), having(rows=[policy]), Machine(vendor=AMD))
        assert verdict.rule == ("" if taken else "cpu-xsave-states")


_SINCE = {
    "cpu-pad0": ("", "4.7.0"), "cpu-flags": ("", "4.7.0"), "cpu-dr": ("4.17.6", "4.18.0"),
    "cpu-cr3": ("4.13.5", "4.14.0"), "cpu-tsc-aux": ("4.11.4", "4.12.0"),
    "cpu-error-code": ("4.8.5", "4.9.0"), "pic-int-output": ("4.18.5", "4.19.0"),
    "pic-state": ("4.18.5", "4.19.0"), "pci-link-pad0": ("4.18.5", "4.19.0"),
    "pit-range": ("4.18.5", "4.19.0"), "pit-gate": ("4.18.5", "4.19.0"),
    "lapic-base": ("4.4.4", "4.5.0"), "mtrr-cap": ("4.11.4", "4.12.0"),
    "viridian-vcpu-pad": ("", "4.7.0"), "cpu-xsave-reserved": ("4.6.6", "4.7.0"),
    "cpu-xsave-short": ("4.7.0", "4.7.1"), "cpu-xsave-states": ("4.3.0", "4.3.1"),
    "cpu-xsave-length": ("4.2.3", "4.2.4"), "cpu-xsave-excess": ("4.2.3", "4.2.4"),
    "cpu-xsave-long": ("4.4.2", "4.4.1"), "cpu-xsave-mask": ("4.3.1", "4.3.0"),
    "cpu-xsave-compact": ("4.6.6", "4.7.0"),
    "cpu-msr-mask": ("4.12.0", "4.11.4"),
}  # fmt: skip
"""Of a rule that is younger than its record, or went: a release without it, and the nearest with."""


@pytest.mark.parametrize("rule", _SINCE)
def test_since_when_a_rule_stands(rule: str) -> None:
    without, first = _SINCE[rule]
    assert judged(first, CASES[rule][0]).rule == rule
    assert not without or judged(without, CASES[rule][0]).rule != rule


_OTHER_ERRNO = {
    "pic-length": "4.19", "pci-link-length": "4.19", "lapic-length": "4.20",
    "lapic-regs-length": "4.20",
}  # fmt: skip
"""Since when the record has a check of its own, which answers with ENODATA."""


@pytest.mark.parametrize("rule", _OTHER_ERRNO)
def test_the_errno_of_a_length(rule: str) -> None:
    for release in TRIED[TRIED.index("4.17") :]:
        errno = "ENODATA" if Release(release).since(_OTHER_ERRNO[rule]) else "EINVAL"
        verdict = judged(release, CASES[rule][0])
        assert (verdict.rule, verdict.errno) == (rule, errno)


def test_of_every_rule_it_is_tried_since_when() -> None:
    young = {r.id for r in RULES if r.releases.gone or r.releases.since != came_with(r.record)}
    assert young == {*_SINCE, *_OTHER_ERRNO, *DEVICE_RULES}
    assert judged("4.6.6", nothing, devices=()).accepted


_CHANNEL_RANGES = {
    "count": 0x10000, "count_latched": 4, "read_state": 4, "write_state": 4, "rw_mode": 3,
    "gate": 1, "bcd": 1,
}  # fmt: skip


@pytest.mark.parametrize("field", _CHANNEL_RANGES)
def test_ranges_of_a_timer_channel(field: str) -> None:
    highest = _CHANNEL_RANGES[field]
    for number in range(3):
        path = f"PIT/0.channels[{number}].{field}"
        assert judged("newest", put(path, highest)).accepted
        assert judged("newest", put(path, highest + 1)).rule == "pit-range"


_EFER = [
    # release, EFER, the guest's features, whether it is taken
    ("4.5.5", EFER.LME, (), True), ("4.6.0", EFER.LME, (), False), ("4.6.0", EFER.LME, ("LM",), True),
    ("4.5.5", EFER.LMA, ("LM",), False), ("newest", EFER.LMA, ("LM",), False),
    ("4.5.5", EFER.LME | EFER.LMA, (), True), ("4.6.0", EFER.LME | EFER.LMA, (), False),
    ("4.6.0", EFER.LME | EFER.LMA, ("LM",), True), ("newest", EFER.NXE, (), False),
    ("newest", EFER.NXE, ("NX",), True), ("newest", EFER.SCE, (), False),
    ("newest", EFER.SCE, ("SYSCALL",), True), ("newest", EFER.FFXSE, (), False),
    ("newest", EFER.FFXSE, ("FFXSR",), True), ("newest", EFER.AIBRSE, (), False),
    ("newest", EFER.AIBRSE, ("AUTO_IBRS",), True), ("newest", EFER.SVME, (), False),
    ("newest", EFER.SVME, ("SVM",), True), ("4.2.0", EFER.SVME, ("SVM",), True),
    ("newest", EFER.SVME | EFER.SCE, ("SVM", "SYSCALL"), True),
    ("4.2.0", EFER.SVME | EFER.SCE, ("SVM", "SYSCALL"), True),
    ("newest", EFER.AIBRSE | EFER.SCE, ("AUTO_IBRS", "SYSCALL"), True),
    ("4.1.6.1", EFER.SVME, ("SVM",), False), ("4.2.0", EFER.SVME, (), False),
]  # fmt: skip


@pytest.mark.parametrize(("release", "efer", "features", "taken"), _EFER)
def test_what_efer_needs(release: str, efer: int, features: tuple[str, ...], taken: bool) -> None:
    """A feature for each bit; LMA needs LME, and since 4.6 paging; SVME a guest that nests."""
    guest = having(*features, nested=True)
    paging = CR0.ET | CR0.PE | CR0.PG
    assert (cpu(release, guest, Machine(), msr_efer=efer, cr0=paging) == "") == taken
    if efer & EFER.LMA and taken:
        unpaged = cpu(release, guest, Machine(), msr_efer=efer, cr0=CR0.ET | CR0.PE)
        assert (unpaged == "") == (not Release(release).since("4.6"))
    if efer & EFER.SVME:
        assert cpu(release, having(*features), Machine(), msr_efer=efer) == "cpu-efer"


def _single(name: str, release: str, vendor: str, change: Change) -> str:
    """The rule that refuses a record which is alone with HEADER and END."""
    context = base(Release(release))
    change(context)
    only = [e for e in context.entries if e.name in ("HEADER", name, "END")]
    data = HvmContext(only).to_bytes()
    return load(data, Release(release), Guest(vcpus=1), Machine(vendor=vendor)).rule


def test_bits_of_cr0() -> None:
    known = {0, 1, 2, 3, 4, 5, 16, 18, 29, 30, 31}
    for bit in range(64):
        rule = cpu("newest", Guest(vcpus=1), Machine(), cr0=1 << bit | CR0.ET | CR0.PE)
        assert (rule == "") == (bit in known), bit
    for cr0, taken in ((CR0.ET, True), (CR0.PE, False), (0, False), (CR0.ET | CR0.PG, False)):
        assert (cpu("newest", Guest(vcpus=1), Machine(), cr0=cr0) == "") == taken


def test_bits_of_a_pending_event() -> None:
    """Vector, type, error code; what is above them is reserved. Not valid: not looked at."""
    for bit in range(31):
        event = 1 << 31 | 1 << bit
        taken = bit < 8 or bit in (9, 10, 11)  # bit 8 alone is type 1
        rule = cpu("newest", Guest(vcpus=1), Machine(vendor=INTEL), pending_event=event)
        assert (rule == "") == taken, bit
        rule = cpu("newest", Guest(vcpus=1), Machine(vendor=INTEL), pending_event=1 << bit)
        assert rule == ""
    for event, taken in ((1 << 31 | 1 << 11, False), (1 << 31, True), (1 << 11, True)):
        fields = {"pending_event": event, "error_code": 1 << 16}
        rule = cpu("newest", Guest(vcpus=1), Machine(vendor=INTEL), **fields)
        assert rule == ("" if taken else "cpu-error-code")


@pytest.mark.parametrize(
    ("release", "vendor", "allowed"),
    [("4.2", INTEL, 0x010009FF), ("4.2", AMD, 0x010009FF), ("4.3", INTEL, 0x01000DFF),
     ("4.9", INTEL, 0x01000DFF), ("4.10", INTEL, 0x09000DFF), ("newest", INTEL, 0x09000DFF),
     ("4.3", AMD, 0x1FF), ("newest", AMD, 0x1FF)],
)  # fmt: skip
def test_bits_of_the_caps_of_machine_checks(release: str, vendor: str, allowed: int) -> None:
    for bit in range(64):
        rule = _single("VMCE_VCPU", release, vendor, put("VMCE_VCPU/0.caps", 1 << bit))
        assert (rule == "") == bool(allowed >> bit & 1), bit


@pytest.mark.parametrize(("number", "allowed"), [(0, 0xFC), (1, 0xDE)])
def test_the_state_of_a_pic(number: int, allowed: int) -> None:
    """Which pins may be level-triggered, and what excludes each other."""
    pic = f"PIC/{number}"
    for bit in range(8):
        rule = _single("PIC", "newest", AMD, put(f"{pic}.elcr", 1 << bit))
        assert (rule == "") == bool(allowed >> bit & 1), bit
    for output, state, taken in ((0, 1, True), (1, 0, True), (1, 1, False), (0, 0, True)):
        fields = (f"{pic}.int_output", output, f"{pic}.init_state", state)
        assert (_single("PIC", "newest", AMD, put(*fields)) == "") == taken
    assert _single("PIC", "newest", AMD, put(f"{pic}.is_master", number)) == "pic-state"


def test_only_the_count_of_ranges_is_limited() -> None:
    for cap, rule in ((0xF08, ""), (0x109, "mtrr-cap"), (0xFF, "mtrr-cap")):
        assert _single("MTRR", "newest", AMD, put("MTRR/0.msr_mtrr_cap", cap)) == rule


def test_other_rules_about_a_timer() -> None:
    """The speaker's bit and padding; the gates of channels 0 and 1 are open."""
    for path, value, rule in (
        ("speaker_data_on", 1, ""), ("speaker_data_on", 2, "pit-range"), ("pad0", 1, "pit-range"),
        ("channels[0].gate", 0, "pit-gate"), ("channels[1].gate", 0, "pit-gate"),
        ("channels[2].gate", 0, ""),
    ):  # fmt: skip
        assert _single("PIT", "newest", AMD, put(f"PIT/0.{path}", value)) == rule
    both = put("PIT/0.channels[0].gate", 0, "PIT/0.channels[1].bcd", 2)
    assert _single("PIT", "newest", AMD, both) == "pit-gate", "the first channel's errno counts"


class Domain(Seen):
    """A VIRIDIAN_DOMAIN record with this reference TSC."""

    def __init__(self, value: int) -> None:
        self._value = value

    @property
    def fields(self) -> dict[str, Any]:
        return {"reference_tsc": self._value}


@pytest.mark.parametrize(
    ("value", "page"),
    [(0x123001, 0x123), (0x123000, None), (0x123FFE, None), (1, 0),
     ((1 << 64) - 1, (1 << 48) - 1), (1 << 59 | 1, 1 << 47), (1 << 60 | 1, 0)],
)  # fmt: skip
def test_the_page_of_the_reference_tsc(value: int, page: int | None) -> None:
    """48 bits of a page number, and a bit that turns it on."""
    assert tsc_page_of(Domain(value)) == page


def _xsave_rule(
    release: str, body: bytes, guest: int = 0x2FF, host: int | None = None, **fields: int
) -> str:
    """The rule that refuses a CPU_XSAVE record, of a guest and a host with these states, all of
    no size; of a host that is not known, if there is none."""
    context = base(Release(release))
    body_of("CPU_XSAVE/0", body)(context)
    put(*(item for name, value in fields.items() for item in (f"CPU_XSAVE/0.{name}", value)))(
        context
    )
    only = [e for e in context.entries if e.name in ("HEADER", "CPU_XSAVE", "END")]
    machine = Machine(leaves=[] if host is None else [(0xD, 0, host, 0, 0, 0)])
    into = having(rows=[(0xD, 0, guest, 0, 0, 0)])
    return load(HvmContext(only).to_bytes(), Release(release), into, machine).rule


@pytest.mark.parametrize(
    ("release", "guest", "host", "rule"),
    [
        ("newest", 3, 7, "cpu-xsave-states"), ("newest", 7, 3, "cpu-xsave-compact"),
        ("newest", 7, 7, ""), ("newest", 3, None, "cpu-xsave-states"), ("newest", 7, None, ""),
        ("4.9.3", 3, 7, "cpu-xsave-states"), ("4.9.2", 3, 7, ""), ("4.8.5", 3, 7, ""),
        ("4.8.5", 7, 3, "cpu-xsave-states"), ("4.8.4", 7, 3, "cpu-xsave-compact"),
        ("4.11.0", 3, 7, ""), ("4.11.1", 3, 7, "cpu-xsave-states"), ("4.10.1", 3, 7, ""),
        ("4.10.2", 3, 7, "cpu-xsave-states"), ("4.4.4", 3, 7, ""), ("4.3.0", 3, 3, "cpu-xsave-mask"),
    ],
)  # fmt: skip
def test_whose_states_are_taken(release: str, guest: int, host: int | None, rule: str) -> None:
    """Of a vcpu with AVX's, whose guest or host does not have them."""
    assert _xsave_rule(release, xsave(7), guest, host) == rule


@pytest.mark.parametrize(("release", "rule"), [("4.4.4", "cpu-xsave-states"), ("4.5.0", "")])
def test_the_mask_of_features_once_counted(release: str, rule: str) -> None:
    assert _xsave_rule(release, xsave(7), xfeature_mask=3) == rule
    assert _xsave_rule(release, xsave(7), xfeature_mask=7) == ""


def test_states_contain_each_other() -> None:
    """What is in the image has been enabled, and so has what is enabled now."""
    states = "cpu-xsave-states"
    for body, rule in (
        (xsave(3, bv=3), ""), (xsave(3, bv=4), states), (xsave(3, xcr0=7), states),
        (xsave(7, xcr0=3), ""), (xsave(7, xcr0=3, bv=4), ""),
    ):  # fmt: skip
        assert _xsave_rule("newest", body) == rule


@pytest.mark.parametrize(
    ("release", "extra", "rule"),
    [
        ("4.4.1", b"\0", "cpu-xsave-long"), ("4.4.2", b"\0", ""), ("4.3.3", b"\0", "cpu-xsave-long"),
        ("4.3.4", b"\0", ""), ("newest", b"\0", ""), ("newest", b"\0\1", "cpu-xsave-excess"),
        ("4.4.1", b"", ""), ("4.3.0", b"\1", "cpu-xsave-long"), ("4.3.0", b"", ""),
    ],
)  # fmt: skip
def test_what_follows_the_xsave_image(release: str, extra: bytes, rule: str) -> None:
    """Zeros are let through since some release; before, nothing beyond the states of the host."""
    assert _xsave_rule(release, xsave(3, extra), host=3) == rule
    if rule == "cpu-xsave-long" and extra == b"\0":  # of a host with more states
        verdict = judged(release, body_of("CPU_XSAVE/0", xsave(3, extra)))
        assert verdict.rule == "cpu-xsave-excess"


def test_msrs_are_taken_one_by_one() -> None:
    wide, unknown, fine = (0xC0011019, 0, 1 << 32), (0x10, 0, 0), (0xC0011019, 0, 1)
    for entries, rule in (
        ((wide, unknown), "cpu-msr-mask"), ((unknown, wide), "cpu-msr-index"),
        ((fine, wide), "cpu-msr-mask"), ((fine, unknown), "cpu-msr-index"), ((fine, fine), ""),
        ((fine, (0xC001101A, 1, 0)), "cpu-msr-reserved"),
    ):  # fmt: skip
        assert _single("CPU_MSR", "4.11", AMD, body_of("CPU_MSR/0", msrs(*entries))) == rule


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (put("CPU/0.msr_tsc_aux", 1 << 32), "msr_tsc_aux is 0x100000000"),
        (put("CPU/0.pad0", 5), "pad0 is 0x5"),
        (instance("CPU/0", 1), "instance 1, 1 vcpus"),
        (instance("PIC/1", 2), "instance 2, 1 vcpus"),
    ],
)
def test_details_of_a_refusal(change: Change, detail: str) -> None:
    assert judged("newest", change).text.partition("; Xen")[0].endswith(f": {detail}")


def test_the_length_and_the_room_are_told() -> None:
    context = base(Release("newest"))
    size = context.size
    length("CPU/0", 1)(context)
    left = size + 1 - 2 * 8 - 24
    assert f"length 1033, {left} bytes left" in loaded(context, "newest").text


@pytest.mark.parametrize(
    ("name", "since"),
    [("PIC", "4.19"), ("PIT", "4.19"), ("PCI_LINK", "4.19"), ("LAPIC", "4.20"),
     ("LAPIC_REGS", "4.20"), ("RTC", None)],
)  # fmt: skip
def test_what_is_checked_before_anything_is_loaded(name: str, since: str | None) -> None:
    """Before the CPU record of the same context, that is."""
    for release in ("4.18", "4.19", "4.20", "newest"):
        context = base(Release(release))
        put("CPU/0.cr0", 0)(context)
        length(f"{name}/0", 1)(context)
        first = since is not None and Release(release).since(since)
        rule = f"{name.lower().replace('_', '-')}-length" if first else "cpu-cr0"
        assert loaded(context, release).rule == rule


def test_rules_that_the_walk_itself_applies_apply_to_anything() -> None:
    for rule in WALK:
        if rule.id in ("context-end", "context-type"):
            assert rule.fires(Seen())


def test_what_rules_have_besides() -> None:
    for rule in (*RULES, *WALK, *UNPAUSED):
        assert (rule.layer, rule.remedy) == ("context", REMEDIES.get(rule.id)), rule.id
    assert {rule.id: str(rule.releases) for rule in WALK}["context-bounds"] == "4.19 and later"
    assert (UNPAUSED[0].cve, UNPAUSED[0].commit) == ("CVE-2025-27466", "5776a2e9db")


def test_types_of_events_in_words() -> None:
    for kind, said in ((1, "type 1"), (5, "type 5 (PRIV_SW_EXCEPTION)"), (7, "type 7")):
        change = put("CPU/0.pending_event", 1 << 31 | kind << 8)
        text = judged("newest", change).text
        assert text == f"the pending event is of {said}, which AMD's CPUs do not have"
