from __future__ import annotations

import json
import random
import struct
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
    Slots,
    VmportState,
    as_text,
    from_text,
    get_path,
    remove_path,
    set_path,
    to_record,
)
from hvmctx.errors import FieldError, HvmctxError, MissingRecordError, UsageError
from hvmctx.fuzz.vmport import random_record
from tests.builders.vmport import PROFILES, SMALL, busy_state, raw, states, vectors

with_profile = st.sampled_from(PROFILES).flatmap(lambda p: st.tuples(st.just(p), states(p)))


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


pairs = st.lists(st.tuples(st.binary(max_size=2), st.binary(max_size=3)), max_size=6)


@given(pairs, st.binary(max_size=2), st.binary(max_size=2))
def test_slots(held: list[tuple[bytes, bytes]], key: bytes, value: bytes) -> None:
    """As a dictionary, but that they keep what is there twice."""
    slots, known = Slots(held), dict(held)
    assert list(slots) == held and len(slots) == len(held) and dict(slots) == known
    assert (key in slots) == (key in known) and slots.get(key, b"?") == known.get(key, b"?")
    slots[key] = value
    assert slots[key] == value and len(slots) == len(held) + (key not in known)
    del slots[key]
    assert key not in slots and slots.get(key) is None
    assert slots == Slots(pair for pair in held if pair[0] != key)
    for act in (slots.__getitem__, slots.__delitem__):
        with pytest.raises(KeyError):
            act(key)


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


def test_paths_take_the_last_of_a_key() -> None:
    body = set_path(TWICE, "guestinfo[k]", b"last")
    state = VmportState.from_bytes(body)
    assert state.guestinfo.pairs == [(b"k", b""), (b"k", b"last")]
    assert get_path(body, "guestinfo[k]") == state.guestinfo[b"k"] == b"last"


@given(pairs, st.booleans())
def test_a_key_is_removed_as_often_as_it_is_there(
    held: list[tuple[bytes, bytes]], jumbo: bool
) -> None:
    held = [pair for pair in held if pair[0]]
    name = "guestinfo_jumbo" if jumbo else "guestinfo"
    state = VmportState.empty()
    setattr(state, name, Slots(held))
    body = state.to_bytes()
    for key in dict(held):
        body = remove_path(body, f"{name}[{as_text(key)}]")
        del getattr(state, name)[key]
        assert body == state.to_bytes()
    for path, kind in ((f"{name}[k]", MissingRecordError), ("ping_time", UsageError)):
        with pytest.raises(kind):
            remove_path(body, path)


def broken(**changes: Any) -> VmportState:
    state = VmportState.empty()
    for name, value in changes.items():
        setattr(state, name, value)
    return state


def with_send(buffer: Buffer) -> VmportState:
    state = VmportState.empty()
    state.channels[1].send = buffer
    return state


def sample() -> bytes:
    state = VmportState.empty()
    state.guestinfo = Slots({b"guestinfo.ip": b"10.0.0.1", b"b": b"2"})
    state.guestinfo_jumbo = Slots({b"j": b"jumbo"})
    return state.to_bytes()


def numbered(count: int) -> Slots:
    return Slots((b"%d" % number, b"") for number in range(count))


IMPOSSIBLE = [
    (with_send(Buffer(b"x" * 181)), r"chans\[1\].send: length 181, but the buffer holds 180 bytes"),
    (with_send(Buffer(b"x", 0, 5)), r"chans\[1\].send: length 5, but 1 bytes of data"),
    (broken(guestinfo=Slots({b"": b""})), r'guestinfo\[""\]: a key of 0'),
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


TWICE = (
    VmportState.empty().to_bytes()[:4] + struct.pack("<I", 6) + bytes(12)
    + struct.pack("<I", 2) + bytes(440) + b"\1\0k\1\0k"
)  # fmt: skip


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


def test_paths() -> None:
    body = sample()
    assert get_path(body, 'guestinfo["guestinfo.ip"]') == b"10.0.0.1"
    assert get_path(body, "guestinfo_jumbo[j]") == b"jumbo"
    assert get_path(body, "version") == 0xABCD0001
    changed = set_path(body, 'guestinfo["guestinfo.ip"]', b"192.168.100.100")
    changed = set_path(changed, "guestinfo[new]", b"n")
    changed = set_path(changed, "guestinfo_jumbo[k]", b"more")
    changed = set_path(changed, "chans[2].cookie", 77)
    state = VmportState.from_bytes(changed)
    assert state.guestinfo == Slots({b"guestinfo.ip": b"192.168.100.100", b"b": b"2", b"new": b"n"})
    assert state.guestinfo_jumbo == Slots({b"j": b"jumbo", b"k": b"more"})
    assert state.channels[2].cookie == 77
    state.origin = None
    assert state.to_bytes() == changed, "counts and sizes have followed"


def test_a_path_of_bytes_that_are_no_utf8() -> None:
    body = set_path(sample(), "guestinfo[\udcff]", b"v")
    assert get_path(body, r"guestinfo[\xff]") == b"v"


def test_a_key_goes_before_all_of_jumbo() -> None:
    """Also before a jumbo head that the loader takes nothing for."""
    body = VmportState.empty().to_bytes()
    body = body[:4] + struct.pack("<I", 8) + body[8:24] + struct.pack("<I", 2) + body[28:]
    body = set_path(body + b"\0\0\0\1\1\0jv", "guestinfo[k]", b"")
    assert body[464:] == b"\1\0k\0\0\0\1\1\0jv"
    assert get_path(body, "guestinfo_jumbo[j]") == b"v"


def test_edits_touch_only_what_they_must() -> None:
    body = sample() + b"behind" + bytes(3)
    assert set_path(body, "guestinfo[b]", b"3") == body.replace(b"b2", b"b3")
    odd = body[:28] + b"\1\2\3\4" + body[32:]
    assert set_path(odd, "guestinfo[b]", b"3")[28:32] == b"\1\2\3\4"


@pytest.mark.parametrize(
    ("path", "value", "kind", "reason"),
    [
        ("guestinfo[nope]", None, MissingRecordError, "no such key"),
        ("bogus", None, UsageError, "no field 'bogus'"),
        ("guestinfo[k]", 5, FieldError, "takes bytes"),
        ("guestinfo[k]", b"v" * 129, FieldError, "at most 128 bytes, not 129"),
        ('guestinfo[""]', b"", FieldError, "a key has 1 to 30 bytes"),
        ("open_cookie", 1 << 32, FieldError, "open_cookie is a 32-bit field"),
        (r"guestinfo[\q]", None, UsageError, "may follow a backslash"),
        (r"guestinfo[\x4]", None, UsageError, "may follow a backslash"),
        (r"guestinfo[\x+1]", None, UsageError, "may follow a backslash"),
        ("guestinfo[\ud800]", None, UsageError, "not text"),
    ],
)
def test_paths_that_fail(path: str, value: Any, kind: type[Exception], reason: str) -> None:
    with pytest.raises(kind, match=reason):
        if value is None:
            get_path(sample(), path)
        else:
            set_path(sample(), path, value)


@given(st.binary(max_size=600), st.sampled_from(["version", "guestinfo[k]", "chans[5].cookie"]))
def test_paths_of_any_bytes(body: bytes, path: str) -> None:
    value = b"v" if "[k]" in path else 1
    try:
        assert get_path(set_path(body, path, value), path) == value
    except HvmctxError as error:
        assert str(error)


@given(st.binary(max_size=40))
def test_text_of_bytes(data: bytes) -> None:
    text = as_text(data)
    assert text.isascii() and text.isprintable()
    assert from_text(text) == data


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
    assert members[len(CHANNEL_NUMBERS) :] == ["send", "recv", "jumbo_recv"]


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


@settings(max_examples=40)
@given(with_profile, st.binary(min_size=1, max_size=4), st.binary(max_size=9), st.booleans())
def test_paths_do_to_bodies_what_slots_do(
    case: tuple[VmportProfile, VmportState], key: bytes, value: bytes, jumbo: bool
) -> None:
    profile, state = case
    name = "guestinfo_jumbo" if jumbo else "guestinfo"
    slots, path = getattr(state, name), f"{name}[{as_text(key)}]"
    slots.pairs *= 2  # every key twice
    slots[key] = value
    body = set_path(state.to_bytes(profile), path, value, profile)
    assert VmportState.from_bytes(body, profile) == state and body == state.to_bytes(profile)
    assert get_path(body, path, profile) == value
    del slots[key]
    assert remove_path(body, path, profile) == state.to_bytes(profile)
    slots[key] = b""
    assert set_path(remove_path(body, path, profile), path, b"", profile) == state.to_bytes(profile)


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
