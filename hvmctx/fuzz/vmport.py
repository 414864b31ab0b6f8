"""Makes VMPORT records for fuzzing: of states that a writer could have held, and with lengths
and counts around every bound of the loader."""

from __future__ import annotations

import struct

from hvmctx.abi.fields import Layout
from hvmctx.abi.vmport import HEAD, PROTO_RPCI, PROTO_TCLO, VmportProfile
from hvmctx.abi.x86 import DESCRIPTOR, hvm_save_descriptor
from hvmctx.context.vmport import Buffer, Parts, VmportState, descriptor
from hvmctx.context.vmport_slots import pack_entry
from hvmctx.fuzz.values import around

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random

__all__ = [
    "damaged",
    "key_counts",
    "most_in_buffers",
    "mutate_body",
    "mutate_record",
    "random_record",
    "random_state",
]

_MOST_IN_BUFFER, _MOST_IN_VALUE = 0xFFFF, 0xFF
"""What a u16 and a u8 can say."""


def random_state(rng: random.Random, profile: VmportProfile) -> VmportState:
    """A state that the writer could have held: a profile may allow more than the record's
    own length fields express."""
    state = VmportState.empty(profile)
    state.ping_time, state.open_cookie = rng.getrandbits(64), rng.getrandbits(32)
    for channel in state.channels:
        if rng.random() < 0.4:
            channel.proto_num = rng.choice((PROTO_RPCI, PROTO_TCLO))
            channel.active_time, channel.cookie = rng.getrandbits(64), rng.getrandbits(32)
            channel.chan_id = rng.randrange(profile.MAX_CHANS)
            channel.recv_read, channel.recv_write = rng.randbytes(2)
            if rng.random() < 0.2:
                channel.padding = rng.randbytes(5)
            send, recv, jumbo = most_in_buffers(profile)
            size = rng.randint(0, send)
            channel.send = Buffer(_noise(rng, size), rng.randint(0, size))
            for bucket in channel.recv:
                if rng.random() < 0.3:
                    bucket.data = _noise(rng, rng.randint(0, recv))
            if rng.random() < 0.2:
                channel.jumbo_recv = Buffer(_noise(rng, rng.randint(0, jumbo)))
    for number in range(rng.choice(key_counts(profile))):
        key = f"k{number}".encode()[: profile.MAX_KEY_LEN]
        size = rng.randint(0, min(profile.MAX_VAL_LEN, _MOST_IN_VALUE))
        state.guestinfo[key] = _noise(rng, size)
    for number in range(rng.choice((0, 0, 1, profile.MAX_NUM_JUMBO_KEY - 1))):
        size = rng.randint(0, profile.MAX_VAL_JUMBO_LEN)
        key = f"j{number}".encode()[: profile.MAX_KEY_LEN]
        state.guestinfo_jumbo[key] = _noise(rng, size)
    return state


def most_in_buffers(profile: VmportProfile) -> tuple[int, int, int]:
    """How many bytes the writer keeps of a send buffer, of a bucket, of a jumbo bucket."""
    words = profile.MAX_SEND_BUF, profile.MAX_RECV_BUF, profile.MAX_RECV_JUMBO_BUF
    send, recv, jumbo = (min(4 * count, _MOST_IN_BUFFER) for count in words)
    return send, recv, jumbo


def key_counts(profile: VmportProfile) -> list[int]:
    """Numbers of keys around the loader's bounds: it makes spare slots."""
    most = profile.MAX_NUM_KEY
    return [min(max(count, 0), most) for count in (0, 1, 3, most - 6, most - 5, most)]


def _noise(rng: random.Random, size: int) -> bytes:
    """Bytes that repeat themselves: what is in a buffer matters less than how much."""
    part = rng.randbytes(min(size, 16))
    return (part * (size // 16 + 1))[:size]


def random_record(rng: random.Random, profile: VmportProfile) -> bytes:
    """A record of a random state, half of the time with lengths and counts around every
    bound, cut, or with wrong bytes; descriptor included."""
    return damaged(random_state(rng, profile).to_bytes(profile), rng, profile)


def damaged(written: bytes, rng: random.Random, profile: VmportProfile) -> bytes:
    """The record of a body that was written, half of the time with edits."""
    body = bytearray(written)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        mutate_body(rng, body, profile)
    if rng.random() < 0.03:  # an empty state, cut around the last byte that the loader reads
        size = rng.randint(profile.read_size - 2, profile.fixed_size)
        body = bytearray(VmportState.empty(profile).to_bytes(profile)[:size])
    record = descriptor(bytes(body)) + bytes(body)
    if rng.random() < 0.15:
        name, values = rng.choice(
            (
                ("typecode", (0, 20, 22, 0xFFFF)),
                ("length", (0, 3, 4, profile.fixed_size - 1, len(body) + 1, 0xFFFFFFF8)),
            )
        )
        changed = bytearray(record)
        Layout.of(hvm_save_descriptor).locate(name).put(changed, rng.choice(values))
        record = bytes(changed)
    return record[: rng.randint(0, len(record))] if rng.random() < 0.05 else record


def mutate_body(rng: random.Random, body: bytearray, profile: VmportProfile) -> None:
    """One edit: of the head's counts, of a buffer's length, of an entry's head, or of bytes
    anywhere; each bound from the profile."""
    kind = rng.randrange(8)
    if kind == 0 and len(body) >= HEAD.size:
        name, values = rng.choice(_head_values(body, profile))
        HEAD.locate(name).put(body, rng.choice(values) & 0xFFFFFFFF)
    elif kind == 1 and len(body) >= profile.fixed_size:
        place = rng.choice(profile.buffers)
        bounds = [place.kept + more for more in (-1, 0, 1, 4, 5, 8, 9)]
        value = min(0xFFFF, rng.choice((0, 1, *bounds)))
        (old,) = struct.unpack_from("<H", body, place.offset)
        struct.pack_into("<H", body, place.offset, value)
        if value > old and rng.random() < 0.7:  # and the bytes that it says
            body[profile.fixed_size : profile.fixed_size] = _noise(rng, value - old)
    elif kind in (2, 3) and len(body) > profile.fixed_size:
        _mutate_entry(rng, body, profile)
    elif kind == 4:
        around_fixed = rng.randint(profile.read_size - 1, profile.fixed_size)
        del body[rng.choice((rng.randint(0, len(body)), around_fixed)) :]
    elif kind == 5 and rng.random() < 0.05:  # around the longest
        size = profile.max_size + rng.choice((-1, 0, 1, 2))
        body += bytes(max(0, size - len(body)))
    elif kind == 5:
        body += rng.randbytes(rng.randint(1, 20))
    elif kind == 6 and len(body) > profile.fixed_size:
        _repeat_entry(rng, body, profile)
    elif body:
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)


def _repeat_entry(rng: random.Random, body: bytearray, profile: VmportProfile) -> None:
    """An entry once more, of the same value or another, with the counts that this makes."""
    entries = Parts(bytes(body), profile).entries
    if not entries:
        return
    entry = rng.choice(entries)
    value = rng.choice((entry.value, entry.value[::-1]))
    packed = pack_entry(entry.key, value, jumbo=entry.jumbo)
    body[entry.end : entry.end] = packed
    for name, more in (
        ("used_guestsize", len(packed)),
        ("used_guestinfo_jumbo" if entry.jumbo else "used_guestinfo", 1),
    ):
        number = HEAD.locate(name)
        number.put(body, number.get(body) + more & 0xFFFFFFFF)


def _head_values(body: bytearray, profile: VmportProfile) -> list[tuple[str, tuple[int, ...]]]:
    """(name, values) of the head's fields: version, used_guestsize and the used counts, with
    the counts that spare slots push over the bound, and those that wrap."""
    size = HEAD.locate("used_guestsize").get(body)
    keys, jumbo = profile.MAX_NUM_KEY, profile.MAX_NUM_JUMBO_KEY
    return [
        ("version", (0, profile.SAVE_VERSION, profile.SAVE_VERSION + 1)),
        ("used_guestsize", (0, 1, 2, size - 1, size + 1, len(body), 0xFFFFFFFF)),
        ("used_guestinfo", (0, 1, keys - 6, keys - 5, keys - 4, keys,
                            0xFFFFFFFA, 0xFFFFFFFB, 0xFFFFFFFF)),
        ("used_guestinfo_jumbo", (0, 1, jumbo - 2, jumbo - 1, jumbo, 0xFFFFFFFE, 0xFFFFFFFF)),
    ]  # fmt: skip


def _mutate_entry(rng: random.Random, body: bytearray, profile: VmportProfile) -> None:
    """A key or value length on its bound, where an entry starts; any byte where none does."""
    entries = Parts(bytes(body), profile).entries
    if not entries:
        at = rng.randrange(profile.fixed_size, len(body))
        body[at] = rng.choice((0, 1, 255))
        return
    entry = rng.choice(entries)
    if rng.random() < 0.5:
        body[entry.start] = rng.choice((*around(profile.MAX_KEY_LEN), 0, 255)) & 0xFF
    elif entry.jumbo:
        value = rng.choice((*around(profile.MAX_VAL_JUMBO_LEN), 0, 0xFFFF)) & 0xFFFF
        struct.pack_into("<H", body, entry.start + 1, value)
    else:
        body[entry.start + 1] = rng.choice((*around(profile.MAX_VAL_LEN), 0, 255)) & 0xFF


def mutate_record(record: bytes, rng: random.Random, profile: VmportProfile) -> bytes:
    """A record with one to three edits; its descriptor says the new length, mostly."""
    body = bytearray(record[DESCRIPTOR.size :])
    for _ in range(rng.choice((1, 1, 2, 3))):
        mutate_body(rng, body, profile)
    head = descriptor(bytes(body)) if rng.random() < 0.95 else record[: DESCRIPTOR.size]
    return head + bytes(body)
