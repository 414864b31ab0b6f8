"""Images whose device model saved something else."""

from __future__ import annotations

import io

from hvmctx.context.vmport import save
from hvmctx.edit.editor import edit
from hvmctx.image.image import open_image
from tests.builders.samples import DATA, EXAMPLE
from tests.builders.vmport import busy_state

MOUSE = (DATA / "qemu" / "pc-vmport.xendev").read_bytes()
"""Genuine, of a QEMU with VMware's port."""
VMPORT = save(busy_state()) or b""


def with_model(payload: bytes) -> bytes:
    with open_image(EXAMPLE) as image:
        editor = edit(image)
        editor.put("emulator", payload)
        out = io.BytesIO()
        editor.write(out)
    return out.getvalue()
