from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi.registry import record_types
from hvmctx.abi.releases import RELEASES, Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.fuzz.contexts import AIMS, any_record, mutate_context, valid_context
from hvmctx.restore.context import load
from tests.builders.samples import context_bytes


@pytest.mark.parametrize("release", RELEASES)
def test_valid_contexts_load(release: str) -> None:
    for seed in range(5):
        context = valid_context(random.Random(seed), Release(release))
        assert load(context.to_bytes(), Release(release)).accepted


def test_aims_are_places_of_the_records() -> None:
    for known in record_types():
        for path, values in AIMS.get(known.name, {}).items():
            slot = known.layout.locate(path)
            assert all(0 <= value < 1 << slot.width for value in values)


@given(st.binary(max_size=60), st.integers(0, 1 << 32))
def test_any_bytes_are_mutated(data: bytes, seed: int) -> None:
    made, what = mutate_context(data, random.Random(seed))
    assert (made, what) == mutate_context(data, random.Random(seed)), "the seed decides"
    assert what and (what != "nothing" or made == data)
    assert HvmContext.from_bytes(made, damaged=True).to_bytes() == made


def test_edits_differ() -> None:
    """From the original, but where a value is put where it was before; and from each other."""
    made = [mutate_context(context_bytes(), random.Random(seed))[0] for seed in range(300)]
    assert sum(one != context_bytes() for one in made) > 280
    assert len(set(made)) > 220


def test_the_only_record_dropped() -> None:
    """Found by a campaign: a second edit has nothing left to edit."""
    data = HvmContext([Record(0, 0)]).to_bytes()
    made = [mutate_context(data, random.Random(seed))[0] for seed in range(400)]
    assert b"" in made


def test_every_declared_type_is_made() -> None:
    rng = random.Random(1)
    for known in record_types():
        for _ in range(10):
            record = any_record(rng, known)
            assert record.typecode == known.typecode


def test_edits_of_edits() -> None:
    for seed in range(40):
        rng = random.Random(seed)
        data = valid_context(rng).to_bytes()
        seen = {data}
        for _ in range(20):
            data, what = mutate_context(data, rng)
            assert what
            seen.add(data)
        assert len(seen) > 10
