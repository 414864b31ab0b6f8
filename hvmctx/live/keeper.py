"""A process that undoes what a save did to a guest if the process that saves is killed.

SIGKILL and a lack of memory leave no time for it. The keeper is forked before anything is done,
hears of every step over a pipe, and acts when the pipe ends and steps are left. It ignores the
signals of a terminal. It cannot help where it is killed too, or the machine goes down.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from hvmctx.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["Keeper"]


class Keeper:
    """Give its `tell` to a `DomainSource` as `done`; `close` it at the end."""

    def __init__(self, domid: int) -> None:
        """Raises InputError where the system cannot fork."""
        if not hasattr(os, "fork"):
            raise InputError("domains can only be saved on Linux or another Unix")
        reading, self._writing = os.pipe()
        self._child = os.fork()
        if not self._child:
            os.close(self._writing)
            _keep(domid, reading)
        os.close(reading)

    def tell(self, step: str, on: bool) -> None:
        """That a step is being taken, or has been undone."""
        with suppress(OSError):
            os.write(self._writing, f"{'+' if on else '-'}{step}\n".encode())

    def close(self) -> None:
        """Wait for it to end. What is not undone by now it undoes."""
        os.close(self._writing)
        with suppress(ChildProcessError):
            os.waitpid(self._child, 0)


def _keep(domid: int, reading: int) -> NoReturn:
    """The keeper's life. It keeps no file of its parent open."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.setsid()
        os.closerange(3, reading)
        os.closerange(reading + 1, 1 << 16)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        left: list[str] = []
        with open(reading, encoding="ascii") as told:
            for line in told:
                step = line[1:].rstrip("\n")
                if line[0] == "-":
                    left = [name for name in left if name != step]
                elif step not in left:
                    left.append(step)
        if left:
            _undo(domid, left)
        status = 0
    finally:
        os._exit(status)


def _undo(domid: int, steps: list[str]) -> None:
    from hvmctx.live.domain import PATIENCE, undo
    from hvmctx.live.libraries import XenError
    from hvmctx.live.xen import Xen

    with Xen() as xen:
        for step in reversed(steps):
            with suppress(XenError):
                undo(xen, domid, step, PATIENCE)
