from __future__ import annotations

import json
import random
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hvmctx.abi import vmport as abi
from hvmctx.abi.vmport import PROTO_RPCI, XEN_4_5_V6, VmportProfile
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import (
    CHANNEL_NUMBERS,
    Buffer,
    Channel,
    Parts,
    VmportState,
    descriptor,
    save,
    to_record,
)
from hvmctx.context.vmport_slots import Slots
from hvmctx.errors import FieldError
from hvmctx.fuzz.vmport import random_record
from tests.builders.vmport import (
    PROFILES,
    SMALL,
    TWICE,
    busy_state,
    pairs,
    raw,
    sample,
    states,
    vectors,
    with_profile,
)


@settings(max_examples=40)
@given(with_profile)
def test_states_round_trip(case: tuple[VmportProfile, VmportState]) -> None:
    profile, state = case
    body = state.to_bytes(profile, strict=True)
    again = VmportState.from_bytes(body, profile)
    assert again == state
    again.origin = None
    assert again.to_bytes(profile) == body
    assert len(body) <= profile.max_size


@given(st.sampled_from(PROFILES), st.binary(max_size=700), st.booleans())
@example(XEN_4_5_V6, b"", False)
def test_any_bytes_round_trip(profile: VmportProfile, data: bytes, version: bool) -> None:
    if version:
        data = profile.SAVE_VERSION.to_bytes(4, "little") + data
    assert VmportState.from_bytes(data, profile).to_bytes(profile) == data


@given(st.integers(0, 1 << 32), st.sampled_from(PROFILES))
def test_mutated_records_round_trip(seed: int, profile: VmportProfile) -> None:
    body = random_record(random.Random(seed), profile)[8:]
    state = VmportState.from_bytes(body, profile)
    assert state.to_bytes(profile) == body
    if state.origin is not None:
        state.ping_time ^= 1
        assert VmportState.from_bytes(state.to_bytes(profile), profile).ping_time == state.ping_time


@pytest.mark.parametrize(
    "vector", [v for v in vectors() if v["outcome"] == "ok"][::3], ids=lambda v: v["blob"][8:16]
)
def test_vectors_round_trip(vector: dict[str, Any]) -> None:
    blob = bytes.fromhex(vector["blob"])
    body = blob[8 : 8 + int.from_bytes(blob[4:8], "little")]
    assert VmportState.from_bytes(body).to_bytes() == body
    assert HvmContext.from_bytes(blob, damaged=True).to_bytes() == blob


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_an_empty_state_is_zeros(profile: VmportProfile) -> None:
    """After its version; closed channels, empty buckets, no entries."""
    body = profile.SAVE_VERSION.to_bytes(4, "little").ljust(profile.fixed_size, b"\0")
    assert VmportState.empty(profile).to_bytes(profile) == body
    assert VmportState.from_bytes(body, profile) == VmportState.empty(profile)


def test_the_writer_caps_data_and_keeps_lengths() -> None:
    state = VmportState.empty()
    state.channels[0].send = Buffer(b"x" * 200)
    state.guestinfo[b""] = b"skipped"
    body = state.to_bytes()
    assert len(body) == 464 + 45 * 4
    assert int.from_bytes(body[52:54], "little") == 200
    assert int.from_bytes(body[20:24], "little") == 0
    again = VmportState.from_bytes(body)
    assert again.channels[0].send == Buffer(b"x" * 180, 0, 200)


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_padding_of_a_control_is_copied_with_it(profile: VmportProfile) -> None:
    """By the loader, by the writer (`strict` too), and by JSON; other padding is not."""
    body = bytearray(VmportState.empty(profile).to_bytes(profile))
    body[profile.control_padding[1]] = b"\1\2\3\4\5"
    state = VmportState.from_bytes(body, profile)
    assert state.channels[1].padding == b"\1\2\3\4\5" and not state.channels[0].padding
    assert state.to_bytes(profile, strict=True) == body
    plain = json.loads(state.to_json(profile))
    assert plain["channels"][1]["padding"] == "0102030405" and "raw" not in plain
    assert "padding" not in plain["channels"][0]
    state.ping_time = 7
    again = VmportState.from_bytes(state.to_bytes(profile, strict=True), profile)
    assert again == state == VmportState.from_json(state.to_json(profile), profile)
    body[28] = 1
    state = VmportState.from_bytes(body, profile)
    with pytest.raises(FieldError, match="the writer would write another body"):
        state.to_bytes(profile, strict=True)
    state.channels[0].padding = bytes(6)
    with pytest.raises(FieldError, match=r"chans\[0\].padding has more than 5 bytes"):
        state.to_bytes(profile)


def test_a_buffer_beyond_its_data_has_zeros() -> None:
    """As in C, where the array is longer than what was put into it."""
    for length, data in ((5, b"ab\0\0\0"), (1, b"a"), (300, b"ab".ljust(180, b"\0"))):
        body = with_send(Buffer(b"ab", 0, length)).to_bytes()
        assert body[464:] == data
        assert VmportState.from_bytes(body).channels[1].send.claimed() == length


def test_what_is_left_of_the_context() -> None:
    """The writer asks for the longest record, however short this one is."""
    state, most = busy_state(), 8 + XEN_4_5_V6.max_size
    assert save(state, most - 1) is None
    body = state.to_bytes()
    assert save(state, most) == save(state) == descriptor(body) + body


def test_an_empty_slot_is_not_written() -> None:
    state = VmportState.empty()
    state.guestinfo = Slots([(b"", b""), (b"k", b"v"), (b"", b"")])
    body = state.to_bytes(strict=True)
    assert VmportState.from_bytes(body).guestinfo == Slots({b"k": b"v"})
    assert VmportState.from_json(state.to_json()) == state


@given(pairs, pairs)
def test_a_key_that_is_there_twice_stays(
    one: list[tuple[bytes, bytes]], other: list[tuple[bytes, bytes]]
) -> None:
    state = VmportState.empty()
    state.guestinfo, state.guestinfo_jumbo = Slots(one), Slots(other)
    again = VmportState.from_bytes(state.to_bytes())
    assert again.guestinfo.pairs == [pair for pair in one if pair[0]]
    assert again.guestinfo_jumbo.pairs == [pair for pair in other if pair[0]]
    again.ping_time = 5
    edited = VmportState.from_bytes(again.to_bytes())
    assert edited == again != VmportState.from_bytes(state.to_bytes())


def broken(**changes: Any) -> VmportState:
    state = VmportState.empty()
    for name, value in changes.items():
        setattr(state, name, value)
    return state


def with_send(buffer: Buffer) -> VmportState:
    state = VmportState.empty()
    state.channels[1].send = buffer
    return state


def numbered(count: int) -> Slots:
    return Slots((b"%d" % number, b"") for number in range(count))


IMPOSSIBLE = [
    (with_send(Buffer(b"x" * 181)), r"chans\[1\].send: length 181, but the buffer holds 180 bytes"),
    (with_send(Buffer(b"x", 0, 5)), r"chans\[1\].send: length 5, but 1 bytes of data"),
    (broken(guestinfo=Slots({b"": b"v"})), r'guestinfo\[""\]: a key of 0'),
    (broken(guestinfo=Slots({b"k" * 31: b""})), "a key of 31"),
    (broken(guestinfo=Slots({b"k": b"v" * 129})), "a value of 129 bytes"),
    (broken(guestinfo_jumbo=Slots({b"k": b"v" * 4097})), "a value of 4097 bytes"),
    (broken(guestinfo=numbered(65)), "65 guestinfo entries, but only 64 slots"),
    (broken(guestinfo_jumbo=numbered(3)), "3 guestinfo_jumbo entries, but only 2"),
    (broken(unparsed=b"x"), "a body of 1 bytes is too short for a state"),
]


@pytest.mark.parametrize(("state", "reason"), IMPOSSIBLE)
def test_strict_refuses_what_the_writer_cannot_have_held(state: VmportState, reason: str) -> None:
    with pytest.raises(FieldError, match=reason):
        state.to_bytes(strict=True)
    state.to_bytes()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (sample() + b"behind", "the writer would write another body"),
        (b"\0" + sample()[1:], "the writer would write another body"),
        (TWICE, r'guestinfo\["k"\] occurs twice'),
    ],
    ids=["behind", "version", "twice"],
)
def test_strict_refuses_a_body_of_no_writer(body: bytes, reason: str) -> None:
    state = VmportState.from_bytes(body)
    assert state.to_bytes() == body
    with pytest.raises(FieldError, match=reason):
        state.to_bytes(strict=True)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (broken(channels=[]), "0 channels, expected 6"),
        (broken(ping_time=1 << 64), "ping_time is a 64-bit field"),
        (with_send(Buffer(b"", 1 << 16)), r"chans\[1\].send_idx is a 16-bit field"),
        (with_send(Buffer(b"", 0, -1)), r"chans\[1\].send_len is a 16-bit field: -1"),
        (broken(guestinfo=Slots({b"k": b"v" * 256})), "do not fit a guestinfo entry"),
        (broken(guestinfo_jumbo=Slots({b"k" * 256: b""})), "do not fit a jumbo guestinfo entry"),
    ],
)
def test_states_that_no_record_can_hold(state: VmportState, reason: str) -> None:
    with pytest.raises(FieldError, match=reason):
        state.to_bytes()
    one = VmportState.empty()
    one.channels[0].recv.pop()
    with pytest.raises(FieldError, match="has 7 buckets, expected 8"):
        one.to_bytes()


def test_records() -> None:
    record = to_record(VmportState.empty())
    assert (record.name, record.length) == ("VMPORT", 464)
    context = HvmContext([record, Record(0, 0)])
    again = HvmContext.from_bytes(context.to_bytes())
    assert again.vmport.version == abi.XEN_4_5_V6.SAVE_VERSION
    again.vmport.chans[3].cookie = 5
    assert VmportState.from_bytes(again.records(21)[0].body).channels[3].cookie == 5
    with pytest.raises(AttributeError, match="vmport_packed_channel has no field 'cooky'"):
        again.vmport.chans[3].cooky = 5


def test_a_channel_starts_with_the_numbers_of_its_control() -> None:
    members = [member.name for member in fields(Channel)]
    assert tuple(members[: len(CHANNEL_NUMBERS)]) == CHANNEL_NUMBERS
    assert members[len(CHANNEL_NUMBERS) :] == ["send", "recv", "jumbo_recv", "padding"]


def test_small_profile_has_padding_where_c_has() -> None:
    assert SMALL.fixed_size == 32 + 2 * 40


GOLDEN = {
    "ping_time": 123456,
    "open_cookie": 0x11223344,
    "guestinfo": [["guestinfo.ip", "10.0.0.1"], ["k\\x5c", ""]],
    "guestinfo_jumbo": [["big", "v" * 22]],
}
FIRST = {
    "active_time": 77, "chan_id": 3, "cookie": 0xC0FFEE, "proto_num": "RPCI", "jumbo": 0,
    "recv_read": 1, "recv_write": 2,
    "send": {"data": r"info\x00\xff", "index": 2},
    "recv": [{}, {"data": '1 "'}, {}, {}, {}, {}, {}, {}],
    "jumbo_recv": {"data": "j" * 70, "index": 9},
}  # fmt: skip


def test_json_golden() -> None:
    plain = json.loads(busy_state().to_json())
    channels = plain.pop("channels")
    assert plain == GOLDEN
    assert (channels[0], len(channels)) == (FIRST, 6)
    assert [channel["proto_num"] for channel in channels[1:4]] == ["closed", "TCLO", "closed"]


buffers = st.builds(
    Buffer, st.binary(max_size=20), st.integers(0, 0xFFFF), st.none() | st.integers(0, 0xFFFF)
)


@given(st.data(), st.sampled_from(PROFILES), buffers, pairs)
def test_json(
    data: st.DataObject,
    profile: VmportProfile,
    buffer: Buffer,
    more: list[tuple[bytes, bytes]],
) -> None:
    """Of any state, one that no writer has held too."""
    state = data.draw(states(profile))
    state.channels[0].send = buffer
    state.guestinfo.pairs += more
    assert VmportState.from_json(state.to_json(profile), profile) == state


@given(st.sampled_from(PROFILES), st.binary(max_size=700))
def test_json_of_any_bytes(profile: VmportProfile, data: bytes) -> None:
    for body in (data, profile.fixed.pack(*[0] * profile.channel_numbers.stop) + data):
        text = VmportState.from_bytes(body, profile).to_json(profile)
        assert VmportState.from_json(text, profile).to_bytes(profile) == body


def test_what_json_keeps_raw() -> None:
    """What the members do not say: other padding, bytes after the last entry, a short body."""
    body = busy_state().to_bytes()
    for odd in (body + b"after", body[:28] + b"\1" + body[29:]):
        plain = json.loads(VmportState.from_bytes(odd).to_json())
        assert plain["raw"] == odd.hex() and plain["guestinfo"] == GOLDEN["guestinfo"]
        assert VmportState.from_json(json.dumps(plain)).to_bytes() == odd
        assert VmportState.from_json(json.dumps({"raw": odd.hex()})).to_bytes() == odd
        without = {name: value for name, value in plain.items() if name != "raw"}
        assert VmportState.from_json(json.dumps(without)).to_bytes() == body
        without["ping_time"] = 5
        with pytest.raises(FieldError, match="raw does not hold the state beside it"):
            VmportState.from_json(json.dumps({**without, "raw": odd.hex()}))
    assert json.loads(VmportState.from_bytes(b"short").to_json()) == {"raw": b"short".hex()}
    with pytest.raises(FieldError, match="raw does not hold the state beside it"):
        VmportState.from_json(json.dumps({**plain, "raw": b"short".hex()}))


def test_a_state_that_was_changed_has_no_raw() -> None:
    state = VmportState.from_bytes(busy_state().to_bytes() + b"after")
    state.ping_time = 5
    assert "raw" not in json.loads(state.to_json())


EMPTY = json.loads(VmportState.empty().to_json())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"guestinfo": [["k"]]}, r"guestinfo\[0\]: found a list of 1, expected 2 values"),
        ({"guestinfo": [["k", 5]]}, r"guestinfo\[0\]\[1\]: found 5, expected a string"),
        ({"guestinfo": 5}, "guestinfo: found 5, expected a list"),
        ({"guestinfo": [["\\q", ""]]}, r"guestinfo\[0\]\[0\]: only \\xNN may follow a backslash"),
        ({"guestinfo": [["\ud800", ""]]}, r"guestinfo\[0\]\[0\]: '\\ud800' is not text"),
        ({"guestinfo": [["k" * 256, ""]]}, "a key of 256 and a value of 0 bytes do not fit"),
        ({"ping_time": 1 << 64}, "ping_time is a 64-bit field"),
        ({"ping_time": "soon"}, "ping_time: found 'soon', expected a number"),
        ({"channels": []}, "0 channels, expected 6"),
        ({"channels": [{}]}, r"channels\[0\].active_time is missing"),
        ({"channels": [{**FIRST, "proto_num": "TCP"}]}, r"channels\[0\].proto_num: found 'TCP'"),
        ({"channels": [{**FIRST, "send": {"index": 1 << 16}}]}, r"send.index is a 16-bit field"),
        ({"channels": [{**FIRST, "send": {"len": 5}}]}, r"channels\[0\].send: unknown key 'len'"),
        ({"raw": "x"}, "raw: found 'x', expected a string of hex digits"),
        ({"bogus": 1}, "unknown key 'bogus'"),
    ],
)
def test_what_is_no_json_form(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(FieldError, match=reason) as caught:
        VmportState.from_json(json.dumps({**EMPTY, **change}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "5", "null", "{}", "[" * 100000, b"\xff", "9" * 5000])
def test_what_is_no_json(text: str | bytes) -> None:
    with pytest.raises(FieldError):
        VmportState.from_json(text)


def test_json_takes_what_people_write() -> None:
    """Names or numbers of protocols, `0x` numbers, characters beyond ASCII."""
    plain = {**EMPTY, "ping_time": "0x10", "guestinfo": [["k", "\u00e9"]]}
    plain["channels"] = [{**plain["channels"][0], "proto_num": PROTO_RPCI}, *plain["channels"][1:]]
    state = VmportState.from_json(json.dumps(plain))
    assert (state.ping_time, state.guestinfo[b"k"]) == (16, b"\xc3\xa9")
    assert state.channels[0].protocol == "RPCI"


def test_a_state_in_one_line() -> None:
    state = VmportState.empty()
    state.guestinfo[b"k"] = b"v"
    state.channels[2].proto_num = 0x49435052
    assert repr(state) == "<VmportState: 1 of 6 channels open, 1 guestinfo keys, 0 jumbo>"
    short = VmportState.from_bytes(b"abc")
    assert repr(short) == "<VmportState: 3 bytes, shorter than the fixed part>"


@pytest.mark.parametrize("there", range(7))
def test_an_entry_that_is_cut_off_ends_the_entries(there: int) -> None:
    """Up to its last byte; what is left of it belongs to nothing, and no jumbo entry follows."""
    counts = {"used_guestinfo": 2, "used_guestinfo_jumbo": 1, "used_guestsize": 12}
    body = raw(VmportState.empty(), b"\1\2kvv" + b"\2\3jjvvv"[:there], **counts)[8:]
    parts = Parts(body, XEN_4_5_V6)
    assert [(entry.key, entry.value) for entry in parts.entries] == [(b"k", b"vv")]
    assert (parts.first_jumbo, parts.end, parts.skipped) == (464 + 5, 464 + 5, [])
    whole = raw(VmportState.empty(), b"\1\2kvv\2\3jjvvv", **counts)[8:]
    assert Parts(whole, XEN_4_5_V6).entries[1].value == b"vvv"


def test_no_more_data_is_written_than_the_length_says() -> None:
    state = VmportState.empty()
    state.channels[1].recv[2] = Buffer(b"abcdef", 0, 4)
    body = state.to_bytes()
    assert body[464:] == b"abcd"
    assert VmportState.from_bytes(body).channels[1].recv[2].data == b"abcd"


def test_an_entry_without_a_key_at_the_very_end() -> None:
    """Its head is there, so it is one that the loader skips."""
    body = raw(VmportState.empty(), b"\0\0", used_guestinfo=1, used_guestsize=2)[8:]
    parts = Parts(body, XEN_4_5_V6)
    assert (parts.entries, parts.skipped, parts.end) == ([], [464], 466)


def test_a_record_of_a_state() -> None:
    other = VmportProfile(MAX_CHANS=2)
    state = VmportState.empty(other)
    assert to_record(state, other).body == state.to_bytes(other)
