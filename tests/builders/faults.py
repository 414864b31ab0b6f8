"""Faults while a command writes: it is killed at its n-th call that changes a file, or the disk
is full from then on, or a signal comes; for n = 1, 2, ... until the command gets through. A
command runs in a child that is forked, so that a case takes milliseconds.
"""

from __future__ import annotations

import errno
import gc
import io
import mmap
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple, NoReturn
from unittest.mock import patch

from hvmctx.abi import streams
from hvmctx.cli import main
from hvmctx.files.output import is_temporary
from hvmctx.live import domain
from tests.builders.samples import DATA, EXAMPLE, context_bytes
from tests.builders.streams import libxc_stream, page_data, record

KILL, FULL, SMALL = "kill", "disk full", "small disk"
SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}
FAULTS = (KILL, FULL, *SIGNALS)
_KILLED = 137
_MOST_STEPS = 500


class Outcome(NamedTuple):
    """`status` is the exit status, or minus the number of a signal; `steps` how many calls that
    change files there were."""

    status: int
    steps: int
    err: str


def run_with(arguments: Sequence[object], fault: str = "", at: int = 0) -> Outcome:
    """Run hvmctx in a child, with a fault at call number `at`, counted from 1."""
    steps = mmap.mmap(-1, 8)  # shared with the child
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            _be_the_child(
                [str(word) for word in arguments], _Fault(fault, at, steps), said.fileno()
            )
        _, status = os.waitpid(child, 0)
        said.seek(0)
        err = said.read().decode(errors="replace")
    return Outcome(os.waitstatus_to_exitcode(status), int.from_bytes(steps[:8], "little"), err)


def _be_the_child(arguments: list[str], fault: _Fault, said: int) -> NoReturn:
    status = 70
    try:
        gc.disable()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        sys.stderr = io.TextIOWrapper(io.FileIO(said, "w", closefd=False), write_through=True)
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the end
        fault.install()
        status = main(arguments)
    except SystemExit as ending:
        status = int(ending.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


_CALLS = (
    "copy_file_range", "fchmod", "fchown", "fsync", "ftruncate", "link", "mkdir", "open", "pwrite",
    "rename", "replace", "truncate", "unlink", "write", "writev",
)  # fmt: skip
_NEEDS_ROOM = {"copy_file_range", "link", "mkdir", "open", "rename", "replace"}


class _Fault:
    """Counts calls, and lets one of them be the last, or fail, or be disturbed."""

    def __init__(self, fault: str, at: int, steps: mmap.mmap) -> None:
        self._fault = fault
        self._at = at
        self._count = 0
        self._steps = steps
        self._process = 0

    def install(self) -> None:
        self._process = os.getpid()
        for name in _CALLS:
            setattr(os, name, self._watched(name, getattr(os, name)))
        fdopen = os.fdopen

        def opened(fd: int, mode: str = "r", *rest: Any, **how: Any) -> Any:
            if mode != "w+b":
                return fdopen(fd, mode, *rest, **how)
            raw = _File(fd, "w+")
            raw.fault = self
            return io.BufferedRandom(raw)

        os.fdopen = opened

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            if name == "open" and not arguments[1] & os.O_CREAT:
                return call(*arguments, **options)
            if name == "write" and stat.S_ISFIFO(os.fstat(arguments[0]).st_mode):
                self.step(False)  # of its own length, or not at all; and no disk
                return call(*arguments)
            if name in ("write", "pwrite"):
                return self.write(
                    lambda part: call(arguments[0], part, *arguments[2:]), arguments[1]
                )
            if name == "writev":
                whole = b"".join(bytes(part) for part in arguments[1])
                return self.write(lambda part: call(arguments[0], [part]), whole)
            self.step(name in _NEEDS_ROOM)
            return call(*arguments, **options)

        return watched

    def write(self, call: Callable[[bytes], int], data: Any) -> int:
        """Half of the data are written when it comes to it."""
        half = bytes(data)[: len(data) // 2]
        if (
            os.getpid() == self._process
            and self._count + 1 == self._at
            and half
            and self._fault in (KILL, FULL)
        ):
            done = call(half)
            self.step(False)
            return done
        self.step(True)
        return call(bytes(data))

    def step(self, needs_room: bool) -> None:
        if os.getpid() != self._process:  # what it has forked is not disturbed
            return
        self._count += 1
        self._steps[:8] = self._count.to_bytes(8, "little")
        if self._fault == FULL and self._count >= self._at and needs_room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._count == self._at:
            if self._fault == KILL:
                os._exit(_KILLED)
            if self._fault in SIGNALS:
                os.kill(os.getpid(), SIGNALS[self._fault])


class _File(io.FileIO):
    fault: _Fault

    def write(self, data: Any) -> int:
        return self.fault.write(super().write, data)

    def truncate(self, size: int | None = None) -> int:
        self.fault.step(False)
        return super().truncate(size)


class Writing(NamedTuple):
    """A command that writes. What it needs is in a directory of its own; `-o` is missing."""

    arguments: tuple[object, ...]
    is_directory: bool = False
    guest: RunningGuest | None = None


class RunningGuest:
    """A guest for `save`: the stand-in of tests/live, whose libraries are compiled when it is
    needed. They stay mapped, so that they are in no file system that is to be unmounted."""

    def start(self) -> None:
        """As it was in the beginning."""
        from tests.builders.standin import StandIn, library

        if not hasattr(self, "_place"):
            self._kept = tempfile.TemporaryDirectory()
            self._place = Path(self._kept.name)
        self._made = made = StandIn(self._place / "guest")
        made.state.writes = 1
        os.environ.update(made.environment(library(self._place / "libraries")))

    def check(self, *, there: bool, where: str) -> None:
        """It runs, and nothing of what it writes is logged. If the file is `there`, which is
        whole, it may be paused, as after a save. The keeper of a process that was killed has
        some seconds."""
        from tests.builders.standin import HAP, HVM, PAUSED

        state = self._made.state
        ends = {HVM | HAP, HVM | HAP | PAUSED} if there else {HVM | HAP}
        for _ in range(1000):
            if state.flags in ends and not state.logging:
                return
            time.sleep(0.01)
        raise AssertionError(f"{where}: flags {state.flags:#x}, logging {state.logging}")


def writing_commands(place: Path) -> dict[str, Writing]:
    """All of them. `place` is a directory for what they read."""
    image, stream, legacy = place / "image", place / "stream", place / "legacy"
    pages = place / "pages"
    context = record(streams.LIBXC_HVM_CONTEXT, context_bytes())
    pages.write_bytes(libxc_stream(page_data(*range(100)), context))
    shutil.copy(EXAMPLE, image)
    shutil.copy(DATA / "streams" / "13-one-page.xc", stream)
    shutil.copy(DATA / "streams" / "legacy_hvm_w64.in.bin", legacy)
    for what, source, name in (
        (("extract",), image, "context"),
        (("extract", "--what", "record:CPU/0"), image, "cpu"),
        (("extract", "--what", "memory"), stream, "memory"),
        (("to-json",), image, "json"),
    ):
        arguments = [what[0], source, *what[1:], "-o", place / name]
        assert main([str(word) for word in arguments]) == 0
    generate = ("fuzz", "generate", "--release", "4.17", "--vcpus", 1, "--count", 3)
    save = ("save", 7, "--live", "--stream", "libxc")
    return {
        "extract": Writing(("extract", image)),
        "extract emulator": Writing(("extract", image, "--what", "emulator")),
        "extract record": Writing(("extract", image, "--what", "record:CPU/0")),
        "extract memory": Writing(("extract", stream, "--what", "memory")),
        "extract core": Writing(("extract", stream, "--what", "memory", "--format", "elf")),
        "set": Writing(("set", image, "CPU.rax=1")),
        "set parameter": Writing(("set", image, "HVM_PARAMS.STORE_PFN=0xfeffc")),
        "set among pages": Writing(("set", pages, "CPU.rax=1")),
        "set in a context": Writing(("set", place / "context", "CPU.rax=1")),
        "replace": Writing(("replace", image, place / "context")),
        "replace record": Writing(
            ("replace", image, place / "cpu", "--what", "record:CPU/0")
        ),
        "strip": Writing(("strip", image)),
        "strip stream": Writing(("strip", stream)),
        "to-json": Writing(("to-json", image)),
        "from-json": Writing(("from-json", place / "json")),
        "build": Writing(("build", "--base", image)),
        "build of memory": Writing(("build", "--memory", place / "memory", "--vcpus", 1)),
        "convert": Writing(("convert", legacy)),
        "convert to libxc": Writing(("convert", legacy, "--format", "libxc")),
        "fuzz generate": Writing((*generate, "--base", image), is_directory=True),
        **({"save": Writing(save, guest=RunningGuest())} if which("gcc") else {}),
    }  # fmt: skip


class Torture:
    """Commands with faults, in a directory. `cases` counts them, by command and fault."""

    def __init__(self, place: Path) -> None:
        self._inputs, self._out = place / "inputs", place / "out"
        self._inputs.mkdir()
        self.commands = writing_commands(self._inputs)
        self._before = dict(_contents(self._inputs))
        self._wholes: dict[str, dict[str, bytes]] = {}
        self.cases: Counter[tuple[str, str]] = Counter()

    def run(self, name: str, fault: str, *, replaces: bool = False) -> int:
        """One command with one fault, at every call; AssertionError where a file is not what
        it was, nor what it should become. `replaces` has a file there already. Returns the
        number of cases."""
        command = self.commands[name]
        whole = self._whole(name)
        for at in range(1, _MOST_STEPS):
            old = self._start(replaces)
            outcome = self._run(command, replaces, fault, at)
            where = f"{name}, {fault} at call {at}: {outcome}"
            if outcome.steps < at:
                assert (outcome.status, dict(_contents(self._out))) == (0, whole), where
                return at - 1
            self.cases[name, fault] += 1
            self._check(outcome, fault, old, whole, where)
            if command.guest is not None:
                there = dict(_contents(self._out)).get("file") == whole["file"]
                command.guest.check(there=there, where=where)
            if fault == KILL and not command.is_directory:
                again = self._run(command, True)
                assert (again.status, dict(_contents(self._out))) == (0, whole), (where, again)
            assert dict(_contents(self._inputs)) == self._before, where
        raise AssertionError(f"{name}: more than {_MOST_STEPS} calls")

    def run_in(self, room: int, name: str) -> Outcome:
        """One command in a file system of its own with so many bytes (root only)."""
        self._start(True)
        whole = self._whole(name)
        with file_system("tmpfs", self._out, f"size={room}"):
            (self._out / "file").write_bytes(b"old")
            outcome = self._run(self.commands[name], True)
            self.cases[name, SMALL] += 1
            where = f"{name} in {room} bytes: {outcome}"
            self._check(outcome, FULL, {"file": b"old"}, whole, where)
        return outcome

    def _run(self, command: Writing, replaces: bool, fault: str = "", at: int = 0) -> Outcome:
        if command.guest is not None:
            command.guest.start()
        with patch.object(domain, "PATIENCE", 0.1):  # this guest suspends at once
            return run_with(self._line(command, replaces), fault, at)

    def _line(self, command: Writing, replaces: bool) -> list[object]:
        if command.is_directory:
            return [*command.arguments, "-o", self._out]
        return [*command.arguments, "-o", self._out / "file", *(["--force"] if replaces else [])]

    def _start(self, replaces: bool) -> dict[str, bytes]:
        """An empty directory, or one with an older file."""
        shutil.rmtree(self._out, ignore_errors=True)
        self._out.mkdir()
        if replaces:
            (self._out / "file").write_bytes(b"old")
        return dict(_contents(self._out))

    def _whole(self, name: str) -> dict[str, bytes]:
        """What there is if nothing happens. It happens in this process, which then has the
        modules that the children need."""
        if name not in self._wholes:
            self._start(False)
            command = self.commands[name]
            if command.guest is not None:
                command.guest.start()
            with redirect_stderr(io.StringIO()):
                assert main([str(word) for word in self._line(command, False)]) == 0
            self._wholes[name] = dict(_contents(self._out))
        return self._wholes[name]

    def _check(
        self,
        outcome: Outcome,
        fault: str,
        old: dict[str, bytes],
        whole: dict[str, bytes],
        where: str,
    ) -> None:
        there = dict(_contents(self._out))
        left = [name for name in there if is_temporary(name)]
        for name in left:
            del there[name]
        for name, data in there.items():
            assert data in (old.get(name), whole.get(name)), where
        assert old.keys() <= there.keys(), where
        if fault == KILL:
            assert outcome.status == _KILLED and len(left) <= 1, where
            return
        assert not left, where
        if outcome.status == 0:
            assert there == whole, where
        elif fault == FULL:
            assert outcome.status == 1 and "Traceback" not in outcome.err, where
            assert outcome.err.splitlines()[-1].endswith(": No space left on device"), where
        else:
            number = SIGNALS[fault]
            assert outcome.status in (128 + number, -number), where


@contextmanager
def file_system(kind: str, place: Path, options: str = "") -> Iterator[Path]:
    """An empty tmpfs, or ext4 in a file, at a directory. For users other than root, who may not
    mount, it is a directory of that kind if the system has one at a usual place."""
    if os.geteuid() != 0:
        usual = {"tmpfs": Path("/dev/shm")}.get(kind, place)
        with tempfile.TemporaryDirectory(dir=usual) as directory:
            yield Path(directory)
        return
    device, words = kind, ["-t", kind, *(["-o", options] if options else [])]
    if kind == "ext4":
        device = f"{place}.{kind}"
        with open(device, "wb") as file:
            file.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", device], check=True)
        words = ["-o", "loop"]
    subprocess.run(["mount", *words, device, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def _contents(place: Path) -> Iterator[tuple[str, bytes]]:
    for path in place.iterdir():
        if path.is_file():  # and not ext4's lost+found
            yield path.name, path.read_bytes()
