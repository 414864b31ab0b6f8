"""The JSON form of VMPORT states."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmctx.abi.vmport import PROTO_RPCI, VmportProfile
from hvmctx.context.vmport import CHANNEL_NUMBERS, Buffer, Channel, VmportState
from hvmctx.errors import FieldError, InputError
from hvmctx.json_form.vmport import BufferModel, ChannelModel, from_dict, to_dict
from tests.builders.vmport import PROFILES, busy_state, states

with_profile = st.sampled_from(PROFILES).flatmap(lambda p: st.tuples(st.just(p), states(p)))


@settings(max_examples=25)
@given(with_profile)
def test_json(case: tuple[VmportProfile, VmportState]) -> None:
    profile, state = case
    assert from_dict(json.loads(json.dumps(to_dict(state))), profile) == state
    body = state.to_bytes(profile) + b"behind"
    plain = json.loads(json.dumps(to_dict(VmportState.from_bytes(body, profile))))
    assert from_dict(plain, profile).to_bytes(profile) == body


@pytest.mark.parametrize(
    "plain",
    [None, {}, [], {"ping_time": 1}, {**to_dict(VmportState.empty()), "guestinfo": [["0"]]},
     {**to_dict(VmportState.empty()), "guestinfo": [["zz", "00"]]},
     {**to_dict(VmportState.empty()), "ping_time": 1 << 64},
     {**to_dict(VmportState.empty()), "channels": []}],
)  # fmt: skip
def test_what_is_no_json_form(plain: Any) -> None:
    with pytest.raises(FieldError):
        from_dict(plain)


GOLDEN = {
    "ping_time": 123456,
    "open_cookie": 0x11223344,
    "guestinfo": [[b"guestinfo.ip".hex(), b"10.0.0.1".hex()], [b"k\\".hex(), ""]],
    "guestinfo_jumbo": [[b"big".hex(), "76" * 22]],
    "unparsed": None,
    "origin": None,
}
FIRST = {
    "active_time": 77, "chan_id": 3, "cookie": 0xC0FFEE, "proto_num": PROTO_RPCI, "jumbo": 0,
    "recv_read": 1, "recv_write": 2,
    "send": {"data": "696e666f00ff", "index": 2, "length": None},
    "jumbo_recv": {"data": "6a" * 70, "index": 9, "length": None},
}  # fmt: skip


def test_golden() -> None:
    plain = to_dict(busy_state())
    channels = plain.pop("channels")
    assert plain == GOLDEN
    first = dict(channels[0])
    buckets = first.pop("recv")
    assert first == FIRST
    assert buckets[1] == {"data": b'1 "'.hex(), "index": 0, "length": None}
    assert (len(channels), len(buckets)) == (6, 8)


buffers = st.builds(
    Buffer, st.binary(max_size=20), st.integers(0, 0xFFFF), st.none() | st.integers(0, 0xFFFF)
)


@given(buffers)
def test_buffers_there_and_back(buffer: Buffer) -> None:
    model = BufferModel.of(buffer)
    assert model.to_buffer() == BufferModel.from_dict(model.to_dict()).to_buffer() == buffer


@given(st.lists(st.integers(0, 1 << 32), min_size=7, max_size=7), st.lists(buffers, min_size=3))
def test_channels_there_and_back(numbers: list[int], held: list[Buffer]) -> None:
    channel = Channel(
        **dict(zip(CHANNEL_NUMBERS, numbers)), send=held[0], recv=held[1:-1], jumbo_recv=held[-1]
    )
    model = ChannelModel.of(channel)
    assert ChannelModel.from_dict(model.to_dict()).to_channel() == channel


def test_what_a_body_was_is_kept() -> None:
    """What no state says: the bytes behind the last entry, and a body that holds none."""
    behind = VmportState.from_bytes(busy_state().to_bytes() + b"behind")
    plain = to_dict(behind)
    assert plain["origin"] == (busy_state().to_bytes() + b"behind").hex()
    assert from_dict(plain).to_bytes().endswith(b"behind")
    short = VmportState.from_bytes(b"short")
    assert to_dict(short)["unparsed"] == b"short".hex()
    assert from_dict(to_dict(short)).to_bytes() == b"short"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("guestinfo", [["zz", ""]], "non-hexadecimal"),
        ("guestinfo", [["00"]], "not enough values"),
        ("guestinfo", 5, "int"),
        ("unparsed", "x", "non-hexadecimal"),
        ("ping_time", 1 << 64, "ping_time is a 64-bit field"),
        ("channels", [], "0 channels, expected 6"),
        ("channels", [{}], "not the JSON form of a VMPORT state"),
    ],
)
def test_a_refusal_says_why(name: str, value: Any, reason: str) -> None:
    with pytest.raises(FieldError, match=reason) as caught:
        from_dict({**to_dict(VmportState.empty()), name: value})
    assert "\n" not in str(caught.value)


def test_without_dataclasses_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dataclasses_json", None)
    monkeypatch.delitem(sys.modules, "hvmctx.json_form.vmport")
    with pytest.raises(InputError, match="pip install dataclasses-json"):
        importlib.import_module("hvmctx.json_form.vmport")
