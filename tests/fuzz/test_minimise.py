from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi.vmport import XEN_4_5_V6
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.vmport import Slots, descriptor
from hvmctx.fuzz.minimise import minimise, simpler_contexts, simpler_vmport
from hvmctx.fuzz.vmport import random_state
from hvmctx.restore.vmport import Violation, restore
from tests.builders.samples import context_bytes


@given(st.binary(max_size=60), st.binary(min_size=1, max_size=3), st.binary(max_size=60))
def test_bytes(before: bytes, wanted: bytes, after: bytes) -> None:
    small = minimise(before + wanted + after, lambda data: wanted in data)
    assert small == wanted


def test_tries_are_bounded() -> None:
    tried = []

    def holds(data: bytes) -> bool:
        tried.append(data)
        return False

    assert minimise(b"x" * 1000, holds, tries=50) == b"x" * 1000
    assert len(tried) == 50


def test_contexts() -> None:
    """A record goes whole, so that what is left is a context still."""

    def holds(data: bytes) -> bool:
        names = [record.name for record in HvmContext.from_bytes(data, damaged=True).entries]
        return "PIT" in names and "END" in names

    small = minimise(context_bytes(), holds, simpler_contexts)
    assert [record.name for record in HvmContext.from_bytes(small).entries] == [
        "PIT",
        "END",
    ]
    assert len(small) == 16


def test_vmport() -> None:
    state = random_state(random.Random(4), XEN_4_5_V6)
    state.guestinfo = Slots({b"k%d" % n: b"value" for n in range(20)})
    state.guestinfo[b"key"] = b"x" * 255
    body = state.to_bytes()

    def holds(record: bytes) -> bool:
        outcome = restore(record)
        return isinstance(outcome, Violation) and outcome.site == "guestinfo val_data"

    record = descriptor(body) + body
    assert holds(record)
    small = minimise(record, holds, simpler_vmport(XEN_4_5_V6))
    assert holds(small)
    assert len(small) <= 8 + 464 + 2 + 3 + 255, "the fixed part and the entry"
