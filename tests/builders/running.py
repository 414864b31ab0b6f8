"""The command as a user runs it: in this process (the fixture `run` of conftest.py), or in a
Python of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
TOOL = str(ROOT / "tools" / "xen-hvmctx.py")


class Said(NamedTuple):
    out: str
    err: str


class Result(NamedTuple):
    """An exit status, and what was said on stdout and stderr."""

    status: int
    said: Said

    @property
    def out(self) -> str:
        return self.said.out

    @property
    def err(self) -> str:
        return self.said.err


Run = Callable[..., Result]


def bare(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A Python without site packages, as on a dom0."""
    return subprocess.run(
        [sys.executable, "-I", "-S", TOOL, *map(str, arguments)], input=stdin, capture_output=True,
        check=False,
    )  # fmt: skip


def no_disposition_of_ours() -> None:
    """A child starts with the usual dispositions, whatever nohup or a CI has ignored."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
