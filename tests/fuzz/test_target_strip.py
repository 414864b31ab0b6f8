from __future__ import annotations

import random

from hvmctx.fuzz.target_strip import STRIP


def test_what_is_compressed_is_another_matter() -> None:
    assert STRIP.run(b"\x1f\x8b\x86") == set()


def test_edits_reach_every_outcome() -> None:
    rng = random.Random(1)
    population = STRIP.seeds(rng)
    assert all(STRIP.run(data) == {"stripped"} for data in population)
    made = [STRIP.mutate(rng.choice(population), rng) for _ in range(200)]
    assert len(set().union(*map(STRIP.run, made)) & STRIP.known) > 3
