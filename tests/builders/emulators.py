"""Images whose device model saved something else."""

from __future__ import annotations

import io
import struct

from hvmctx.context.vmport import save
from hvmctx.edit.editor import edit
from hvmctx.image.image import open_image
from hvmctx.stream.qemu import MAGIC, Section
from hvmctx.stream.qemu_devices import RpcBucket, RpcChannel, RpcKey, VmportRpc
from tests.builders.samples import DATA, EXAMPLE
from tests.builders.vmport import busy_state

MOUSE = (DATA / "qemu" / "pc-vmport.xendev").read_bytes()
"""Genuine, of a QEMU with VMware's port."""
VMPORT = save(busy_state()) or b""


def qemu(*sections: tuple[str, bytes], version: int = 1) -> bytes:
    """QEMU's file: of each section its name, `cpu` or `cpu/1`, and its data."""
    made = MAGIC + struct.pack(">I", 3)
    for number, (name, data) in enumerate(sections):
        named, instance = (name[:-2], int(name[-1])) if name[-2:-1] == "/" else (name, 0)
        made += Section(named, instance, version, number, 0, data=data).to_bytes()
    return made


def with_model(payload: bytes, whole: bytes | None = None) -> bytes:
    """An image, by default the example, with that file."""
    with open_image(EXAMPLE if whole is None else whole) as image:
        editor = edit(image)
        editor.put("emulator", payload)
        out = io.BytesIO()
        editor.write(out)
    return out.getvalue()


def rpc() -> VmportRpc:
    """As the series' vmstate has it: an open channel, two keys."""
    buckets = [RpcBucket(6, 1, 2, b"reset\0".ljust(12, b"\0")), *(
        RpcBucket(0, 0, 0, bytes(4)) for _ in range(3)
    )]  # fmt: skip
    channel = RpcChannel(77, 3, 0xC0FFEE, 0x49435052, 9, 2, 4, 0, 1, bytes(20), buckets)
    keys = [RpcKey(b"ip\0", b"10.0.0.1", bytes(56)), RpcKey(b"k\0", b"", bytes(64))]
    return VmportRpc(14, 341836, 9, 123456, 7, [channel], keys)
