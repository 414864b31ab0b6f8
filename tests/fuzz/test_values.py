from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi.fields import Slot
from hvmctx.abi.registry import record_types
from hvmctx.fuzz.values import LENGTHS, around, edit_bytes, of_slot, of_width

SLOTS = [slot for known in record_types() for slot in known.layout.slots()]


@pytest.mark.parametrize(("bound", "values"), [(0, (0, 1)), (1, (0, 1, 2)), (128, (127, 128, 129))])
def test_around(bound: int, values: tuple[int, ...]) -> None:
    assert around(bound) == values


def test_of_width() -> None:
    assert of_width(1) == (0, 1)
    assert of_width(4) == (0, 1, 2, 3, 4, 7, 8, 15)
    assert len(of_width(64)) == 128 and of_width(64)[-1] == (1 << 64) - 1


@given(st.integers(1, 64))
def test_bounds_of_any_width(bits: int) -> None:
    found = of_width(bits)
    assert list(found) == sorted({*found}) and found[0] == 0
    for bit in range(bits):
        assert {1 << bit, (1 << bit) - 1} <= {*found}
    assert found[-1] == (1 << bits) - 1


def test_lengths_wrap_a_descriptor() -> None:
    """Eight bytes more, as a cursor takes them: some are beyond 32 bits, some just not."""
    sums = {length + 8 >> 32 for length in LENGTHS}
    assert sums == {0, 1} and {0xFFFFFFF7, 0xFFFFFFF8} <= {*LENGTHS}


@given(st.sampled_from(SLOTS), st.integers(0, 1 << 32))
def test_a_value_fits_its_slot(slot: Slot, seed: int) -> None:
    value = of_slot(slot, random.Random(seed))
    body = bytearray(slot.offset + slot.size)
    slot.put(body, value)  # raises FieldError for one that does not
    assert slot.get(body) == value


def values(slot: Slot) -> set[int | bytes]:
    rng = random.Random(1)
    return {of_slot(slot, rng) for _ in range(600)}


def test_most_values_are_bounds() -> None:
    found = values(Slot("x", 0, 2, "H"))
    assert {*of_width(16)} <= found, "all bounds"
    assert len(found - {*of_width(16)}) > 50, "and others"


def test_signed_slots_get_both_signs() -> None:
    found = values(Slot("x", 0, 2, "h"))
    assert {-0x8000, -1, 0, 0x7FFF} <= found


def test_bits_stay_within_their_width() -> None:
    assert values(Slot("x", 0, 4, "I", (5, 3))) == set(range(8))


def test_bytes_are_zeros_ones_or_anything() -> None:
    found = values(Slot("x", 0, 3, "s"))
    assert {bytes(3), b"\xff" * 3} < found and {
        len(value) for value in found if isinstance(value, bytes)
    } == {3}


def test_edits_of_bytes_know_no_format() -> None:
    rng = random.Random(1)
    made = [edit_bytes(b"abcdef", rng) for _ in range(200)]
    assert {len(data) < 6 for data in made} == {True, False}
    assert {len(data) > 6 for data in made} == {True, False}
    assert all(edit_bytes(b"", random.Random(seed)) is not None for seed in range(20))
