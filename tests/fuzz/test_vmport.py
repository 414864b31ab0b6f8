from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi.vmport import PROTO_RPCI, PROTO_TCLO, XEN_4_5_V6, VmportProfile
from hvmctx.context.vmport import VmportState, descriptor
from hvmctx.context.vmport_slots import Slots
from hvmctx.fuzz.vmport import mutate_body, mutate_record, random_record, random_state
from hvmctx.restore.vmport import RULES, Restored, findings_of, restore
from tests.builders.vmport import PROFILES

seeds = st.integers(0, 1 << 32)


@given(seeds, st.sampled_from(PROFILES))
def test_a_state_is_one_that_the_writer_could_have_held(seed: int, profile: VmportProfile) -> None:
    state = random_state(random.Random(seed), profile)
    assert VmportState.from_bytes(state.to_bytes(profile, strict=True), profile) == state


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_states_differ_in_everything(profile: VmportProfile) -> None:
    states = [random_state(random.Random(seed), profile) for seed in range(120)]
    channels = [channel for state in states for channel in state.channels]
    assert {PROTO_RPCI, PROTO_TCLO} < {channel.proto_num for channel in channels}
    for held in (
        [channel.send.data for channel in channels],
        [bucket.data for channel in channels for bucket in channel.recv],
        [channel.jumbo_recv.data for channel in channels],
        [b"".join(value for _, value in state.guestinfo) for state in states],
        [b"".join(value for _, value in state.guestinfo_jumbo) for state in states],
    ):
        assert b"" in held and any(held)
    counts = {len(state.guestinfo) for state in states}
    assert {0, profile.MAX_NUM_KEY - 6, profile.MAX_NUM_KEY - 5, profile.MAX_NUM_KEY} <= counts


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_records_reach_every_outcome(profile: VmportProfile) -> None:
    """Most rules of the loader, in a thousand records."""
    rng = random.Random(1)
    records = [random_record(rng, profile) for _ in range(1000)]
    outcomes = {type(restore(record, profile)).__name__ for record in records}
    assert outcomes == {"Restored", "Refused", "Violation"}
    rules = {finding.rule for record in records for finding in findings_of(record, profile)}
    assert len(rules) > len(RULES) * 2 // 3
    accepted = sum(isinstance(restore(record, profile), Restored) for record in records)
    assert 150 < accepted < 850


def test_the_seed_decides() -> None:
    one, two, three = (
        [random_record(random.Random(seed), PROFILES[0]) for _ in range(2)] for seed in (1, 1, 2)
    )
    assert one == two != three


BODY = VmportState.empty().to_bytes()


@given(seeds, st.sampled_from(PROFILES), st.binary(max_size=700))
def test_any_body_can_be_edited(seed: int, profile: VmportProfile, data: bytes) -> None:
    body = bytearray(data)
    mutate_body(random.Random(seed), body, profile)
    assert len(body) <= max(len(data) + 0xFFFF, profile.max_size + 1)


def test_edits_of_a_body_differ() -> None:
    made = []
    for seed in range(300):
        body = bytearray(BODY)
        mutate_body(random.Random(seed), body, PROFILES[0])
        made.append(bytes(body))
    lengths = {len(body) for body in made}
    assert min(lengths) < 464 < max(lengths), "cut, and longer"
    assert sum(body != BODY for body in made) > 200 and len(set(made)) > 150


def test_edits_aim_at_the_bounds_of_the_loader() -> None:
    """Counts that spare slots push over the bound, and that wrap; entries just too long."""
    state = VmportState.empty()
    state.guestinfo, state.guestinfo_jumbo = Slots({b"key": b"value"}), Slots({b"big": b"value"})
    whole = state.to_bytes()
    heads, entries = set(), set()
    for seed in range(3000):
        body = bytearray(whole)
        mutate_body(random.Random(seed), body, PROFILES[0])
        if len(body) == len(whole):
            heads.add(struct.unpack_from("<I", body, 20)[0])
            entries.add((body[464], body[465]))
    assert {0, 58, 59, 60, 64, 0xFFFFFFFA, 0xFFFFFFFB, 0xFFFFFFFF} <= heads
    assert {(29, 5), (30, 5), (31, 5), (255, 5), (3, 127), (3, 128), (3, 129)} <= entries


def test_edits_of_a_record_mostly_keep_its_descriptor_true() -> None:
    state = VmportState.empty()
    state.guestinfo = Slots({b"key": b"value"})
    body = state.to_bytes()
    made = [
        mutate_record(descriptor(body) + body, random.Random(seed), PROFILES[0])
        for seed in range(300)
    ]
    true = sum(struct.unpack_from("<HHI", record) == (21, 0, len(record) - 8) for record in made)
    assert 270 < true < 300
    rules = {finding.rule for record in made for finding in findings_of(record)}
    assert len(rules) > 15


ODD = [
    XEN_4_5_V6,
    VmportProfile("long values", MAX_VAL_LEN=5000, MAX_NUM_KEY=2),
    VmportProfile("long jumbo values", MAX_VAL_JUMBO_LEN=0xFFFF, MAX_CHANS=2, MAX_BKTS=1),
    VmportProfile(
        "least", MAX_CHANS=1, MAX_BKTS=1, MAX_KEY_LEN=1, MAX_VAL_LEN=1, MAX_VAL_JUMBO_LEN=1,
        MAX_NUM_KEY=1, MAX_NUM_JUMBO_KEY=1,
    ),
    VmportProfile("short keys", MAX_KEY_LEN=1, MAX_NUM_JUMBO_KEY=4),
]  # fmt: skip


@pytest.mark.parametrize("profile", ODD, ids=lambda profile: profile.name)
def test_states_that_a_writer_could_have_held(profile: VmportProfile) -> None:
    rng = random.Random(5)
    for _ in range(80):
        body = random_state(rng, profile).to_bytes(profile)
        assert VmportState.from_bytes(body, profile).to_bytes(profile) == body
        random_record(rng, profile)  # of which an edit must not raise either


def test_the_longest_values_turn_up() -> None:
    """The profile's bound, and where the record's field ends before it the field's."""
    rng = random.Random(1)
    for profile, longest in ((XEN_4_5_V6, 128), (ODD[1], 255)):
        values = (v for _ in range(1500) for _, v in random_state(rng, profile).guestinfo)
        assert max(map(len, values)) == longest
