"""The model against another loader: the C reference, a loader in C of your own that speaks as it
does, or any program that takes a file and says by its exit status whether it would restore it.
A disagreement is minimised and saved with a report."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from itertools import islice

from hvmctx.abi.fields import Layout
from hvmctx.abi.streams import GUEST_X86_HVM
from hvmctx.abi.vmport import VmportProfile
from hvmctx.context.vmport import Parts, as_text
from hvmctx.errors import InputError
from hvmctx.files.output import replacing
from hvmctx.fuzz.minimise import minimise
from hvmctx.fuzz.reference import Reference
from hvmctx.restore.context import load
from hvmctx.restore.vmport import Refused, Restored, restore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from hvmctx.abi.releases import Release
    from hvmctx.restore.guest import Guest
    from hvmctx.restore.machine import Machine

    Model = Callable[[bytes], str]
    Simpler = Callable[[bytes], Iterator[bytes]]

__all__ = [
    "Command", "Disagreement", "Loader", "Source", "compare", "context_model", "stream_model",
    "vmport_model", "vmport_report", "vmport_verdict",
]  # fmt: skip

ACCEPTED, REFUSED, VIOLATION = "accept", "refuse", "violation"


def vmport_verdict(record: bytes, profile: VmportProfile) -> str:
    """The model's verdict in the words of the C reference."""
    outcome = restore(record, profile)
    if isinstance(outcome, Refused):
        return f"errno {outcome.errno}"
    if isinstance(outcome, Restored):
        return f"ok {outcome.slots} {outcome.jumbo_slots}"
    return VIOLATION


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


class Loader:
    """Another loader. `verdicts` gives what it says of each of these inputs. It is best given
    `at_once` of them; `tries` are runs to minimise a disagreement."""

    at_once = 1
    tries = 400

    def verdicts(self, inputs: Sequence[bytes]) -> list[str]:
        raise NotImplementedError


def compare(
    loader: Loader,
    inputs: Iterable[bytes],
    model: Model,
    *,
    simpler: Simpler | None = None,
    report: Callable[[bytes, str, str], str] | None = None,
) -> Disagreement | None:
    """Try each input on another loader. Returns the first disagreement, minimised with
    `simpler` (as of `minimise`), and told by `report` (by default, in hex)."""

    def said(data: bytes) -> tuple[str, str]:
        return model(data), loader.verdicts([data])[0]

    def kinds(ours: str, theirs: str) -> tuple[str, str]:
        return ours.partition(" ")[0], theirs.partition(" ")[0]

    left = iter(inputs)
    while some := list(islice(left, loader.at_once)):
        for data, verdict in zip(some, loader.verdicts(some)):
            ours = model(data)
            if ours == verdict:
                continue
            first = kinds(ours, verdict)

            def holds(d: bytes, first: tuple[str, str] = first) -> bool:
                return kinds(*said(d)) == first

            small = minimise(data, holds, simpler, tries=loader.tries)
            ours, theirs = said(small)
            return Disagreement(small, ours, theirs, (report or _in_hex)(small, ours, theirs))
    return None


def _in_hex(data: bytes, ours: str, theirs: str) -> str:
    return f"model: {ours}\nother: {theirs}\n\n{data.hex(' ', 16)}\n"


class Source(Loader):
    """A loader in C. Of VMPORT records (`profile`) the whole answers count, of contexts and
    images whether they are accepted, refused, or make it leave its memory."""

    at_once = tries = 2000

    def __init__(self, reference: Reference, profile: VmportProfile | None = None) -> None:
        self._reference = reference
        self._profile = profile

    def verdicts(self, inputs: Sequence[bytes]) -> list[str]:
        found = self._reference.verdicts(inputs, self._profile)
        if self._profile is not None:
            return found
        words = {"ok": ACCEPTED, "errno": REFUSED}
        return [words.get(said.partition(" ")[0], said) for said in found]


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


class Command(Loader):
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

    def verdicts(self, inputs: Sequence[bytes]) -> list[str]:
        return [self.verdict(data) for data in inputs]

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


def vmport_model(profile: VmportProfile) -> Model:
    """A model that says accept or refuse: of a VMPORT record. What the patch's loader would
    overrun its memory with is to be refused."""
    return lambda data: ACCEPTED if isinstance(restore(data, profile), Restored) else REFUSED


def context_model(release: Release, guest: Guest, machine: Machine | None = None) -> Model:
    """A model that says accept or refuse: of a load into this guest on this machine."""
    return lambda data: ACCEPTED if load(data, release, guest, machine).accepted else REFUSED


def stream_model(release: Release, _: Guest, __: Machine | None = None) -> Model:
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
