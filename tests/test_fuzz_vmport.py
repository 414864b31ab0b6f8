from __future__ import annotations

import random

import pytest

from hvmctx.abi.vmport import XEN_4_5_V6, VmportProfile
from hvmctx.context.vmport import pack, unpack
from hvmctx.fuzz.vmport import random_record, random_state

PROFILES = [
    XEN_4_5_V6,
    VmportProfile("long values", MAX_VAL_LEN=5000, MAX_NUM_KEY=2),
    VmportProfile("long jumbo values", MAX_VAL_JUMBO_LEN=0xFFFF, MAX_CHANS=2, MAX_BKTS=1),
    VmportProfile(
        "least", MAX_CHANS=1, MAX_BKTS=1, MAX_KEY_LEN=1, MAX_VAL_LEN=1, MAX_VAL_JUMBO_LEN=1,
        MAX_NUM_KEY=1, MAX_NUM_JUMBO_KEY=1,
    ),
    VmportProfile("short keys", MAX_KEY_LEN=1, MAX_NUM_JUMBO_KEY=4),
]  # fmt: skip


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_states_that_a_writer_could_have_held(profile: VmportProfile) -> None:
    rng = random.Random(5)
    for _ in range(80):
        body = pack(random_state(rng, profile), profile)
        assert pack(unpack(body, profile), profile) == body
        random_record(rng, profile)  # of which an edit must not raise either


def test_the_longest_values_turn_up() -> None:
    """The profile's bound, and where the record's field ends before it the field's."""
    rng = random.Random(1)
    for profile, longest in ((XEN_4_5_V6, 128), (PROFILES[1], 255)):
        values = (v for _ in range(400) for v in random_state(rng, profile).guestinfo.values())
        assert max(map(len, values)) == longest
