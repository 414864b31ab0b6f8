"""A domain to try things on: paused, of no use to anybody, destroyed at the end: `lab`."""

from __future__ import annotations

import os
import subprocess
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
    program = xl()
    name = f"hvmctx-lab-{os.getpid()}"
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
        file.write(_CONFIGURATION.format(name=name, vcpus=vcpus))
        file.flush()
        _run(program, "create", "-p", file.name)
    try:
        answer = _run(program, "domid", name).strip()
        if not answer.isdigit():
            raise XenError(f"xl domid {name}: no number came back")
        yield int(answer)
    finally:
        _run(program, "destroy", name)


def _run(*words: str) -> str:
    what = " ".join(["xl", *words[1:]])
    try:
        done = subprocess.run(
            words, capture_output=True, timeout=_PATIENCE, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise XenError(f"{what}: {error}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise XenError(f"{what}: {said[-1] if said else 'failed'}")
    return done.stdout.decode("utf-8", "replace")
