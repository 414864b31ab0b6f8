"""Second opinions in C, compiled when they are asked for: `vmport_restore`, the loader of
the VMPORT patch, naive, under AddressSanitizer."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess

from hvmctx.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hvmctx.abi.vmport import VmportProfile

__all__ = ["SOURCE", "Reference"]

SOURCE = os.path.join(os.path.dirname(__file__), "vmport_restore.c")
_FLAGS = ("-O1", "-Wall", "-Wno-unused-result", "-fsanitize=address,undefined")
_CRASHED = 86
"""The exit status of a sanitizer's abort, which no program has by chance."""
_QUIET = {
    "ASAN_OPTIONS": "detect_leaks=0:symbolize=0:print_legend=0:quarantine_size_mb=8:"
    f"exitcode={_CRASHED}"
}


class Reference:
    """The compiled loader. `query`: it asks the sanitizer before each step, instead of being
    killed by it; the answers are the same, and a hundred times as fast. `source` may be
    an altered copy, or any loader that answers as this one does."""

    def __init__(self, directory: str, *, query: bool = True, source: str = SOURCE) -> None:
        """Compile into a directory. Raises InputError where there is no compiler."""
        compiler = shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise InputError("the C reference needs a compiler, gcc or clang")
        self._path = os.path.join(directory, f"loader{'-query' if query else ''}")
        command = [compiler, *_FLAGS, *(("-DQUERY",) if query else ()), "-o", self._path, source]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"the C reference does not compile: {done.stderr.strip()[-300:]}")

    def verdicts(self, records: Sequence[bytes], profile: VmportProfile | None = None) -> list[str]:
        """For each record `ok SLOTS JUMBO_SLOTS`, `errno NAME` or `violation`. Without a
        profile the loader gets no constants, and its records are contexts or whatever it loads;
        what follows `ok` is up to it. One that crashes has left its memory."""
        constants = [] if profile is None else [
            profile.MAX_CHANS, profile.MAX_BKTS, profile.MAX_KEY_LEN, profile.MAX_VAL_LEN,
            profile.MAX_VAL_JUMBO_LEN, profile.MAX_NUM_KEY, profile.MAX_NUM_JUMBO_KEY,
            profile.SAVE_VERSION, profile.max_size,
        ]  # fmt: skip
        return self._verdicts(records, [str(constant) for constant in constants])

    def _verdicts(self, records: Sequence[bytes], constants: list[str]) -> list[str]:
        data = b"".join(struct.pack("<I", len(record)) + record for record in records)
        done = subprocess.run(
            [self._path, *constants], input=data, capture_output=True, check=False,
            env={**os.environ, **_QUIET},
        )  # fmt: skip
        if done.returncode == _CRASHED or done.returncode < 0:
            if len(records) == 1:
                return ["violation"]
            half = len(records) // 2  # what it has said so far may be lost in its buffer
            return [
                verdict for part in (records[:half], records[half:])
                for verdict in self._verdicts(part, constants)
            ]  # fmt: skip
        found = done.stdout.decode("ascii", "replace").splitlines()
        if done.returncode or len(found) != len(records) or not all(map(_is_verdict, found)):
            said = done.stderr.decode("utf-8", "replace").strip()[-300:]
            raise InputError(f"the C reference failed after {len(found)} records: {said}")
        return found


def _is_verdict(line: str) -> bool:
    return line.partition(" ")[0] in ("ok", "errno", "violation")
