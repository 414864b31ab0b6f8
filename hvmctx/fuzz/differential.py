"""The model against another loader: the C reference of VMPORT, a loader in C of your own, or any
program that takes a file and says by its exit status whether it would restore it. A
disagreement is minimised and saved with a report."""

from __future__ import annotations

import os
import shlex
import struct
import subprocess
import tempfile
from itertools import islice

from hvmctx.abi.fields import Layout
from hvmctx.abi.streams import GUEST_X86_HVM
from hvmctx.abi.vmport import VmportProfile
from hvmctx.abi.x86 import DESCRIPTOR
from hvmctx.context.vmport import Parts, VmportState, descriptor, save
from hvmctx.context.vmport_slots import as_text
from hvmctx.errors import InputError
from hvmctx.files.output import replacing
from hvmctx.fuzz.minimise import minimise, simpler_vmport
from hvmctx.fuzz.reference import UNLIMITED, Case, Reference
from hvmctx.fuzz.vmport import random_record, random_state
from hvmctx.restore.context import load
from hvmctx.restore.vmport import Refused, Restored, Violation, restore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from random import Random

    from hvmctx.abi.releases import Release
    from hvmctx.restore.guest import Guest
    from hvmctx.restore.machine import Machine

    Model = Callable[[bytes], str]
    Simpler = Callable[[bytes], Iterator[bytes]]

__all__ = [
    "Command", "Disagreement", "Loader", "Source", "compare", "compare_vmport", "context_model",
    "random_case", "state_text", "stream_model", "vmport_model", "vmport_report",
    "vmport_verdict",
]  # fmt: skip

_AT_ONCE = 2000
_TRIES = 2000
"""Runs of the C reference to minimise a disagreement."""
ACCEPTED, REFUSED = "accept", "refuse"


def _outcome(case: Case, profile: VmportProfile) -> Refused | Restored | Violation:
    before = restore(case.over, profile) if case.over else None
    over = before.state if isinstance(before, Restored) else None
    memory = None if case.memory == UNLIMITED else case.memory
    return restore(case.record, profile, over=over, memory=memory)


def vmport_verdict(case: Case, profile: VmportProfile) -> str:
    """The model's verdict in the words of the C reference."""
    outcome = _outcome(case, profile)
    if isinstance(outcome, Refused):
        return f"errno {outcome.errno} {outcome.cursor}"
    if isinstance(outcome, Violation):
        return f"violation {outcome.asked} {outcome.limit} {outcome.site}"
    state = outcome.state
    saved = save(state, case.room, profile)
    return (
        f"ok {outcome.cursor} {outcome.slots} {outcome.jumbo_slots} {state_text(state)} "
        f"{'full' if saved is None else saved.hex()}"
    )


_CONTROL = struct.Struct("<QIIIHHBBB5s")


def state_text(state: VmportState) -> str:
    """All of a state, in hex: `ping_time` and `open_cookie`; of each channel its control as in
    a record, and the bytes of its send buffer; so of each of its buckets; of each slot with
    a key: jumbo or not, its number, the lengths of key and value, these two."""
    pieces = [struct.pack("<QI", state.ping_time, state.open_cookie)]
    for channel in state.channels:
        send = channel.send
        control = _CONTROL.pack(
            channel.active_time, channel.chan_id, channel.cookie, channel.proto_num,
            send.claimed(), send.index, channel.jumbo, channel.recv_read, channel.recv_write,
            channel.padding,
        )  # fmt: skip
        pieces += [control, send.data]
        for bucket in (*channel.recv, channel.jumbo_recv):
            pieces += [struct.pack("<HH", bucket.claimed(), bucket.index), bucket.data]
    for jumbo, slots in enumerate((state.guestinfo, state.guestinfo_jumbo)):
        for number, (key, value) in enumerate(slots):
            if key:
                head = struct.pack("<IIBH", jumbo, number, len(key), len(value))
                pieces += [head, key, value]
    return b"".join(pieces).hex()


def random_case(rng: Random, profile: VmportProfile) -> Case:
    """A record of `fuzz.vmport`; sometimes into a domain that has a state already, with little
    memory, or with hardly room for the writer."""
    case = Case(random_record(rng, profile))
    if rng.random() < 0.3:
        longest = DESCRIPTOR.size + profile.max_size
        case = case._replace(room=rng.choice((0, longest - 1, longest)))
    if rng.random() < 0.1:
        return case._replace(memory=rng.choice((0, 1, 9, 10, 11, 12, profile.MAX_NUM_KEY)))
    if rng.random() < 0.3:
        body = random_state(rng, profile).to_bytes(profile)
        over = descriptor(body) + body
        if isinstance(restore(over, profile), Restored):
            return case._replace(over=over)
    return case


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
    """Try `count` random cases on the C reference: verdict, first violation, the state that the
    load leaves, and what the writer makes of it. Returns the first disagreement."""
    done = 0
    while done < count:
        cases = [random_case(rng, profile) for _ in range(min(_AT_ONCE, count - done))]
        for case, theirs in zip(cases, reference.verdicts(cases, profile)):
            if vmport_verdict(case, profile) != theirs:
                return _minimal_vmport(case, reference, profile)
        done += len(cases)
    return None


def _minimal_vmport(case: Case, reference: Reference, profile: VmportProfile) -> Disagreement:
    def said(data: bytes) -> tuple[str, str]:
        tried = case._replace(record=data)
        return vmport_verdict(tried, profile), reference.verdicts([tried], profile)[0]

    def differs(data: bytes) -> str:
        """What kind of verdict ours is; "" where theirs is the same verdict."""
        ours, theirs = said(data)
        return "" if ours == theirs else ours.split()[0]

    first = differs(case.record)
    data = minimise(
        case.record, lambda d: differs(d) == first, simpler_vmport(profile), tries=_TRIES
    )
    ours, theirs = said(data)
    report = vmport_report(case._replace(record=data), ours, theirs, profile)
    return Disagreement(data, ours, theirs, report)


def vmport_report(case: Case, ours: str, theirs: str, profile: VmportProfile) -> str:
    """The record in hex with the names of its fields, both verdicts, and the rule."""
    record, outcome = case.record, _outcome(case, profile)
    rule = "" if isinstance(outcome, Restored) else f" [{outcome.rule}]"
    lines = [f"model:     {ours}{rule}", f"reference: {theirs}", ""]
    if case.over:
        lines.append(f"loaded over {case.over.hex()}")
    if case.memory != UNLIMITED:
        lines.append(f"memory for {case.memory} slots")
    if case.room != UNLIMITED:
        lines.append(f"room for {case.room} bytes to save")
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
    """A loader in C, of contexts or whatever it takes."""

    at_once = tries = 2000

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def verdicts(self, inputs: Sequence[bytes]) -> list[str]:
        words = {"ok": ACCEPTED, "errno": REFUSED}
        found = (said.partition(" ")[0] for said in self._reference.answers(inputs))
        return [words.get(said, said) for said in found]


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
