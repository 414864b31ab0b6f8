from __future__ import annotations

import random

import pytest

from hvmctx.findings import ERROR, Finding
from hvmctx.fuzz import target_strict
from hvmctx.fuzz.target_strict import STRICT


def test_what_is_compressed_is_another_matter() -> None:
    assert STRICT.run(b"\x1f\x8b\x86") == set()


def test_edits_reach_many_rules() -> None:
    rng = random.Random(1)
    population = STRICT.seeds(rng)
    made = [STRICT.mutate(rng.choice(population), rng) for _ in range(100)]
    assert len(set().union(*map(STRICT.run, made)) & STRICT.known) > 8


def test_a_finding_outside_of_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    beyond = Finding(ERROR, "rule", "text", layer="context", offset=9, record="CPU/0")
    monkeypatch.setattr(target_strict, "verify", lambda *args, **how: [beyond])
    with pytest.raises(AssertionError):
        STRICT.run(bytes(8))
