"""Images whose device model saved something else."""

from __future__ import annotations

import io
import struct

from hvmctx.context.vmport import save
from hvmctx.edit.editor import edit
from hvmctx.image.image import open_image
from hvmctx.stream.qemu import MAGIC, Section
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


def with_model(payload: bytes) -> bytes:
    with open_image(EXAMPLE) as image:
        editor = edit(image)
        editor.put("emulator", payload)
        out = io.BytesIO()
        editor.write(out)
    return out.getvalue()
