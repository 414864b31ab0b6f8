"""The checks of a load, rule by rule: what fires each, and what just misses it."""

from __future__ import annotations

import errno

import pytest

from hvmctx.abi.cpuid import NO_SUBLEAF
from hvmctx.abi.releases import RELEASES, Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.restore.context import TWO_PASSES_SINCE, load
from hvmctx.restore.context_rules import CHECKED_SINCE, RULES, takes_msr
from hvmctx.restore.guest import Guest
from hvmctx.restore.machine import AMD, INTEL, Machine
from hvmctx.restore.rules import Rule
from tests.builders.cases.context_rules import CASES
from tests.builders.contexts import nothing, put
from tests.builders.loads import base, judged, loaded

DEVICE_RULES = {rule.id for rule in RULES if rule.id.endswith("-device")}


TRIED = ["4.5", "4.7", "4.10", "4.14", "4.16", "4.17", "4.18", "4.19", "4.20", "newest"]


@pytest.mark.parametrize("release", TRIED)
def test_the_base_is_accepted(release: str) -> None:
    verdict = judged(release, nothing)
    assert verdict.accepted, verdict.text


RULES_OF = {rule.id: rule.record for rule in RULES}


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
    standing = [r for r in RULES if r.id == case and Release(release) in r.releases]
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


def test_every_case_is_tried() -> None:
    assert set(CASES) == {case for case, _ in TO_TRY}
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


FIRST = {0x48: "4.10", 0x140: "4.10", 0x6E1: "4.18", 0xDA0: "4.13", 0xC001011F: "4.17"}


@pytest.mark.parametrize("index", [*FIRST, 0xD90, 0xC0011027, 0xC0011019, 0xC001101A, 0xC001101B])
def test_msrs_that_a_release_takes(index: int) -> None:
    takes = [name for name in RELEASES if takes_msr(Release(name), index)]
    since = FIRST.get(index, "4.5")
    assert takes == [name for name in RELEASES if Release(name).since(since)]


def test_msrs_that_none_takes() -> None:
    assert not any(
        takes_msr(Release(name), index) for name in RELEASES for index in (0, 0x10, 0x49)
    )


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
