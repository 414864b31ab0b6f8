from __future__ import annotations

import random

from hvmctx.fuzz.target_vmport import VMPORT


def test_seeds_reach_both_ends() -> None:
    rng = random.Random(1)
    reached = set().union(*(VMPORT.run(data) for _ in range(20) for data in VMPORT.seeds(rng)))
    assert "restored" in reached and len(reached & VMPORT.known) > 10


def test_edits_can_be_repeated() -> None:
    seed = VMPORT.seeds(random.Random(1))[0]
    assert VMPORT.mutate(seed, random.Random(2)) == VMPORT.mutate(seed, random.Random(2))
