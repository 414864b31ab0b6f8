"""Setting a CPU policy: what hypervisors made of altered ones, and each rule."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi.cpuid import NO_SUBLEAF
from hvmctx.abi.releases import Release
from hvmctx.errors import FormatError
from hvmctx.fuzz.policies import mutate_policy, valid_policy
from hvmctx.restore.clamping import DomainPolicy
from hvmctx.restore.policy import CpuPolicy
from hvmctx.restore.policy_forms import from_pol
from hvmctx.restore.policy_rules import COMPATIBLE, ROWS, features_of, set_policy
from tests.builders.cases.policies import AMD, CASES, HOST, MSRS, setting
from tools.policies import COUNTS, held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tools.policies import PolicySet

SETS = held()
MEASURED = json.loads(COUNTS.read_text())


@pytest.mark.parametrize("one", SETS, ids=lambda one: one.name)
def test_what_hypervisors_made_of_policies(one: PolicySet) -> None:
    assert [answer["name"] for answer, policy in one.answers if one.differs(answer, policy)] == []


def test_the_slice_has_what_was_measured() -> None:
    assert [one.name for one in SETS] == [told["name"] for told in MEASURED]
    assert not any(told["differ"] for told in MEASURED)
    for one, told in zip(SETS, MEASURED):
        outcomes = [one.outcome(policy) for _, policy in one.answers]
        assert {o.rule.id for o in outcomes if o.rule} == told["rules"].keys()
    assert sum(told["policies"] for told in MEASURED) > 2000


@pytest.mark.parametrize("case", CASES)
def test_each_rule(case: str) -> None:
    """The policy that it refuses, and one like it that is set."""
    leaves, msrs, near, where, release = CASES[case]
    outcome = setting(leaves, msrs, release)
    assert outcome.rule is not None and outcome.rule.id == case.partition("#")[0]
    assert (outcome.leaf, outcome.subleaf, outcome.msr) == where
    assert outcome.errno == outcome.rule.errno and outcome.text.startswith(outcome.rule.words)
    assert outcome.policy.leaves() == DomainPolicy.of(Release(release), AMD, MSRS).leaves()
    assert setting(*near, release).rule is None and repr(setting(*near, release))


def test_windows() -> None:
    """Before the releases that check them, the same policies are set."""
    several = [(7, 0, 2, 0, 0, 0)]
    assert setting(several, [], "4.14").rule is None
    other = [(0, NO_SUBLEAF, 1, 0x756E6547, 0x6C65746E, 0x49656E69)]
    assert setting(other, [], "4.21").rule is None
    assert setting([], [(0x10A, 0, 1)], "4.14.0").errno == "ERANGE"
    assert setting([], [(0x10A, 0, 1)], "4.14.1").rule is None
    beyond = [(0x80000000, NO_SUBLEAF, 0x80000009, 0, 0, 0)]
    assert setting(beyond, [], "4.13.0").leaf == 0x80000008
    assert setting(beyond, [], "4.13.1").leaf == 0x80000000


def test_the_order_of_the_checks() -> None:
    bad_leaf, bad_msr = (2, 0, 0, 0, 0, 0), (1, 0, 0)
    assert setting([bad_leaf], [bad_msr], "4.20").leaf == 2
    assert setting([bad_leaf] * 200, [], "4.20").errno == "E2BIG"
    assert setting([(0, NO_SUBLEAF, 99, 0, 0, 0)], [bad_msr], "4.20").msr == 1


def test_all_is_kept_over_what_was_there() -> None:
    outcome = setting([(1, NO_SUBLEAF, 5, 0, 0, 0)], [], "4.20")
    assert outcome.policy.register(1, None, 2) == 5
    assert outcome.policy.vendor == b"AuthenticAMD"
    assert outcome.policy.msr(0xCE) == 1 << 31


def test_what_is_lost() -> None:
    asked = [(1, NO_SUBLEAF, 0, 0, 1 << 31 | 1 << 23, 1), (7, 0, 0, 1 << 16, 0, 0)]
    outcome = setting(asked, [(0x10A, 0, 2)], "4.20")
    assert outcome.lost == ["HYPERVISOR", "AVX512F", "EIBRS"]
    assert features_of(asked, [(0x10A, 0, 2)]) == ["FPU", "POPCNT", *outcome.lost]


@given(st.integers(0, 1 << 32), st.sampled_from(["4.13.0", "4.14.5", "4.16.2", "4.18", "newest"]))
def test_any_policy_has_an_outcome(seed: int, release: str) -> None:
    """Clamping what is clamped changes nothing, and a refused policy changes nothing at all."""
    rng = random.Random(seed)
    policy, _ = mutate_policy(valid_policy(rng), rng)
    leaves, msrs = from_pol(policy)
    outcome = setting(leaves, msrs, release)
    if outcome.rule is not None:
        assert outcome.policy.leaves() == DomainPolicy.of(Release(release), AMD, MSRS).leaves()
        return
    again = outcome.policy.copied()
    again.clamp(HOST)
    assert again.leaves() == outcome.policy.leaves() and again.msrs() == outcome.policy.msrs()
    same = set_policy(outcome.policy, HOST, again.leaves(), again.msrs())
    assert same.rule is None and same.policy.leaves() == again.leaves() and not same.lost


def test_every_rule_is_among_the_cases() -> None:
    ids = {rule.id for rule in (*ROWS, *(rule for rule, _ in COMPATIBLE))}
    assert ids == {case.partition("#")[0] for case in CASES}


def test_rows_that_are_none() -> None:
    for leaves, msrs in (
        ([(1, 2)], []), ([(0,) * 7], []), ([("a",) * 6], []), ([(-1, 0, 0, 0, 0, 0)], []),
        ([None], []), (None, []), (5, []), ([(1.5, 0, 0, 0, 0, 0)], []), ([], [(1,)]),
        ([], [(0, 0, 1 << 64)]), ([], ["abc"]), ([(True, 0, 0, 0, 0, 0)], []),
    ):  # fmt: skip
        with pytest.raises(FormatError):
            CpuPolicy(leaves, msrs)  # type: ignore[arg-type]
