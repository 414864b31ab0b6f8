from __future__ import annotations

import random
import struct

import pytest

from hvmctx.fuzz.target_context import CONTEXT, LOADS


@pytest.mark.parametrize("length", [1, 255, 0xFFFFFFFF])
def test_an_end_with_any_length_is_no_finding(length: int) -> None:
    CONTEXT.run(struct.pack("<HHI", 0, 0, length))


def test_seeds_are_accepted() -> None:
    """By every release that has their devices; edits are to find what is refused."""
    rng = random.Random(1)
    reached: set[str] = set()
    for _ in range(8):
        reached = reached.union(*(CONTEXT.run(data) for data in CONTEXT.seeds(rng)))
    without_devices = {"newest-pvh", "newest-no-apic"}
    assert {f"accept-{name}" for name in LOADS.keys() - without_devices} <= reached
