"""The model against the hypervisor of this machine: contexts go straight into a paused domain.

That may bring the machine down, which is what it is for. Each context is on the disk before it is
tried (`Journal`), so that the one to blame is known after a reboot.
"""

from __future__ import annotations

import os
import re
import struct
import time
import zlib

from hvmctx.abi import streams
from hvmctx.abi.releases import Release
from hvmctx.errors import InputError, UsageError
from hvmctx.fuzz.differential import Disagreement
from hvmctx.fuzz.minimise import minimise, simpler_contexts
from hvmctx.live.host import facts
from hvmctx.live.loading import Answer, load_into
from hvmctx.live.xen import Store
from hvmctx.restore.context import load
from hvmctx.restore.guest import DEVICES, PVH_DEVICES, Guest
from hvmctx.restore.host import Host
from hvmctx.restore.machine import Machine
from hvmctx.restore.policy import CpuPolicy
from hvmctx.restore.policy_forms import LEAF_ROW, MSR_ROW
from hvmctx.restore.rules import LOADING
from hvmctx.restore.verdict import VIOLATION, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hvmctx.live.xen import Xen

__all__ = ["Comparison", "Hypervisor", "Journal"]

_TRIES = 400
"""Loads to minimise a disagreement."""
_MOST_KINDS = 50


class Hypervisor:
    """The running Xen with a paused HVM domain to load into, and what the model says of it."""

    def __init__(self, xen: Xen, domid: int) -> None:
        """Raises XenError, and UsageError for a domain that runs, or is a PV guest."""
        state = xen.state(domid)
        if not state.hvm:
            raise UsageError(f"domain {domid} is a PV guest, which has no such context")
        if not state.stopped:
            raise UsageError(f"domain {domid} runs; pause it: no guest survives this")
        self._xen = xen
        self.domid = domid
        major, minor = xen.version
        self.host = Host.from_bytes(**facts(xen))
        self.release = _release_of(self.host.xen["version"], f"{major}.{minor}")
        self.machine: Machine = self.host.machine()
        leaves, msrs = xen.domain_policy(domid)
        policy = CpuPolicy(LEAF_ROW.iter_unpack(leaves), MSR_ROW.iter_unpack(msrs))
        nested = bool(policy.leaves) and (policy.has("SVM") or policy.has("VMX"))
        store = Store(xen.libraries)
        try:
            pvh = store.read(f"/libxl/{domid}/type") == b"pvh"
        finally:
            store.close()
        self.guest = Guest(
            vcpus=state.max_vcpus,
            devices=PVH_DEVICES if pvh else DEVICES,
            leaves=LEAF_ROW.iter_unpack(leaves),
            msrs=MSR_ROW.iter_unpack(msrs),
            nested=nested or bool(not leaves and xen.param(domid, streams.HVM_PARAM_NESTEDHVM)),
            hap=state.hap,
            viridian=bool(xen.param(domid, streams.HVM_PARAM_VIRIDIAN) & 1),
            has_page=self._has_page,
        )
        self._pages: dict[int, bool] = {}

    def _has_page(self, pfn: int) -> bool:
        known = self._pages.get(pfn)
        if known is None:
            if pfn >= 1 << streams.X86_PFN_BITS:
                return False
            words = memoryview(pfn.to_bytes(8, "little")).cast("Q")
            (kind,) = self._xen.page_types(self.domid, words)
            known = self._pages[pfn] = kind in streams.PAGE_TYPES_WITH_MEMORY
        return known

    def model(self, data: bytes) -> Verdict:
        """What the model says."""
        return load(data, self.release, self.guest, self.machine)

    def answer(self, data: bytes) -> Answer:
        """What the hypervisor says. Raises XenError where the domain has gone."""
        return load_into(self._xen, self.domid, data)


def _release_of(version: str, otherwise: str) -> Release:
    """The release by its point number where that is known."""
    match = re.match(r"\d+\.\d+\.\d+", version)
    for name in (match[0] if match else "", otherwise, "newest"):
        try:
            if name:
                return Release(name)
        except UsageError:
            continue
    raise UsageError(f"Xen {version} is of no known release")


class Journal:
    """What is being tried, in the file `trying` of a directory: on the disk before it is tried,
    and gone once all is done."""

    _HEAD = struct.Struct("<8sQII")
    _MAGIC = b"HVMCTXTR"

    def __init__(self, directory: str) -> None:
        """Raises InputError."""
        self.path = os.path.join(directory, "trying")
        self._fd = -1
        try:
            os.makedirs(directory, exist_ok=True)
            self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise InputError(f"{directory}: {error.strerror}") from error

    def last(self) -> tuple[int, bytes] | None:
        """What was tried last by a run that did not come to its end: its number, and the bytes;
        None if there is no such run, or nothing whole was written."""
        try:
            with open(self.path, "rb") as file:
                data = file.read(self._HEAD.size + (1 << 26))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror}") from error
        if len(data) < self._HEAD.size:
            return None
        magic, number, size, check = self._HEAD.unpack_from(data)
        body = data[self._HEAD.size : self._HEAD.size + size]
        if magic != self._MAGIC or len(body) != size or zlib.crc32(body) != check:
            return None
        return number, body

    @property
    def left(self) -> bool:
        """Whether a run did not come to its end."""
        return os.path.lexists(self.path)

    def note(self, number: int, data: bytes) -> None:
        """Put it on the disk. Written in one piece over what was there."""
        try:
            if self._fd < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
                self._fd = os.open(self.path, flags, 0o600)
                os.fsync(self._directory)
            head = self._HEAD.pack(self._MAGIC, number, len(data), zlib.crc32(data))
            os.pwrite(self._fd, head + data, 0)
            os.fdatasync(self._fd)
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror}") from error

    def close(self, *, done: bool) -> None:
        """`done`: nothing was left half tried."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if done and self.left:
            os.unlink(self.path)
            os.fsync(self._directory)
        os.close(self._directory)


class Comparison:
    """A run over many contexts. `kinds`: (what the model says, what the hypervisor says) of a
    disagreement -> how many; the first of each kind is minimised and given to `found`. `passed`
    counts those that were not tried, as it is known that the hypervisor would die of them."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        journal: Journal,
        found: Callable[[Disagreement], object],
        *,
        dangerous: bool = False,
    ) -> None:
        self._hypervisor = hypervisor
        self._journal = journal
        self._found = found
        self._dangerous = dangerous
        self.kinds: dict[tuple[str, str], int] = {}
        self.tried = 0
        self.taken = 0
        self.passed = 0
        self.seconds = 0.0

    @property
    def rate(self) -> float:
        """Contexts a minute."""
        return 60 * self.tried / max(self.seconds, 1e-9)

    def run(self, inputs: Iterable[tuple[int, bytes]]) -> None:
        """Try numbered contexts."""
        start = time.monotonic()
        try:
            for number, data in inputs:
                self._try(number, data)
        finally:
            self.seconds += time.monotonic() - start

    def _try(self, number: int, data: bytes) -> None:
        verdict = self._hypervisor.model(data)
        if self._deadly(verdict):
            self.passed += 1
            return
        answer = self._asked(number, data)
        self.tried += 1
        self.taken += answer.errno is None
        kind = _differ(verdict, answer)
        if kind is None:
            return
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if self.kinds[kind] == 1 and len(self.kinds) <= _MOST_KINDS:
            self._found(self._minimal(number, data, kind))

    def _deadly(self, verdict: Verdict) -> bool:
        """Whether it is not to be tried: the hypervisor dies of it, or writes or reads where it
        should not while it loads this or the next."""
        if self._dangerous:
            return False
        return verdict.verdict == VIOLATION or any(
            hazard.harms == LOADING for hazard in verdict.hazards
        )

    def _asked(self, number: int, data: bytes) -> Answer:
        self._journal.note(number, data)
        return self._hypervisor.answer(data)

    def _minimal(self, number: int, data: bytes, kind: tuple[str, str]) -> Disagreement:
        """Every simpler context is on the disk as well before it is tried."""

        def still(candidate: bytes) -> bool:
            verdict = self._hypervisor.model(candidate)
            if self._deadly(verdict):
                return False
            return _differ(verdict, self._asked(number, candidate)) == kind

        small = minimise(data, still, simpler_contexts, tries=_TRIES)
        verdict, answer = self._hypervisor.model(small), self._asked(number, small)
        lines = [
            f"model:      {verdict}",
            f"hypervisor: {answer.errno or 'accept'}, at {answer.record or 'no record'}",
            f"release:    {self._hypervisor.release}, input {number}",
            *(f"log:        {line}" for line in answer.log),
            "", small.hex(" ", 16), "",
        ]  # fmt: skip
        return Disagreement(small, *kind, "\n".join(lines))


def _differ(verdict: Verdict, answer: Answer) -> tuple[str, str] | None:
    """What the two say, if that is not the same: errno, and where both refuse a record at its
    load, the record."""
    ours = verdict.verdict if verdict.accepted or verdict.verdict == VIOLATION else verdict.errno
    theirs = answer.errno or "accept"
    if ours != theirs:
        return f"{ours} [{verdict.rule}]" if verdict.rule else str(ours), theirs
    if not verdict.accepted and answer.record and _at_a_load(verdict):
        place = f"{verdict.record}/{verdict.instance}"
        if answer.record != place:
            return f"{ours} [{verdict.rule}] at {verdict.record}", f"{theirs} at another record"
    return None


def _at_a_load(verdict: Verdict) -> bool:
    """Whether a record's own rule refuses it, and not the walk over the records."""
    return verdict.instance is not None and not verdict.rule.startswith(("context-", "header"))
