"""Processes that each call a function of hvmctx. They import what this one would, but nothing
from the working directory; and where one dies, all end.

multiprocessing does neither: it starts Python with the working directory first in `sys.path`,
and its pool puts another process in the place of one that died, for ever.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time

from hvmctx.errors import HvmctxError, InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import IO

    Argument = str | int | float | None

__all__ = ["Workers", "import_path", "work"]

_PATIENCE = 5.0
"""Seconds that a worker has to end when it is told to."""
_POLL = 0.05
_TOLD = 4096
"""Bytes at the end of a worker's standard error, whose last line is told."""


def import_path() -> list[str]:
    """`sys.path` without the working directory, unless hvmctx itself was imported from there."""
    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    try:
        here = os.path.realpath(os.curdir)
    except OSError:  # it is gone
        here = ""
    entries = [os.path.realpath(entry) for entry in sys.path if os.path.isabs(entry)]
    kept = [entry for entry in entries if entry == ours or entry != here]
    return kept if ours in kept else [*kept, ours]


class Workers:
    """A worker for each tuple of arguments. They end with the `with` block, or with Ctrl-C,
    at the latest."""

    def __init__(
        self, function: Callable[..., None], calls: Sequence[tuple[Argument, ...]]
    ) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._said: list[IO[bytes]] = []
        # Ctrl-C reaches every process of the terminal. It is for this one, which tells the
        # others, and not before all are known: they inherit that it is blocked.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            for arguments in calls:
                self._start(
                    f"import sys; sys.path[:] = {import_path()!r}; "
                    f"from hvmctx.fuzz.workers import work; "
                    f"work({function.__module__!r}, {function.__name__!r}, {arguments!r})"
                )
        except OSError as error:
            self._end()
            raise InputError(f"cannot start another process: {error.strerror}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _start(self, code: str) -> None:
        said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end
        self._said.append(said)
        # -I: the path above is all there is, whatever PYTHONPATH says; Python 3.10 has no -P
        self._processes.append(
            subprocess.Popen(
                [sys.executable, "-I", "-c", code], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=said,
            )
        )  # fmt: skip

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def pids(self) -> list[int]:
        """The process ids of all workers."""
        return [process.pid for process in self._processes]

    def wait(self, seconds: float) -> bool:
        """Whether all are done, after so many seconds at most. Raises InputError if one has
        failed."""
        end = time.monotonic() + seconds
        while True:
            statuses = [process.poll() for process in self._processes]
            for number, status in enumerate(statuses):
                if status:
                    raise InputError(f"worker {number} of {len(statuses)} {self._how(number)}")
            if None not in statuses:
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL)

    def _how(self, number: int) -> str:
        status = self._processes[number].returncode
        if status < 0:
            return f"was killed by signal {-status}"
        said = self._said[number]
        said.seek(max(0, said.seek(0, os.SEEK_END) - _TOLD))
        lines = said.read().decode("utf-8", "backslashreplace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        return f"failed: {last or f'exit status {status}'}"

    def _end(self) -> None:
        """Tell each to end; kill those that do not, all of them after another Ctrl-C."""
        try:
            for process in self._processes:
                process.terminate()
            end = time.monotonic() + _PATIENCE
            while any(process.poll() is None for process in self._processes):
                if time.monotonic() >= end:
                    break
                time.sleep(_POLL)
        finally:
            for process in self._processes:
                process.kill()
                process.wait()
            for said in self._said:
                said.close()


def work(module: str, name: str, arguments: tuple[Argument, ...]) -> None:
    """What a worker runs. Being told to end is a KeyboardInterrupt."""
    from importlib import import_module

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    function = getattr(import_module(module), name)
    try:
        function(*arguments)
    except HvmctxError as error:
        sys.exit(str(error))
