"""Second opinions in C, compiled when they are asked for: `vmport.c`, loader and writer of
the VMPORT patch, naive, under AddressSanitizer."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from typing import NamedTuple

from hvmctx.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hvmctx.abi.vmport import VmportProfile

__all__ = ["SOURCE", "UNLIMITED", "Case", "Reference"]

SOURCE = os.path.join(os.path.dirname(__file__), "vmport.c")
_FLAGS = ("-O1", "-Wall", "-Wno-unused-result", "-fsanitize=address,undefined")
_CRASHED = 86
"""The exit status of a sanitizer's abort, which no program has by chance."""
_QUIET = {
    "ASAN_OPTIONS": "detect_leaks=0:symbolize=0:print_legend=0:quarantine_size_mb=8:"
    f"exitcode={_CRASHED}"
}


UNLIMITED = 0xFFFFFFFF


class Case(NamedTuple):
    """What the loader is asked: a record (descriptor, body, whatever follows); the record
    that it loads before, b"" for none; for how many slots there is memory; and what is left of
    the context for the writer, which saves the state that the load leaves."""

    record: bytes
    over: bytes = b""
    memory: int = UNLIMITED
    room: int = UNLIMITED


class Reference:
    """The compiled loader and writer. `query`: it asks the sanitizer before each step, instead
    of being killed by it; the answers are the same, but also say where, and a hundred times as
    fast. `source` may be an altered copy, or another loader (`answers`)."""

    def __init__(self, directory: str, *, query: bool = True, source: str = SOURCE) -> None:
        """Compile into a directory. Raises InputError where there is no compiler."""
        compiler = shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise InputError("the C reference needs a compiler, gcc or clang")
        self._path = os.path.join(directory, f"vmport{'-query' if query else ''}")
        command = [compiler, *_FLAGS, *(("-DQUERY",) if query else ()), "-o", self._path, source]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            said = done.stderr.decode("utf-8", "backslashreplace").strip()[-300:]
            raise InputError(f"the C reference does not compile: {said}")

    def verdicts(self, cases: Sequence[Case], profile: VmportProfile) -> list[str]:
        """For each case `ok CURSOR SLOTS JUMBO_SLOTS STATE SAVED`, `errno NAME CURSOR` or
        `violation ASKED LIMIT SITE` (without `query` only the word). STATE is that of
        `fuzz.differential.state_text`, SAVED the writer's record in hex, or `full`."""
        constants = [
            profile.MAX_CHANS, profile.MAX_BKTS, profile.MAX_KEY_LEN, profile.MAX_VAL_LEN,
            profile.MAX_VAL_JUMBO_LEN, profile.MAX_NUM_KEY, profile.MAX_NUM_JUMBO_KEY,
            profile.SAVE_VERSION, profile.max_size,
        ]  # fmt: skip
        data = b"".join(
            struct.pack("<4I", len(case.record), len(case.over), case.memory, case.room)
            + case.over
            + case.record
            for case in cases
        )
        done = self._run(data, *map(str, constants))
        found = done.stdout.decode("ascii", "replace").splitlines()
        if done.returncode or len(found) != len(cases):
            raise _failed(found, done.stderr)
        return found

    def answers(self, inputs: Sequence[bytes]) -> list[str]:
        """What a loader that is told nothing but its inputs says of each: a line that starts
        with `ok`, `errno` or `violation`. One that crashes has left its memory."""
        data = b"".join(struct.pack("<I", len(one)) + one for one in inputs)
        done = self._run(data)
        if done.returncode == _CRASHED or done.returncode < 0:
            if len(inputs) == 1:
                return ["violation"]
            half = len(inputs) // 2  # what it has said so far may be lost in its buffer
            return self.answers(inputs[:half]) + self.answers(inputs[half:])
        found = done.stdout.decode("ascii", "replace").splitlines()
        if done.returncode or len(found) != len(inputs) or not all(map(_is_answer, found)):
            raise _failed(found, done.stderr)
        return found

    def _run(self, data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self._path, *arguments], input=data, capture_output=True, check=False,
            env={**os.environ, **_QUIET},
        )  # fmt: skip


def _is_answer(line: str) -> bool:
    return line.partition(" ")[0] in ("ok", "errno", "violation")


def _failed(found: list[str], stderr: bytes) -> InputError:
    said = stderr.decode("utf-8", "replace").strip()[-300:]
    return InputError(f"the C reference failed after {len(found)} records: {said}")
