"""Altered CPU policies."""

from __future__ import annotations

import random
from collections import Counter

from hvmctx.abi.cpuid import FEATURES
from hvmctx.fuzz.policies import mutate_policy, valid_policy
from hvmctx.restore.policy import CpuPolicy
from hvmctx.restore.policy_forms import from_pol, to_pol
from hvmctx.restore.policy_rules import COMPATIBLE, ROWS
from tests.builders.cases.policies import AMD, MSRS, setting


def test_the_same_seed_makes_the_same() -> None:
    made = [mutate_policy(valid_policy(random.Random(n)), random.Random(n)) for n in (1, 1, 2)]
    assert made[0] == made[1] != made[2] and made[0][1]


def test_a_valid_policy_is_set() -> None:
    for seed in range(20):
        leaves, msrs = from_pol(valid_policy(random.Random(seed)))
        rows = [row for row in leaves if row[0] != 0]
        assert setting(rows, msrs, "4.20").rule is None
        assert any(map(CpuPolicy(leaves, msrs).has, FEATURES))


def test_every_rule_is_reached() -> None:
    rng, reached = random.Random(5), Counter[str]()
    for _ in range(500):
        policy, _ = mutate_policy(to_pol(AMD, MSRS), rng)
        outcome = setting(*from_pol(policy), rng.choice(("4.17", "4.22")))
        reached[outcome.rule.id if outcome.rule else ""] += 1
    everything = {rule.id for rule in (*ROWS, *(rule for rule, _ in COMPATIBLE))}
    assert everything - set(reached) == set() and reached[""] > 50
