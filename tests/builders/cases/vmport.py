"""Of VMPORT records: what fires each rule, and what just misses it."""

from __future__ import annotations

from hvmctx.context.vmport import Buffer, VmportState
from hvmctx.context.vmport_slots import Slots
from tests.builders.vmport import EMPTY, jumbo, keys, raw, record_of, sent

KEYS60 = VmportState.empty()
KEYS60.guestinfo = Slots({b"k%d" % n: b"" for n in range(60)})
KEYS59 = VmportState.empty()
KEYS59.guestinfo = Slots({b"k%d" % n: b"" for n in range(59)})
JUMBO2 = VmportState.empty()
JUMBO2.guestinfo_jumbo = Slots({b"a": b"", b"b": b""})
JUMBO1 = VmportState.empty()
JUMBO1.guestinfo_jumbo = Slots({b"a": b""})

# Rule -> a record that fires it, and one that just misses it.
CASES: dict[str, tuple[bytes, bytes]] = {
    "vmport-descriptor": (record_of()[:7], record_of()),
    "vmport-body": (record_of()[:-1], record_of()),
    "vmport-type": (b"\x14" + record_of()[1:], record_of()),
    "vmport-save-version": (record_of(version=0xABCD0002), record_of()),
    "vmport-version": (record_of(cut=3), record_of()),
    "vmport-fixed-part": (record_of(cut=459), record_of(cut=460)),
    "vmport-send_buf": (sent("send", 185, 185), sent("send", 184, 184)),
    "vmport-send_buf-source": (sent("send", 9, 8), sent("send", 9, 9)),
    "vmport-recv_buf": (sent("recv", 137, 137), sent("recv", 136, 136)),
    "vmport-recv_buf-source": (sent("recv", 2, 1), sent("recv", 2, 2)),
    "vmport-jumbo-recv_buf": (sent("jumbo", 4105, 4105), sent("jumbo", 4104, 4104)),
    "vmport-jumbo-recv_buf-source": (sent("jumbo", 1, 0), sent("jumbo", 1, 1)),
    "vmport-guestinfo-slot": (record_of(KEYS60), record_of(KEYS59)),
    "vmport-guestinfo-head": (keys(b"\1", 1, 9), keys(b"\1\0k", 1, 3)),
    "vmport-guestinfo-key_data": (
        keys(b"\x1f\0" + b"k" * 31, 1, 33),
        keys(b"\x1e\0" + b"k" * 30, 1, 32),
    ),
    "vmport-guestinfo-key_data-source": (keys(b"\2\0k", 1, 4), keys(b"\2\0kk", 1, 4)),
    "vmport-guestinfo-val_data": (
        keys(b"\1\x81k" + b"v" * 129, 1, 132),
        keys(b"\1\x80k" + b"v" * 128, 1, 131),
    ),
    "vmport-guestinfo-val_data-source": (keys(b"\1\2kv", 1, 5), keys(b"\1\2kvv", 1, 5)),
    "vmport-guestinfo_jumbo-slot": (record_of(JUMBO2), record_of(JUMBO1)),
    "vmport-guestinfo_jumbo-head": (jumbo(b"\1\0", 1, 9), jumbo(b"\1\0\0k", 1, 4)),
    "vmport-guestinfo_jumbo-key_data": (
        jumbo(b"\x1f\0\0" + b"k" * 31, 1, 34),
        jumbo(b"\x1e\0\0" + b"k" * 30, 1, 33),
    ),
    "vmport-guestinfo_jumbo-key_data-source": (jumbo(b"\2\0\0k", 1, 5), jumbo(b"\2\0\0kk", 1, 5)),
    "vmport-guestinfo_jumbo-val_data": (
        jumbo(b"\1\1\x10k" + b"v" * 4097, 1, 4101),
        jumbo(b"\1\0\x10k" + b"v" * 4096, 1, 4100),
    ),
    "vmport-guestinfo_jumbo-val_data-source": (jumbo(b"\1\2\0kv", 1, 6), jumbo(b"\1\2\0kvv", 1, 6)),
    "vmport-capped": (sent("send", 181, 181), sent("send", 180, 180)),
    "vmport-size": (record_of(JUMBO1, used_guestsize=5), record_of(JUMBO1)),
    "vmport-count": (record_of(JUMBO1, used_guestinfo=1), record_of(JUMBO1)),
    "vmport-empty-key": (keys(b"\0\0", 1, 2), keys(b"\1\0k", 1, 3)),
    "vmport-duplicate": (keys(b"\1\0k\1\0k", 2, 6), keys(b"\1\0k\1\0j", 2, 6)),
    "vmport-padding": (record_of()[:36] + b"\1" + record_of()[37:], record_of()),
    "vmport-behind": (raw(EMPTY, b"x"), raw(EMPTY, b"")),
}  # fmt: skip


def with_channel(**values: int) -> bytes:
    state = VmportState.empty()
    for name, value in values.items():
        if name == "index":
            state.channels[2].send = Buffer(b"abc", value)
        else:
            setattr(state.channels[2], name, value)
    return record_of(state)


CASES["vmport-index"] = (with_channel(index=4), with_channel(index=3))
CASES["vmport-protocol"] = (with_channel(proto_num=5), with_channel(proto_num=0x4F4C4354))
