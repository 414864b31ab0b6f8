"""A domain to try things on: paused, of no use to anybody, destroyed at the end: `lab`."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager

from hvmctx.live.domain import xl
from hvmctx.live.libraries import XenError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["lab"]

_CONFIGURATION = """name = "{name}"
type = "hvm"
memory = 16
vcpus = {vcpus}
viridian = 1
vga = "none"
vnc = 0
sdl = 0
usb = 0
serial = "none"
on_crash = "preserve"
on_poweroff = "preserve"
"""
"""An HVM guest with all emulated devices, and no other."""
_PATIENCE = 300


@contextmanager
def lab(*, vcpus: int = 2) -> Iterator[int]:
    """The number of a new paused HVM domain. Raises XenError if xl cannot make one."""
    name = f"hvmctx-lab-{os.getpid()}"
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
        file.write(_CONFIGURATION.format(name=name, vcpus=vcpus))
        file.flush()
        xl("create", "-p", file.name, timeout=_PATIENCE)
    try:
        answer = xl("domid", name, timeout=_PATIENCE).decode("utf-8", "replace").strip()
        if not answer.isdigit():
            raise XenError(f"xl domid {name}: no number came back")
        yield int(answer)
    finally:
        xl("destroy", name, timeout=_PATIENCE)
