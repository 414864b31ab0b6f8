"""Guestinfo slots, and entries as bytes and as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.context.vmport_slots import SLOTS_FORM, Slots, as_text, from_text, pack_entry
from hvmctx.errors import FieldError
from tests.builders.vmport import pairs


@given(pairs, st.binary(max_size=2), st.binary(max_size=2))
def test_slots(held: list[tuple[bytes, bytes]], key: bytes, value: bytes) -> None:
    """As a dictionary of the first of each key, but that they keep what is there twice."""
    slots, known = Slots(held), dict(reversed(held))
    assert list(slots) == held and len(slots) == len(held)
    assert (key in slots) == (key in known) and slots.get(key, b"?") == known.get(key, b"?")
    slots[key] = value
    assert slots[key] == value and len(slots) == len(held) + (key not in known)
    del slots[key]
    assert key not in slots and slots.get(key) is None
    assert slots == Slots(pair for pair in held if pair[0] != key)
    for act in (slots.__getitem__, slots.__delitem__):
        with pytest.raises(KeyError):
            act(key)


@given(pairs)
def test_json(held: list[tuple[bytes, bytes]]) -> None:
    """One shape, whether a key is there twice or not."""
    plain = SLOTS_FORM.write(Slots(held))
    assert all(type(pair) is list and len(pair) == 2 for pair in plain)
    assert SLOTS_FORM.read(plain, "") == Slots(held)


def test_an_entry() -> None:
    assert pack_entry(b"k", b"vv") == b"\1\2kvv"
    assert pack_entry(b"k", b"vv", jumbo=True) == b"\1\2\0kvv"
    with pytest.raises(FieldError, match="a key of 1 and a value of 256 bytes do not fit"):
        pack_entry(b"k", bytes(256))


@given(st.binary(max_size=40))
def test_text_of_bytes(data: bytes) -> None:
    text = as_text(data)
    assert text.isascii() and text.isprintable()
    assert from_text(text) == data
