"""What a rule is (`Rule`), and what it is applied to (`Seen`).

The rows of every table have this one shape: what the hypervisor checks when it loads a
context, what the toolstack's readers refuse of a stream, what the verifier and the strict
view find, what the loader of VMPORT records does wrong. `verify.registry` lists them all.
"""

from __future__ import annotations

from itertools import islice

from hvmctx.abi.releases import Window
from hvmctx.findings import ERROR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from hvmctx.abi.releases import Release
    from hvmctx.image.image import Image
    from hvmctx.image.index import IndexedRecord
    from hvmctx.restore.clamping import DomainPolicy
    from hvmctx.restore.guest import Guest
    from hvmctx.restore.host import Host
    from hvmctx.restore.machine import Machine
    from hvmctx.restore.policy import CpuPolicy

    Answer = bool | str | Iterable[str]
    Predicate = Callable[["Seen"], Answer]

ANY, WHOLE = "*", ""
"""In place of a record's name: all records of the layer, or the input as a whole."""
LOADING, RUNNING = "hypervisor, by the load", "hypervisor, once the guest runs"
GUEST = "guest"
"""Who is harmed by a record that is loaded, and when."""
MOST_DETAILS = 64
"""Findings of one rule about one record; one more says that others are suppressed."""


class Loaded:
    """What a load has put into the guest so far: of each vcpu the states of its xcr0_accum, the
    mode of its LAPIC, the id and the logical destination in that, and whether it has a VP assist
    page; and whether there is a TSC yet, and the page of the reference TSC is mapped."""

    __slots__ = ("apic_base", "apic_ids", "tsc", "tsc_page", "vp_assist", "xcr0_accum")

    def __init__(self) -> None:
        self.xcr0_accum: dict[int, int] = {}
        self.apic_base: dict[int, int] = {}
        self.apic_ids: dict[int, tuple[int, int]] = {}
        self.vp_assist: set[int] = set()
        self.tsc = False
        self.tsc_page = False


class Seen:
    """A record or a header as a rule sees it, and what is known by then.

    `layer` and `name` say which it is, `length` how many bytes it says its body has, `fields`
    what they mean. A record of a context has `instance`, the `size` that the release has for
    its type, the `space` that is left of the context, the `release`, `guest` and `machine`
    that load it, and what has been `loaded` by then. One of a stream has the index's `record`, and what the readers
    know so far: see `restore.stream.Passing`.
    """

    __slots__ = ()

    layer: str
    name: str
    instance: int
    length: int
    release: Release
    # of a record of a context:
    guest: Guest
    machine: Machine
    loaded: Loaded
    size: int
    space: int
    # of a stream:
    record: IndexedRecord
    kind: int | None
    expected: int | None
    longest: int
    version: int
    checkpointed: bool
    static_end: bool
    pv_width: int
    max_pfn: int
    vcpu0: bool
    queued_unknown: bool
    # of a CPU policy that is set on a domain, see `restore.policy_rules.Setting`:
    rows: int
    row: tuple[int, ...]
    wanted: DomainPolicy
    most: CpuPolicy
    # of an image that is placed on a host, see `restore.placing.Placed`:
    saved: Image
    destination: Host
    lost: list[str]
    used: dict[str, str]

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the body, or of the header. Of use only to rules after the one about
        the length, if a record is shorter than its structure."""
        raise NotImplementedError

    def policy(self, since: str) -> CpuPolicy:
        """What a check goes by: the guest's policy since a release (as `Release.since` takes
        it), before that the host's, for which the guest's stands if the machine has none."""
        return self.guest if self.release.since(since) else self.host

    @property
    def host(self) -> CpuPolicy:
        """The host's policy, for which the guest's stands if the machine has none."""
        return self.machine if self.machine.leaves else self.guest

    def altered(self, body: bytes) -> Seen:
        """The same record with another body, of that length: would a rule apply to it?"""
        raise NotImplementedError

    def after(self, length: int) -> bytes:
        """What would follow the record if its body had that length."""
        raise NotImplementedError

    def head(self, size: int = 64) -> bytes:
        """The first bytes of the body, or all of a shorter one."""
        raise NotImplementedError

    def number(self, at: int) -> int:
        """The u32 at that offset of the body; 0 beyond its end."""
        return int.from_bytes(self.head(at + 4)[at:], "little")

    def body(self) -> bytes:
        """All of the body; nothing if it is longer than any reader accepts."""
        raise NotImplementedError

    def following(self) -> bytes | None:
        """What follows a wrapper's header, as far as it is known."""
        return None

    def words(self) -> bytes:
        """The page words of a PAGE_DATA record; nothing if it is longer than any reader accepts."""
        return b""

    def before(self, number: int, layer: str | None = None) -> int:
        """How many records of a type there have been, of the same layer by default."""
        return 0

    def handles(self, number: int) -> bool:
        """Whether the release knows a libxc record of that type for this kind of guest."""
        return False


class Change:
    """One step of a remedy, as `Editor` takes it: `verb` is set, add or remove, `path` what it
    is done to, `value` what is put there (None for remove).

    >>> print(Change("set", "CPU/0.cr4", 0x6F0), Change("remove", "PIC/7"), sep="; ")
    CPU/0.cr4=0x6f0; remove PIC/7
    """

    __slots__ = ("path", "value", "verb")

    def __init__(self, verb: str, path: str, value: int | bytes | None = None) -> None:
        self.verb = verb
        self.path = path
        self.value = value

    def __str__(self) -> str:
        value = self.value
        if value is None:
            return f"{self.verb} {self.path}"
        text = f"{value:#x}" if isinstance(value, int) else value.hex()
        return f"{'' if self.verb == SET else f'{self.verb} '}{self.path}={text}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Change) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, str, int | bytes | None]:
        return self.verb, self.path, self.value


SET, ADD, REMOVE = "set", "add", "remove"


class Remedy:
    """What makes a loader take a record that a rule refuses, and loses least: `words` say what
    it does, and what is lost. `changes` returns the steps for a record; none where
    nothing that is safe for the guest would do."""

    __slots__ = ("changes", "words")

    def __init__(self, words: str, changes: Callable[[Seen, Rule], list[Change]]) -> None:
        self.words = words
        self.changes = changes

    def __repr__(self) -> str:
        return f"<remedy: {self.words}>"


class Rule:
    """One rule about one kind of record or header.

    `layer` is xl, libxl, libxc or context; `record` a record's or header's name, `ANY` for
    all records of the layer, `WHOLE` for a rule about all of them together. `predicate` gets
    each such record: it returns whether the rule applies; or all of a finding in words, a string
    that is empty if the rule does not apply; or the details that follow the rule's words, a
    string for each finding. It is None for a rule that only code for the whole input can apply.
    `words` say what is wrong, `remedy` is what mends it, if anything does. `errno` is the
    hypervisor's answer (Linux's name; ENOTSUP is what Xen's source calls EOPNOTSUPP), None if
    it is not involved. `releases` are those that make the check, `severity` is that of its
    findings.

    A rule about a hazard does not refuse: its `releases` are those that load the record and
    suffer by it, `harms` says who (LOADING, RUNNING, GUEST; "" of other rules), `commit` is that
    of xen.git that mended it, "" for none, and `cve` its CVE.

    >>> from hvmctx.restore.context_rules import RULES
    >>> rule = next(rule for rule in RULES if rule.id == "cpu-cr0")
    >>> print(rule.record, rule.errno, rule.words, rule.releases, sep="; ")
    CPU; EINVAL; cr0 has an unknown bit, or no ET, or PG without PE; every release
    """

    __slots__ = (
        "commit", "cve", "errno", "harms", "id", "layer", "predicate", "record", "releases",
        "remedy", "severity", "words",
    )  # fmt: skip

    def __init__(
        self,
        layer: str,
        record: str,
        identifier: str,
        predicate: Predicate | None,
        words: str,
        *,
        errno: str | None = None,
        severity: str = ERROR,
        releases: Window | None = None,
        remedy: Remedy | None = None,
        harms: str = "",
        commit: str = "",
        cve: str | None = None,
    ) -> None:
        self.layer = layer
        self.record = record
        self.id = identifier
        self.predicate = predicate
        self.words = words
        self.errno = errno
        self.severity = severity
        self.releases = releases or Window()
        self.remedy = remedy
        self.harms = harms
        self.commit = commit
        self.cve = cve

    def __repr__(self) -> str:
        return f"<rule {self.id}, {self.releases}>"

    def fires(self, seen: Seen) -> bool:
        """Whether it applies."""
        found = False if self.predicate is None else self.predicate(seen)
        return found if isinstance(found, bool) else any(True for _ in found)

    def texts(self, seen: Seen) -> list[str]:
        """The findings about a record in words; none if the rule does not apply."""
        found = False if self.predicate is None else self.predicate(seen)
        if isinstance(found, (bool, str)):
            return [self.words if found is True else found] if found else []
        details = iter(found)
        texts = [f"{self.words}: {one}" for one in islice(details, MOST_DETAILS)]
        if next(details, None) is not None:
            texts.append(f"{self.words}: further findings about this record suppressed")
        return texts


__all__ = [
    "ADD", "ANY", "GUEST", "LOADING", "MOST_DETAILS", "REMOVE", "RUNNING", "SET", "WHOLE",
    "Change", "Loaded", "Remedy", "Rule", "Seen",
]  # fmt: skip
