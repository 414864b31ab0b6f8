from __future__ import annotations

import random

from hvmctx.fuzz.target_judge import JUDGE


def test_what_is_compressed_is_another_matter() -> None:
    assert JUDGE.run(b"\x1f\x8b\x86") == set()


def test_seeds_are_accepted_and_edits_refused() -> None:
    rng = random.Random(1)
    population = [data for _ in range(10) for data in JUDGE.seeds(rng)]
    assert {"accept"} <= set().union(*map(JUDGE.run, population))
    made = [JUDGE.mutate(rng.choice(population), rng) for _ in range(100)]
    assert len(set().union(*map(JUDGE.run, made)) & JUDGE.known) > 8
