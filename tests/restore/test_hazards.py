"""What a release loads and suffers by: each hazard, in which releases, and what is said of it."""

from __future__ import annotations

import re

import pytest

from hvmctx.abi.releases import RELEASES, Release
from hvmctx.limits import Limits
from hvmctx.restore.context import load
from hvmctx.restore.guest import Guest
from hvmctx.restore.hazards import HAZARDS, good_ldr
from hvmctx.restore.machine import AMD, INTEL, Machine
from hvmctx.restore.rules import GUEST, LOADING, RUNNING, Rule
from hvmctx.restore.verdict import Verdict
from hvmctx.verify.explain import explain
from tests.builders.cases.hazards import CASES, stimer
from tests.builders.contexts import Change, instance, nothing, put
from tests.builders.loads import base
from tests.builders.samples import DATA

ROWS = {rule.id: rule for rule in HAZARDS}


def judge(release: str, change: Change, vendor: str = AMD, guest: Guest | None = None) -> Verdict:
    context = base(Release(release))
    change(context)
    if vendor == INTEL:  # which has none of the MSRs in it
        context.entries = [e for e in context.entries if e.name != "CPU_MSR"]
    machine = Machine(vendor=vendor)
    return load(context.to_bytes(), Release(release), guest or Guest(vcpus=1), machine)


def shown(verdict: Verdict) -> set[str]:
    return {hazard.rule for hazard in verdict.hazards}


@pytest.mark.parametrize("case", CASES)
def test_every_hazard(case: str) -> None:
    """It is loaded, and told; what just misses it is loaded, and not told."""
    name = case.partition("#")[0]
    release, fires, misses, vendor = CASES[case]
    verdict = judge(release, fires, vendor)
    assert verdict.accepted and name in shown(verdict)
    missed = judge(release, misses, vendor)
    assert missed.accepted and name not in shown(missed)
    assert not judge(release, nothing, vendor).hazards


@pytest.mark.parametrize("case", CASES)
def test_where_it_ends(case: str) -> None:
    """The releases that it says are safe refuse the record, or load it without harm; the ones
    before them do not."""
    name = case.partition("#")[0]
    _, fires, _, vendor = CASES[case]
    window = ROWS[name].releases
    for end in (window.gone or "").split():
        assert name not in shown(judge(end, fires, vendor))
        branch, _, point = end.rpartition(".")
        if branch in RELEASES and point != "0":
            before = f"{branch}.{int(point) - 1}"
            assert name in shown(judge(before, fires, vendor)), before


def test_every_hazard_has_a_case() -> None:
    assert {case.partition("#")[0] for case in CASES} == set(ROWS)


@pytest.mark.parametrize("rule", HAZARDS, ids=lambda rule: f"{rule.id}-{rule.record}")
def test_a_row(rule: Rule) -> None:
    assert rule.harms in (LOADING, RUNNING, GUEST) and rule.severity == "warning"
    assert rule.errno is None and rule.predicate is not None
    assert bool(rule.commit) == (rule.releases.gone is not None)
    assert not rule.commit or re.fullmatch("[0-9a-f]{10}", rule.commit)
    assert rule.cve is None or re.fullmatch(r"CVE-20\d\d-\d{4,5}", rule.cve)
    assert rule.harms.partition(",")[0] in explain(rule.id)


def test_all_about_one() -> None:
    verdict = judge("4.17.6", stimer(0x10003, 0, 1))
    (hazard,) = verdict.hazards
    assert str(verdict) == verdict.headline == "accept, with 1 hazard"
    assert hazard.as_dict() == {
        "severity": "warning", "rule": "viridian-vcpu-count", "layer": "context",
        "offset": hazard.offset, "record": "VIRIDIAN_VCPU/0",
        "text": "the hypervisor divides by zero when the timer fires again: "
        "stimer 3 is enabled and periodic, its count is 0",
        "harms": LOADING, "commit": "ff7d9aa77e", "cve": "CVE-2026-62431", "safe": "4.17.7",
    }  # fmt: skip
    assert hazard.mended == "safe since 4.17.7 (ff7d9aa77e, CVE-2026-62431)"
    assert hazard.why.endswith(f"{hazard.text}; {hazard.mended} [viridian-vcpu-count]")
    before = hazard.offset
    assert verdict.moved(100).hazards[0].offset == before + 100
    assert verdict.as_dict()["hazards"] == [hazard.as_dict()]
    (hazard,) = judge("newest", put("LAPIC/0.timer_divisor", 0)).hazards
    assert (hazard.safe, hazard.cve, hazard.mended) == (None, None, "safe in no release")


def test_two_of_them() -> None:
    verdict = judge("4.17.0", stimer(0x10003, 0, 0))
    assert verdict.headline == "accept, with 2 hazards"
    assert shown(verdict) == {"viridian-vcpu-count", "viridian-vcpu-page"}


@pytest.mark.parametrize(
    ("release", "safe"),
    [("4.14.6", "4.17.6"), ("4.17.2", "4.17.6"), ("4.18.5", "4.18.6"), ("4.20.0", "4.20.2")],
)
def test_the_first_safe_release_from_that_on(release: str, safe: str) -> None:
    (hazard,) = judge(release, stimer(0x10001, 5, 0)).hazards
    assert hazard.safe == safe


def test_a_guest_without_viridian_has_no_timers() -> None:
    plain = Guest(vcpus=1, viridian=False)
    assert not judge("4.17.0", stimer(0x10003, 0, 0), guest=plain).hazards


def test_what_was_loaded_before_a_refusal_harms_all_the_same() -> None:
    wrong, refused = put("PIC/0.is_master", 0), instance("VMCE_VCPU/0", 1)

    def both(context: object) -> None:
        for change in (wrong, refused):
            change(context)  # type: ignore[arg-type]

    verdict = judge("4.18", both)
    assert (verdict.rule, shown(verdict)) == ("vmce-vcpu-vcpu", {"pic-wrong-master"})

    def early(context: object) -> None:
        for change in (wrong, instance("CPU/0", 1)):
            change(context)  # type: ignore[arg-type]

    assert not judge("4.18", early).hazards

    def checked(context: object) -> None:
        for change in (put("LAPIC/0.timer_divisor", 0), put("PIT/0.pad0", 1)):
            change(context)  # type: ignore[arg-type]

    assert not judge("4.20", checked).hazards, "4.20 refuses it before it loads anything"


def test_genuine_images_have_none() -> None:
    for path in sorted((DATA / "images").glob("*.hvmctx.bin")):
        for name in (*list(RELEASES)[-8:], "4.17.0", "4.20.0"):
            verdict = load(path.read_bytes(), Release(name), Guest(), Machine(vendor=AMD))
            assert not verdict.hazards, (path, name)


def test_there_is_an_end_to_what_is_told() -> None:
    """Of changes, too."""
    context = base(Release("4.18"))
    put("PIC/0.is_master", 0, "MTRR/0.msr_pat_cr", 2)(context)
    again = [e for e in context.entries if e.name in ("PIC", "MTRR")] * 4
    context.entries[-1:-1] = again
    limits = Limits(findings=3)
    verdict = load(context.to_bytes(), Release("4.18"), Guest(vcpus=1), Machine(), limits)
    assert verdict.accepted and len(verdict.hazards) == 3
    assert len(verdict.applied) == 3 and verdict.applied[-1] == "further changes suppressed"


def test_ldr() -> None:
    assert [good_ldr(number) for number in (0, 2, 0x10, 0x21)] == [1, 4, 0x10001, 0x20002]


def test_intel_has_another_answer_to_events() -> None:
    event = put("CPU/0.pending_event", 1 << 31 | 5 << 8)
    assert not judge("4.8", event, INTEL).hazards
