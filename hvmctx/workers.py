"""Processes that each call a function of hvmctx. They import what this one would, but nothing
from the working directory.

`Workers` make one call each, and where one dies, all end. A `Pool` has many questions answered:
one that dies is replaced, what it had been asked is asked again, and what kills it twice is told.

multiprocessing does none of this: it starts Python with the working directory first in `sys.path`,
and its pool puts another process in the place of one that died, for ever, and forgets what that
one had.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress

from hvmctx.errors import HvmctxError, InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, Protocol

    Argument = str | int | float | None
    Function = Callable[..., Any]
    Answered = tuple[Any, Any, str]
    """A question and its answer; or None, and how the worker died of it."""

    class Asked(Protocol):
        """Who answers questions."""

        @property
        def free(self) -> int: ...
        def ask(self, question: Any, /) -> None: ...
        def next(self) -> Answered: ...


__all__ = ["CAN_START", "Pool", "Workers", "answer", "answered", "import_path", "work"]

CAN_START = hasattr(signal, "pthread_sigmask")
"""Whether there can be workers."""
_PATIENCE = 5.0
"""Seconds that a worker has to end when it is told to."""
_POLL = 0.05
_TOLD = 4096
"""Bytes at the end of a worker's standard error, whose last line is told."""


def import_path() -> list[str]:
    """`sys.path` without the working directory, unless hvmctx itself was imported from there."""
    ours = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    try:
        here = os.path.realpath(os.curdir)
    except OSError:  # it is gone
        here = ""
    entries = [os.path.realpath(entry) for entry in sys.path if os.path.isabs(entry)]
    kept = [entry for entry in entries if entry == ours or entry != here]
    return kept if ours in kept else [*kept, ours]


class _Process:
    """A process of this interpreter, in which `run` of this module calls a function."""

    def __init__(
        self, run: str, function: Function, arguments: tuple[Argument, ...], *, asked: bool = False
    ) -> None:
        """With pipes to and from it if it is `asked`. Raises InputError."""
        code = (
            f"import sys; sys.path[:] = {import_path()!r}; from {__name__} import {run}; "
            f"{run}({function.__module__!r}, {function.__name__!r}, {arguments!r})"
        )
        pipe = subprocess.PIPE if asked else subprocess.DEVNULL
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
        try:
            # -I: the path above is all there is, whatever PYTHONPATH says; Python 3.10 has no -P
            self.popen = subprocess.Popen(
                [sys.executable, "-I", "-c", code], stdin=pipe, stdout=pipe, stderr=self._said
            )
        except OSError as error:
            self._said.close()
            raise InputError(f"cannot start another process: {error.strerror}") from error

    @property
    def how(self) -> str:
        """What became of it, once it has ended."""
        status = self.popen.returncode
        if status < 0:
            return f"was killed by signal {-status}"
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _TOLD))
        lines = self._said.read().decode("utf-8", "backslashreplace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        return f"failed: {last or f'exit status {status}'}"

    def tell(self, plain: Any) -> None:
        """Write a line to it. Whether it has died is seen where it should answer."""
        pipe = self.popen.stdin
        if pipe is not None:
            with suppress(OSError):
                pipe.write(json.dumps(plain).encode() + b"\n")
                pipe.flush()

    def close(self) -> None:
        """Kill it, if it has not ended."""
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with suppress(OSError):  # a question that nobody will read
                    pipe.close()
        self._said.close()


class _Processes:
    """Several. They end with the `with` block, or with Ctrl-C, at the latest."""

    def __init__(self) -> None:
        self._processes: list[_Process] = []

    def _start(
        self, run: str, function: Function, calls: Iterable[tuple[Argument, ...]],
        *, asked: bool = False,
    ) -> None:  # fmt: skip
        """One more for each tuple of arguments. Raises InputError, also where the system has no
        signals that can be blocked, nor pipes that can be waited for: on Windows."""
        if not CAN_START:
            raise InputError("this system cannot run several processes at once")
        # Ctrl-C reaches every process of the terminal. It is for this one, which tells the
        # others, and not before all are known: they inherit that it is blocked.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            for arguments in calls:
                self._processes.append(_Process(run, function, arguments, asked=asked))
        except InputError:
            self._end()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def pids(self) -> list[int]:
        """The process ids of all workers."""
        return [process.popen.pid for process in self._processes]

    def _end(self) -> None:
        """Tell each to end; kill those that do not, all of them after another Ctrl-C."""
        try:
            for process in self._processes:
                process.popen.terminate()
            end = time.monotonic() + _PATIENCE
            while any(process.popen.poll() is None for process in self._processes):
                if time.monotonic() >= end:
                    break
                time.sleep(_POLL)
        finally:
            for process in self._processes:
                process.close()


class Workers(_Processes):
    """A worker for each tuple of arguments, which calls the function with them."""

    def __init__(self, function: Function, calls: Sequence[tuple[Argument, ...]]) -> None:
        super().__init__()
        self._start("work", function, calls)

    def __enter__(self) -> Workers:
        return self

    def wait(self, seconds: float) -> bool:
        """Whether all are done, after so many seconds at most. Raises InputError if one has
        failed."""
        end = time.monotonic() + seconds
        while True:
            statuses = [process.popen.poll() for process in self._processes]
            for number, status in enumerate(statuses):
                if status:
                    how = self._processes[number].how
                    raise InputError(f"worker {number} of {len(statuses)} {how}")
            if None not in statuses:
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL)


def work(module: str, name: str, arguments: tuple[Argument, ...]) -> None:
    """What a worker runs. Being told to end is a KeyboardInterrupt."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    function = _function(module, name)
    try:
        function(*arguments)
    except HvmctxError as error:
        sys.exit(str(error))


def _function(module: str, name: str) -> Function:
    from importlib import import_module

    function: Function = getattr(import_module(module), name)
    return function


class Pool(_Processes):
    """Workers that are asked, each one thing at a time: `function(setting, question)` gives the
    answer. Setting, questions and answers are what JSON has. As for `answered`."""

    def __init__(self, function: Function, setting: Any, jobs: int) -> None:
        super().__init__()
        self._function = function
        self._setting = setting
        self._asked: dict[_Process, Any] = {}
        self._ready: set[_Process] = set()
        self._start("answer", function, [()] * jobs, asked=True)

    def __enter__(self) -> Pool:
        return self

    @property
    def free(self) -> int:
        """How many questions can be asked now."""
        return len(self._processes) - len(self._asked)

    def ask(self, question: Any) -> None:
        """Ask one that is free."""
        process = next(process for process in self._processes if process not in self._asked)
        self._asked[process] = question
        process.tell(question if process in self._ready else self._setting)

    def next(self) -> Answered:
        """Wait for an answer. Raises InputError if a worker cannot begin."""
        while True:
            pipes = {pipe: each for each in self._asked if (pipe := each.popen.stdout) is not None}
            for pipe in select.select(list(pipes), [], [])[0]:
                process, line = pipes[pipe], pipe.readline()
                if not line.endswith(b"\n"):
                    return self._dead(process)
                if process in self._ready:
                    return self._asked.pop(process), json.loads(line), ""
                self._ready.add(process)
                process.tell(self._asked[process])

    def _dead(self, process: _Process) -> Answered:
        """Put another one in its place."""
        process.popen.wait()
        how = process.how
        if process not in self._ready and process.popen.returncode > 0:
            raise InputError(f"a worker {how}")
        self._ready.discard(process)
        self._processes.remove(process)
        process.close()
        self._start("answer", self._function, [()], asked=True)
        return self._asked.pop(process), None, how


def answer(module: str, name: str, _: tuple[Argument, ...]) -> None:
    """What a worker of a pool runs: one line for each that it reads; to the first, the setting, an
    empty one. It ends with its standard input: when nobody is left to ask."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.set_threshold(50_000)  # as `cli` does
    function = _function(module, name)
    # what other packages print is no answer
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    setting = json.loads(sys.stdin.buffer.readline() or "null")
    out.write(b"\n")
    out.flush()
    for line in sys.stdin.buffer:
        out.write(json.dumps(function(setting, json.loads(line))).encode() + b"\n")
        out.flush()


def answered(asked: Asked, questions: Iterable[Sequence[Any]]) -> Iterator[tuple[Any, Any, str]]:
    """Have lists of questions answered: each one as it is answered, with its answer; or with None,
    and how the worker died of it, for the second time, with nobody else at work who might be the
    one to blame."""
    waiting = iter(questions)
    again: deque[Sequence[Any]] = deque()
    suspects: deque[Any] = deque()
    tried: set[Any] = set()
    pending = 0
    while True:
        while asked.free > 0:
            some = again.popleft() if again else next(waiting, None)
            if some is None:
                break
            asked.ask(some)
            pending += 1
        if not pending:
            if not suspects:
                return
            asked.ask([suspects.popleft()])
            pending = 1
        some, answers, how = asked.next()
        pending -= 1
        if answers is not None:
            yield from ((each, said, "") for each, said in zip(some, answers))
        elif len(some) > 1:
            again.extend([each] for each in some)
        elif some[0] not in tried:
            tried.add(some[0])
            suspects.append(some[0])
        else:
            yield some[0], None, how
