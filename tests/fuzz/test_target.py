from __future__ import annotations

import random

import pytest

from hvmctx.fuzz.target import LARGEST, Target, choose


def _one_seed(rng: random.Random) -> list[bytes]:
    return [b"seed"]


def _unchanged(data: bytes, rng: random.Random) -> bytes:
    return data


def test_long_inputs_are_skipped() -> None:
    def run(data: bytes) -> set[str]:
        return {"reached"}

    target = Target("long", run, ["reached", "reached"], _one_seed, _unchanged)
    assert target.run(bytes(LARGEST)) == target.known == {"reached"}
    assert target.run(bytes(LARGEST + 1)) == set()


def test_what_does_not_hold_escapes() -> None:
    def run(data: bytes) -> set[str]:
        assert not data
        return set()

    target = Target("broken", run, (), _one_seed, _unchanged)
    assert target.run(b"") == set()
    with pytest.raises(AssertionError):
        target.run(b"x")


def test_the_input_chooses() -> None:
    """Always the same, and each of them for some."""
    inputs = [bytes([number]) for number in range(200)]
    chosen = [choose(data, "abc") for data in inputs]
    assert chosen == [choose(bytes(data), "abc") for data in inputs]
    assert min(map(chosen.count, "abc")) > 40
