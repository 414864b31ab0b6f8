"""VMPORT states, records and mutations for tests."""

from __future__ import annotations

import json
import lzma
import random
import struct
from typing import Any

from hypothesis import strategies as st

from hvmctx.abi.vmport import XEN_4_5_V6, VmportProfile
from hvmctx.context.vmport import Buffer, Channel, VmportState, descriptor, pack
from tests.samples import DATA

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
        )
        if draw(st.booleans())
        else Channel(recv=[Buffer() for _ in range(profile.MAX_BKTS)])
        for _ in range(profile.MAX_CHANS)
    ]  # fmt: skip

    def entries(count: int, values: int) -> dict[bytes, bytes]:
        keys = st.binary(min_size=1, max_size=profile.MAX_KEY_LEN)
        return draw(st.dictionaries(keys, st.binary(max_size=min(values, 300)), max_size=count))

    return VmportState(
        draw(u(64)),
        draw(u(32)),
        channels,
        entries(min(profile.MAX_NUM_KEY, 20), profile.MAX_VAL_LEN),
        entries(profile.MAX_NUM_JUMBO_KEY, profile.MAX_VAL_JUMBO_LEN),
    )


def random_record(rng: random.Random, profile: VmportProfile) -> bytes:
    """A record of a random state, as often as not with lengths and counts around every
    bound, cut, or with wrong bytes; descriptor included."""
    state = VmportState.empty(profile)
    state.ping_time, state.open_cookie = rng.getrandbits(64), rng.getrandbits(32)
    for channel in state.channels:
        if rng.random() < 0.4:
            channel.proto_num = rng.choice((0x49435052, 0x4F4C4354))
            channel.send = Buffer(rng.randbytes(rng.randint(0, 4 * profile.MAX_SEND_BUF)))
            for bucket in channel.recv:
                if rng.random() < 0.3:
                    bucket.data = rng.randbytes(rng.randint(0, 4 * profile.MAX_RECV_BUF))
            if rng.random() < 0.2:
                size = rng.randint(0, 4 * profile.MAX_RECV_JUMBO_BUF)
                channel.jumbo_recv = Buffer(rng.randbytes(size))
    count = rng.choice(
        (0, 1, 3, profile.MAX_NUM_KEY - 6, profile.MAX_NUM_KEY - 5, profile.MAX_NUM_KEY)
    )
    for number in range(count):
        key = f"k{number}".encode()[: profile.MAX_KEY_LEN]
        state.guestinfo[key] = rng.randbytes(rng.randint(0, profile.MAX_VAL_LEN))
    for number in range(rng.choice((0, 0, 1, profile.MAX_NUM_JUMBO_KEY - 1))):
        size = rng.randint(0, profile.MAX_VAL_JUMBO_LEN)
        state.guestinfo_jumbo[b"j%d" % number] = rng.randbytes(size)
    body = bytearray(pack(state, profile))
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        _mutate(rng, body, profile)
    record = descriptor(bytes(body)) + bytes(body)
    if rng.random() < 0.15:
        place, form, values = rng.choice(
            ((0, "<H", (0, 20, 22, 0xFFFF)), (4, "<I", (0, 3, 4, 463, len(body) + 1, 0xFFFFFFF8)))
        )
        record = (
            record[:place]
            + struct.pack(form, rng.choice(values))
            + record[place + len(struct.pack(form, 0)) :]
        )
    return record[: rng.randint(0, len(record))] if rng.random() < 0.05 else record


def _mutate(rng: random.Random, body: bytearray, profile: VmportProfile) -> None:
    kind = rng.randrange(6)
    stride = (profile.fixed_size - 32) // profile.MAX_CHANS
    if kind == 0 and len(body) >= 32:
        place = rng.choice((0, 4, 20, 24))
        value = rng.choice((0, 1, 2, 59, 60, 61, 64, 0xFFFFFFFA, 0xFFFFFFFB, 0xFFFFFFFF, len(body)))
        struct.pack_into("<I", body, place, value)
    elif kind == 1 and len(body) >= profile.fixed_size:
        channel = 32 + stride * rng.randrange(profile.MAX_CHANS)
        place = channel + rng.choice((20, *range(32, 32 + 4 * (profile.MAX_BKTS + 1), 4)))
        bound = 4 * rng.choice(
            (profile.MAX_SEND_BUF, profile.MAX_RECV_BUF, profile.MAX_RECV_JUMBO_BUF)
        )
        value = rng.choice((0, 1, bound, bound + 1, bound + 4, bound + 5, 0xFFFF))
        struct.pack_into("<H", body, place, min(value, 0xFFFF))
    elif kind == 2 and len(body) > profile.fixed_size:
        body[rng.randrange(profile.fixed_size, len(body))] = rng.choice(
            (0, 1, 30, 31, 128, 129, 255)
        )
    elif kind == 3:
        del body[rng.randint(0, len(body)) :]
    elif kind == 4:
        body += rng.randbytes(rng.randint(1, 20))
    elif body:
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
