"""VMPORT records a second: from_bytes, to_bytes and restore of a typical (1 KB) and a full (49 KB)
record, against the same format in construct."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.measure import best_of
from hvmctx.abi.vmport import PROTO_RPCI, PROTO_TCLO, XEN_4_5_V6, VmportProfile
from hvmctx.context.vmport import Buffer, VmportState, descriptor
from hvmctx.restore.vmport import Restored, restore


def typical() -> VmportState:
    """Two open channels, one of them in the middle of a request, and five keys."""
    state = VmportState.empty()
    for number, protocol in enumerate((PROTO_RPCI, PROTO_TCLO)):
        channel = state.channels[number]
        channel.proto_num, channel.cookie = protocol, 0x1234
        channel.send = Buffer(b"info-get guestinfo.ip" * 5)
        channel.recv[0] = Buffer(b"1 10.0.0.1" * 3)
    for number in range(5):
        state.guestinfo[b"guestinfo.key%d" % number] = b"value" * 8
    return state


def full(profile: VmportProfile) -> VmportState:
    """Every buffer full, and as many keys as the loader restores safely."""
    state = VmportState.empty()
    for channel in state.channels:
        channel.proto_num = PROTO_RPCI
        channel.send = Buffer(b"s" * (4 * profile.MAX_SEND_BUF))
        channel.recv = [Buffer(b"r" * (4 * profile.MAX_RECV_BUF)) for _ in channel.recv]
        channel.jumbo_recv = Buffer(b"j" * (4 * profile.MAX_RECV_JUMBO_BUF))
    for number in range(profile.MAX_NUM_KEY - 5):
        state.guestinfo[b"guestinfo.key%02d" % number] = b"v" * profile.MAX_VAL_LEN
    state.guestinfo_jumbo[b"jumbo"] = b"v" * profile.MAX_VAL_JUMBO_LEN
    return state


def in_construct(profile: VmportProfile) -> Any:
    """The packed arm as one writes it in construct."""
    import construct

    c: Any = construct  # it makes its fields as it is imported

    bucket = c.Struct("recv_len" / c.Int16ul, "recv_idx" / c.Int16ul)
    channel = c.Struct(
        "active_time" / c.Int64ul, "chan_id" / c.Int32ul, "cookie" / c.Int32ul,
        "proto_num" / c.Int32ul, "send_len" / c.Int16ul, "send_idx" / c.Int16ul,
        "jumbo" / c.Int8ul, "recv_read" / c.Int8ul, "recv_write" / c.Int8ul, c.Padding(5),
        "recv_bkt" / c.Array(profile.MAX_BKTS, bucket), "jumbo_recv_bkt" / bucket, c.Padding(4),
    )  # fmt: skip

    def length(context: Any) -> int:
        channel = context._.chans[context._index // (profile.MAX_BKTS + 2)]
        place = context._index % (profile.MAX_BKTS + 2)
        if place == 0:
            return int(channel.send_len)
        if place == profile.MAX_BKTS + 1:
            return int(channel.jumbo_recv_bkt.recv_len)
        return int(channel.recv_bkt[place - 1].recv_len)

    def entry(value: Any) -> Any:
        return c.Struct(
            "key_len" / c.Int8ul, "val_len" / value,
            "key" / c.Bytes(c.this.key_len), "value" / c.Bytes(c.this.val_len),
        )  # fmt: skip

    return c.Struct(
        "version" / c.Int32ul, "used_guestsize" / c.Int32ul, "ping_time" / c.Int64ul,
        "open_cookie" / c.Int32ul, "used_guestinfo" / c.Int32ul,
        "used_guestinfo_jumbo" / c.Int32ul, c.Padding(4),
        "chans" / c.Array(profile.MAX_CHANS, channel),
        "data" / c.Array(
            profile.MAX_CHANS * (profile.MAX_BKTS + 2), c.Struct("bytes" / c.Bytes(length))
        ),
        "guestinfo" / c.Array(c.this.used_guestinfo, entry(c.Int8ul)),
        "guestinfo_jumbo" / c.Array(c.this.used_guestinfo_jumbo, entry(c.Int16ul)),
    )  # fmt: skip


def main() -> None:
    profile = XEN_4_5_V6
    peer = in_construct(profile)
    for name, state in (("typical", typical()), ("full", full(profile))):
        body = state.to_bytes(strict=True)
        record = descriptor(body) + body
        assert isinstance(restore(record), Restored)
        parsed = peer.parse(body)
        assert len(parsed.guestinfo) == len(state.guestinfo)
        seconds = {
            "from_bytes": best_of(partial(VmportState.from_bytes, body), 5, loops=50),
            "to_bytes": best_of(state.to_bytes, 5, loops=50),
            "restore": best_of(partial(restore, record), 5, loops=50),
        }
        theirs = {
            "from_bytes": best_of(partial(peer.parse, body), 5, loops=5),
            "to_bytes": best_of(partial(peer.build, parsed), 5, loops=5),
        }
        theirs["restore"] = theirs["from_bytes"]
        for what, took in seconds.items():
            print(
                f"VMPORT {what}, {name} record of {len(record)} bytes: {1 / took:.0f} a second, "
                f"{theirs[what] / took:.0f} times construct"
            )


if __name__ == "__main__":
    main()
