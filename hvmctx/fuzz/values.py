"""Values around the bounds of a field, and edits of bytes that know no format."""

from __future__ import annotations

from functools import cache

from hvmctx.abi.fields import Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random

__all__ = ["LENGTHS", "around", "edit_bytes", "of_slot", "of_width"]

LENGTHS = (0, 1, 7, 8, 9, 16, 0x7FFFFFFF, 0xFFFFFFF7, 0xFFFFFFF8, 0xFFFFFFFF)
"""Lengths and counts that wrap, or almost."""


def around(bound: int) -> tuple[int, ...]:
    """The values just below, at, and just above a bound."""
    return tuple(value for value in (bound - 1, bound, bound + 1) if value >= 0)


@cache
def of_width(bits: int) -> tuple[int, ...]:
    """The bounds of a field of that width: 0, 1, every power of two and one less, all ones."""
    values = {0, 1, (1 << bits) - 1}
    for bit in range(1, bits):
        values |= {1 << bit, (1 << bit) - 1}
    return tuple(sorted(value for value in values if value < 1 << bits))


def of_slot(slot: Slot, rng: random.Random) -> int | bytes:
    """A value for a place in a record, on a bound in most cases."""
    if slot.is_bytes:
        size = slot.size
        return rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size)))
    bits = slot.width
    value = rng.choice(of_width(bits)) if rng.random() < 0.8 else rng.getrandbits(bits)
    if slot.signed and value >> bits - 1:
        value -= 1 << bits
    return value


def edit_bytes(data: bytes, rng: random.Random) -> bytes:
    """The data with a few bytes inserted, cut out or changed."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(made) + 1)
        kind = rng.randrange(3)
        if kind == 0:
            made[at:at] = rng.randbytes(rng.randrange(1, 4))
        elif kind == 1:
            del made[at : at + rng.randrange(1, 9)]
        elif at < len(made):
            made[at] = rng.choice((0, 0xFF, made[at] ^ 1 << rng.randrange(8)))
    return bytes(made)
