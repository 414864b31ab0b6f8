from __future__ import annotations

import random

from hvmctx.fuzz.target_edit import EDIT


def test_what_is_compressed_is_another_matter() -> None:
    """Found by atheris: a context that starts as gzip does."""
    assert EDIT.run(b"CPU.rip=1\0\x1f\x8b\x86") == set()


def test_edits_reach_every_outcome() -> None:
    """But setting what is there already, which takes a campaign."""
    rng = random.Random(1)
    population = EDIT.seeds(rng)
    made = population + [EDIT.mutate(rng.choice(population), rng) for _ in range(200)]
    assert set().union(*(EDIT.run(data) for data in made)) >= EDIT.known - {"same"}
