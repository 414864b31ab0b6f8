"""VMPORT states, records and mutations for tests."""

from __future__ import annotations

import json
import lzma
import struct
from typing import Any

from hypothesis import strategies as st

from hvmctx.abi.vmport import PROTO_RPCI, PROTO_TCLO, XEN_4_5_V6, VmportProfile
from hvmctx.context.vmport import Buffer, Channel, VmportState, descriptor
from hvmctx.context.vmport_slots import Slots
from tests.builders.samples import DATA

OTHER = VmportProfile(
    "other", MAX_CHANS=8, MAX_BKTS=4, MAX_NUM_KEY=128, MAX_VAL_JUMBO_LEN=8192, MAX_NUM_JUMBO_KEY=4
)
SMALL = VmportProfile(
    "small", MAX_CHANS=2, MAX_BKTS=1, MAX_KEY_LEN=4, MAX_VAL_LEN=9, MAX_VAL_JUMBO_LEN=20,
    MAX_NUM_KEY=12, MAX_NUM_JUMBO_KEY=3,
)  # fmt: skip
PROFILES = [XEN_4_5_V6, OTHER, SMALL]


def vectors() -> list[dict[str, Any]]:
    path = DATA / "vmport" / "restore-vectors.jsonl.xz"
    with lzma.open(path, "rt") as file:
        return [json.loads(line) for line in file]


pairs = st.lists(st.tuples(st.binary(max_size=2), st.binary(max_size=3)), max_size=6)


def u(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << bits) - 1)


@st.composite
def states(draw: st.DrawFn, profile: VmportProfile) -> VmportState:
    """Any state that the writer could have held."""

    def buffer(words: int) -> Buffer:
        size = draw(st.sampled_from([0, 0, 1, 4 * words]) | st.integers(0, 4 * words))
        return Buffer(draw(st.randoms(use_true_random=False)).randbytes(size), draw(u(16)))

    channels = [
        Channel(
            draw(u(64)), draw(u(32)), draw(u(32)), draw(u(32)), draw(u(8)), draw(u(8)), draw(u(8)),
            buffer(profile.MAX_SEND_BUF),
            [buffer(profile.MAX_RECV_BUF) for _ in range(profile.MAX_BKTS)],
            buffer(profile.MAX_RECV_JUMBO_BUF),
            draw(st.sampled_from([b"", b"\0\0\1\2\3"])),
        )
        if draw(st.booleans())
        else Channel(recv=[Buffer() for _ in range(profile.MAX_BKTS)])
        for _ in range(profile.MAX_CHANS)
    ]  # fmt: skip

    def entries(count: int, values: int) -> Slots:
        keys = st.binary(min_size=1, max_size=profile.MAX_KEY_LEN)
        return Slots(
            draw(st.dictionaries(keys, st.binary(max_size=min(values, 300)), max_size=count))
        )

    return VmportState(
        draw(u(64)),
        draw(u(32)),
        channels,
        entries(min(profile.MAX_NUM_KEY, 20), profile.MAX_VAL_LEN),
        entries(profile.MAX_NUM_JUMBO_KEY, profile.MAX_VAL_JUMBO_LEN),
    )


with_profile = st.sampled_from(PROFILES).flatmap(lambda p: st.tuples(st.just(p), states(p)))


def busy_state() -> VmportState:
    """A state with a little of everything."""
    made = VmportState.empty()
    made.ping_time, made.open_cookie = 123456, 0x11223344
    first = made.channels[0]
    first.proto_num, first.chan_id, first.cookie = PROTO_RPCI, 3, 0xC0FFEE
    first.active_time, first.recv_read, first.recv_write = 77, 1, 2
    first.send = Buffer(b"info\0\xff", 2)
    first.recv[1] = Buffer(b'1 "')
    first.jumbo_recv = Buffer(b"j" * 70, 9)
    made.channels[2].proto_num = PROTO_TCLO
    made.guestinfo = Slots({b"guestinfo.ip": b"10.0.0.1", b"k\\": b""})
    made.guestinfo_jumbo = Slots({b"big": b"v" * 22})
    return made


def sample() -> bytes:
    state = VmportState.empty()
    state.guestinfo = Slots({b"guestinfo.ip": b"10.0.0.1", b"b": b"2"})
    state.guestinfo_jumbo = Slots({b"j": b"jumbo"})
    return state.to_bytes()


TWICE = (
    VmportState.empty().to_bytes()[:4] + struct.pack("<I", 6) + bytes(12)
    + struct.pack("<I", 2) + bytes(440) + b"\1\0k\1\0k"
)  # fmt: skip


PLACES = {"version": 0, "used_guestsize": 4, "used_guestinfo": 20, "used_guestinfo_jumbo": 24}


def record_of(state: VmportState | None = None, cut: int | None = None, **fields: int) -> bytes:
    """A record; `fields` are put into its head afterwards."""
    body = bytearray((state or VmportState.empty()).to_bytes())
    for name, value in fields.items():
        struct.pack_into("<I", body, PLACES[name], value)
    cut_body = bytes(body[:cut])
    return descriptor(cut_body) + cut_body


def with_buffer(name: str, length: int, data: bytes | None = None) -> VmportState:
    """The first channel's buffer claiming `length`, with that much data, or `data`."""
    state = VmportState.empty()
    data = bytes(length) if data is None else data
    buffer = Buffer(data, 0, length)
    if name == "send":
        state.channels[0].send = buffer
    elif name == "recv":
        state.channels[0].recv[3] = buffer
    else:
        state.channels[0].jumbo_recv = buffer
    return state


def raw(state: VmportState, data: bytes, **fields: int) -> bytes:
    """The state's record with `data` as all of its packed_data."""
    record = record_of(state, **fields)
    body = record[8 : 8 + 464] + data
    return descriptor(body) + body


def sent(name: str, length: int, there: int) -> bytes:
    """A buffer claiming `length` bytes, of which that many are there."""
    return raw(with_buffer(name, length), bytes(there))


def keys(data: bytes, count: int, size: int) -> bytes:
    """Guestinfo entries: their bytes, and what the head says of count and size."""
    return raw(EMPTY, data, used_guestinfo=count, used_guestsize=size)


def jumbo(data: bytes, count: int, size: int) -> bytes:
    return raw(EMPTY, data, used_guestinfo_jumbo=count, used_guestsize=size)


EMPTY = VmportState.empty()
