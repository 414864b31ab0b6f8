"""The model against another loader: our own C reference, or any program that takes a file
and says by its exit status whether it would restore it. A disagreement is minimised and
saved with a report."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile

from hvmctx.abi.fields import Layout
from hvmctx.abi.streams import GUEST_X86_HVM
from hvmctx.abi.vmport import VmportProfile
from hvmctx.context.vmport import Parts, as_text
from hvmctx.errors import InputError
from hvmctx.files.output import replacing
from hvmctx.fuzz.minimise import minimise, simpler_contexts, simpler_vmport
from hvmctx.fuzz.reference import Reference
from hvmctx.fuzz.vmport import random_record
from hvmctx.restore.context import load
from hvmctx.restore.vmport import Refused, Restored, restore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from hvmctx.abi.releases import Release
    from hvmctx.restore.guest import Guest
    from hvmctx.restore.machine import Machine

__all__ = [
    "Command", "Disagreement", "compare_command", "compare_vmport", "context_model",
    "stream_model", "vmport_report", "vmport_verdict",
]  # fmt: skip

_AT_ONCE = 2000
_TRIES = 400
"""Runs of the other program to minimise a disagreement."""
ACCEPTED, REFUSED = "accept", "refuse"


def vmport_verdict(record: bytes, profile: VmportProfile) -> str:
    """The model's verdict in the words of the C reference."""
    outcome = restore(record, profile)
    if isinstance(outcome, Refused):
        return f"errno {outcome.errno}"
    if isinstance(outcome, Restored):
        return f"ok {outcome.slots} {outcome.jumbo_slots}"
    return "violation"


class Disagreement:
    """An input on which the two differ, minimised; what each says of it; and a report."""

    def __init__(self, data: bytes, ours: str, theirs: str, report: str) -> None:
        self.data = data
        self.ours = ours
        self.theirs = theirs
        self.report = report

    def save(self, directory: str, name: str) -> str:
        """Write NAME.bin and NAME.txt. Returns the path of the first."""
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, f"{name}.bin")
        with replacing(path, force=True) as out:
            out.write(self.data)
        with replacing(os.path.join(directory, f"{name}.txt"), force=True) as out:
            out.write(self.report.encode())
        return path


def compare_vmport(
    reference: Reference, count: int, rng: Random, profile: VmportProfile
) -> Disagreement | None:
    """Try `count` records of `fuzz.vmport` on the C reference. Returns the first disagreement."""
    done = 0
    while done < count:
        records = [random_record(rng, profile) for _ in range(min(_AT_ONCE, count - done))]
        for record, theirs in zip(records, reference.verdicts(records, profile)):
            ours = vmport_verdict(record, profile)
            if ours != theirs:
                return _minimal_vmport(record, reference, profile)
        done += len(records)
    return None


def _minimal_vmport(record: bytes, reference: Reference, profile: VmportProfile) -> Disagreement:
    def said(data: bytes) -> tuple[str, str]:
        return vmport_verdict(data, profile), reference.verdicts([data], profile)[0]

    def kinds(data: bytes) -> list[str]:
        return [verdict.split()[0] for verdict in said(data)]

    first = kinds(record)
    data = minimise(record, lambda d: kinds(d) == first, simpler_vmport(profile), tries=_TRIES)
    ours, theirs = said(data)
    return Disagreement(data, ours, theirs, vmport_report(data, ours, theirs, profile))


def vmport_report(record: bytes, ours: str, theirs: str, profile: VmportProfile) -> str:
    """The record in hex with the names of its fields, both verdicts, and the rule."""
    outcome = restore(record, profile)
    rule = "" if isinstance(outcome, Restored) else f" [{outcome.rule}]"
    lines = [f"model:     {ours}{rule}", f"reference: {theirs}", ""]
    lines.append(f"descriptor {record[:8].hex()}")
    body = record[8:]
    if len(body) < profile.fixed_size:
        return "\n".join([*lines, f"body {body.hex()}", ""])
    for path in Layout.of(profile.packed).paths():
        slot = Layout.of(profile.packed).locate(path)
        held = body[slot.offset : slot.offset + slot.size]
        if any(held):
            lines.append(f"{slot.offset:5}  {path} = {held.hex()}")
    parts = Parts(body, profile)
    lines += [f"{start:5}  buffer, {there} bytes: {body[start : start + min(there, 32)].hex()}"
              for start, there in parts.buffers if there]  # fmt: skip
    for entry in parts.entries:
        kind = "jumbo " if entry.jumbo else ""
        value = f"{as_text(entry.value[:40])} ({len(entry.value)})"
        lines.append(f"{entry.start:5}  {kind}{as_text(entry.key)} = {value}")
    lines.append(f"{parts.end:5}  rest: {body[parts.end : parts.end + 64].hex()}")
    return "\n".join([*lines, ""])


class Command:
    """A program that takes a file, and whose exit status 0 says that it would restore it.
    `{}` in the command stands for the file, which otherwise is its last argument."""

    def __init__(self, command: str, *, timeout: float = 60) -> None:
        """Raises InputError for words that are not a command line."""
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise InputError(f"{command}: not a command: {error}") from None
        if not self._words:
            raise InputError("no command to compare with")
        if "{}" not in self._words:
            self._words.append("{}")
        self._timeout = timeout

    def verdict(self, data: bytes) -> str:
        """accept or refuse; `signal N` or `timeout` if it is killed or does not end. Raises
        InputError if it cannot be run."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            words = [file.name if word == "{}" else word for word in self._words]
            try:
                done = subprocess.run(
                    words, capture_output=True, stdin=subprocess.DEVNULL, check=False,
                    timeout=self._timeout,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return "timeout"
            except OSError as error:
                raise InputError(f"{words[0]}: {error.strerror}") from error
        if done.returncode < 0:
            return f"signal {-done.returncode}"
        return ACCEPTED if done.returncode == 0 else REFUSED


def compare_command(
    command: Command, inputs: Iterable[bytes], model: Callable[[bytes], str], *, contexts: bool
) -> Disagreement | None:
    """Try each input on a program. Returns the first disagreement."""

    def said(data: bytes) -> tuple[str, str]:
        return model(data), command.verdict(data)

    for data in inputs:
        first = said(data)
        if first[0] != first[1]:
            simpler = simpler_contexts if contexts else None
            small = minimise(data, lambda d, f=first: said(d) == f, simpler, tries=_TRIES)  # type: ignore[misc]
            report = f"model:   {first[0]}\nprogram: {first[1]}\n\n{small.hex(' ', 16)}\n"
            return Disagreement(small, *first, report)
    return None


def context_model(
    release: Release, guest: Guest, machine: Machine | None = None
) -> Callable[[bytes], str]:
    """A model that says accept or refuse: of a load into this guest on this machine."""
    return lambda data: ACCEPTED if load(data, release, guest, machine).accepted else REFUSED


def stream_model(release: Release, _: Guest, __: Machine | None = None) -> Callable[[bytes], str]:
    """A model that says accept or refuse: of the toolstack's readers alone."""
    from hvmctx.errors import HvmctxError
    from hvmctx.image.image import open_image
    from hvmctx.restore.stream import judge
    from hvmctx.stream.reader import LIBXC

    def model(data: bytes) -> str:
        try:
            with open_image(data, layer=LIBXC) as image:
                refusal = judge(image, release, kind=GUEST_X86_HVM)
        except HvmctxError:
            return REFUSED
        return ACCEPTED if refusal is None else REFUSED

    return model
