from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from hvmctx.fuzz import target_context
from hvmctx.fuzz.target_context import CONTEXT, LOADS
from hvmctx.restore.context import load
from hvmctx.restore.verdict import Verdict


@pytest.mark.parametrize("length", [1, 255, 0xFFFFFFFF])
def test_an_end_with_any_length_is_no_finding(length: int) -> None:
    CONTEXT.run(struct.pack("<HHI", 0, 0, length))


def test_seeds_are_accepted() -> None:
    """By every release that has their devices; edits are to find what is refused."""
    rng = random.Random(1)
    reached: set[str] = set()
    for _ in range(40):
        reached = reached.union(*(CONTEXT.run(data) for data in CONTEXT.seeds(rng)))
    without_devices = {"newest-pvh", "newest-no-apic"}
    assert {f"accept-{name}" for name in LOADS.keys() - without_devices} <= reached


def test_one_host_for_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each for some, so that many can be run."""
    asked = []

    def asking(data: bytes, *into: Any) -> Verdict:
        asked.append(into)
        return load(data, *into)

    monkeypatch.setattr(target_context, "load", asking)
    inputs = [struct.pack("<HHI", 1, 0, number) for number in range(200)]
    for data in inputs:
        CONTEXT.run(data)
    assert len(asked) == len(inputs) and all(into in asked for into in LOADS.values())
