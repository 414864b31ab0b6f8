"""The load of a whole context as Xen does it: `load`.

Up to 4.18 one pass loads record by record. Since 4.19 a first pass checks the whole
context: its framing, and the records whose handlers have a check (`CHECKED_SINCE`). Only
then does a second pass load. Before `ERRNO_SINCE` every refusal is EPERM (-1), whatever the
handler said. Source: xen/common/hvm/save.c of every release tag, 4.0.0 to c447b730, and what
hypervisors from 4.5.5 on answered.
"""

from __future__ import annotations

from functools import lru_cache

from hvmctx.abi import x86
from hvmctx.abi.declare import DOMAIN, VMPORT_TYPECODE, RecordType
from hvmctx.abi.registry import by_name, by_typecode
from hvmctx.abi.releases import VARIABLE
from hvmctx.context.record import Record
from hvmctx.limits import DEFAULT
from hvmctx.restore.context_rules import CHECKED_SINCE, RULES, UNPAUSED, WALK, tsc_page_of
from hvmctx.restore.effects import changes
from hvmctx.restore.guest import Guest
from hvmctx.restore.hazards import HAZARDS, x2apic_ids
from hvmctx.restore.machine import Machine
from hvmctx.restore.remedies import MISFRAMED, misframed
from hvmctx.restore.rules import Loaded, Rule, Seen
from hvmctx.restore.verdict import ACCEPT, REFUSE, VIOLATION, Hazard, Verdict
from hvmctx.stream.reader import CONTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from hvmctx.abi.releases import Release
    from hvmctx.limits import Limits
    from hvmctx.restore.rules import Change

_DESCRIPTOR = x86.DESCRIPTOR
ERRNO_SINCE = "4.16 4.15.1 4.14.3 4.13.4"
"""Since when a handler's errno is passed on."""
TWO_PASSES_SINCE = "4.19"
_HEADER_RULES = tuple(rule for rule in WALK if rule.record == "HEADER")
_END, _TYPE = (
    next(rule for rule in WALK if rule.id == name) for name in ("context-end", "context-type")
)
_BOUNDS = tuple(rule for rule in WALK if rule.id == "context-bounds")


class LoadedRecord(Seen):
    """One record as its loader sees it: its descriptor, the bytes from its body to the end of
    the context (`space` of them), and its fields, extended as the release does."""

    __slots__ = (
        "_fields", "_rest", "_type", "guest", "instance", "length", "loaded", "machine", "name",
        "release", "size", "space",
    )  # fmt: skip
    layer = CONTEXT

    def __init__(
        self, known: RecordType, size: int, instance: int, length: int, rest: memoryview,
        release: Release, guest: Guest, machine: Machine, loaded: Loaded,
    ) -> None:  # fmt: skip
        self._type = known
        self._rest = rest
        self._fields: dict[str, Any] | None = None
        self.name = known.name
        self.size = size
        self.instance = instance
        self.length = length
        self.space = len(rest)
        self.release = release
        self.guest = guest
        self.machine = machine
        self.loaded = loaded

    @property
    def fields(self) -> dict[str, Any]:
        if self._fields is None:
            # a release knows no more fields than its own structure has
            body = self._rest[: self.length]
            if self.name not in VARIABLE:
                body = body[: self.size]
            self._fields = Record(self._type, self.instance, body).fields()
        return self._fields

    def altered(self, body: bytes) -> LoadedRecord:
        rest = body + bytes(self._rest[self.length :])
        return LoadedRecord(
            self._type, self.size, self.instance, len(body), memoryview(rest), self.release,
            self.guest, self.machine, self.loaded,
        )  # fmt: skip

    def after(self, length: int) -> bytes:
        return bytes(self._rest[length:])

    def head(self, size: int = 64) -> bytes:
        return bytes(self._rest[: min(size, self.length)])

    def body(self) -> bytes:
        return bytes(self._rest[: self.length])


class _Handler:
    """How a release loads records of one type: by which rules, and whether the first pass
    applies them; and what it may suffer by them."""

    __slots__ = ("checked", "hazards", "rules", "size", "type")

    def __init__(
        self,
        known: RecordType,
        size: int,
        rules: tuple[Rule, ...] = (),
        hazards: tuple[Rule, ...] = (),
        *,
        checked: bool = False,
    ) -> None:
        self.type = known
        self.size = size
        self.rules = rules
        self.hazards = hazards
        self.checked = checked


@lru_cache(maxsize=64)
def _handlers(release: Release) -> dict[int, _Handler]:
    """Typecode -> handler, for all records that a release loads."""
    handlers = {}
    for name, size in release.sizes().items():
        rules = [rule for rule in RULES if rule.record == name]
        if rules:
            known, since = by_name(name), CHECKED_SINCE.get(name)
            hazards = [rule for rule in HAZARDS if rule.record == name]
            standing, suffered = (
                tuple(rule for rule in part if release in rule.releases)
                for part in (rules, hazards)
            )
            checked = since is not None and release.since(since)
            handlers[known.typecode] = _Handler(known, size, standing, suffered, checked=checked)
    return handlers


class _Refusal(Exception):
    """Carries a refusal out of a pass, and what it was about."""

    def __init__(
        self, verdict: Verdict, rule: Rule | None = None, seen: Seen | None = None
    ) -> None:
        self.verdict = verdict
        self.rule = rule
        self.seen = seen


def load(
    context: bytes | bytearray | memoryview,
    release: Release,
    guest: Guest | None = None,
    machine: Machine | None = None,
    limits: Limits = DEFAULT,
) -> Verdict:
    """What this release does with a context when it loads it into a guest on a machine, by
    default ones that have everything. Raises LimitError, and nothing else, whatever the
    bytes."""
    view = memoryview(context).cast("B")
    return _Load(view, release, guest or Guest(), machine or Machine(), limits).run()


def remedy(
    context: bytes | bytearray | memoryview,
    release: Release,
    guest: Guest | None = None,
    machine: Machine | None = None,
    limits: Limits = DEFAULT,
) -> tuple[str, list[Change]] | None:
    """What mends the refusal, or the violation, that `load` gives for the same arguments: what is
    done and what is lost, in words, and the steps. None where there is no remedy, or nothing to
    mend."""
    view = memoryview(context).cast("B")
    found = _Load(view, release, guest or Guest(), machine or Machine(), limits).fault()
    if found is None or found.rule is None or found.seen is None:
        return None
    rule = found.rule
    if rule in WALK and (steps := misframed(view, release, found.verdict.offset)):
        return MISFRAMED, steps
    steps = rule.remedy.changes(found.seen, rule) if rule.remedy else []
    return (rule.remedy.words, steps) if rule.remedy and steps else None


class _Load:
    def __init__(
        self, view: memoryview, release: Release, guest: Guest, machine: Machine, limits: Limits
    ) -> None:
        self._limits = limits
        self._view = view
        self._release = release
        self._guest = guest
        self._machine = machine
        self._handlers = _handlers(release)
        if machine.vmport is not None:
            vmport = by_name("VMPORT")
            self._handlers = {**self._handlers, vmport.typecode: _Handler(vmport, 0)}
        self._applied: list[str] = []
        self._hazards: list[Hazard] = []
        self._loaded = Loaded()
        self._domain: tuple[LoadedRecord, int] | None = None

    def run(self) -> Verdict:
        fault = self.fault()
        verdict = fault.verdict if fault else Verdict(ACCEPT, applied=self._applied)
        verdict.hazards = self._hazards
        return verdict

    def fault(self) -> _Refusal | None:
        """What ends the load before it has succeeded."""
        try:
            self._header()
            if self._release.since(TWO_PASSES_SINCE):
                self._check()
            self._pass(checking=False)
        except _Refusal as refusal:
            return self._unpaused() or refusal
        return self._unpaused()

    def _check(self) -> None:
        """The first pass, in which nothing is loaded."""
        try:
            self._pass(checking=True)
        except _Refusal:
            self._hazards.clear()
            raise

    def _unpaused(self) -> _Refusal | None:
        """Whether the hypervisor dies when it ends the pause in which it has loaded records,
        those before a refusal included."""
        if self._domain is None:
            return None
        seen, offset = self._domain
        for rule in UNPAUSED:
            for text in rule.texts(seen) if self._release in rule.releases else ():
                verdict = Verdict(
                    VIOLATION, rule=rule.id, record=seen.name, instance=seen.instance,
                    offset=offset, text=text,
                )  # fmt: skip
                return _Refusal(verdict, rule, seen)
        return None

    def _take(self, hazards: tuple[Rule, ...], seen: LoadedRecord, offset: int) -> None:
        """Note what an accepted record changes, what it does harm to, and what of it later
        checks ask for."""
        self._change(seen)
        for rule in hazards:
            for text in rule.texts(seen):
                if len(self._hazards) < self._limits.findings:
                    self._hazards.append(Hazard(rule, text, seen, self._release, offset))
        loaded, vcpu = self._loaded, seen.instance
        if seen.name == "CPU":
            loaded.tsc = True
        elif seen.name == "CPU_XSAVE":
            loaded.xcr0_accum[vcpu] = seen.fields["xcr0_accum"]
        elif seen.name == "LAPIC":
            loaded.apic_base[vcpu] = seen.fields["apic_base_msr"]
        elif seen.name == "LAPIC_REGS":
            loaded.apic_ids[vcpu] = x2apic_ids(seen)
        elif seen.name == "VIRIDIAN_VCPU":
            if seen.fields["vp_assist_msr"] & 1:
                loaded.vp_assist.add(vcpu)
        elif seen.name == "VIRIDIAN_DOMAIN":
            self._domain = seen, offset
            pfn, has_page = tsc_page_of(seen), self._guest.has_page
            if pfn is not None and has_page is not None and has_page(pfn):
                loaded.tsc_page = True

    def _change(self, seen: LoadedRecord) -> None:
        room = self._limits.findings - len(self._applied)
        found = changes(seen) if room > 0 else []
        self._applied += found[:room]
        if len(found) >= room > 0:
            self._applied[-1] = "further changes suppressed"

    def _refuse(
        self,
        rule: Rule,
        offset: int,
        name: str = "",
        instance: int = 0,
        text: str = "",
        seen: Seen | None = None,
    ) -> NoReturn:
        errno = rule.errno if self._release.since(ERRNO_SINCE) else "EPERM"
        raise _Refusal(
            Verdict(
                REFUSE, errno=errno, rule=rule.id, record=name, instance=instance, offset=offset,
                text=text or rule.words,
            ),
            rule, seen,
        )  # fmt: skip

    def _judge(self, rules: tuple[Rule, ...], seen: LoadedRecord, offset: int) -> None:
        """Refuse the record if one of the rules applies to it."""
        for rule in rules:
            # most do not apply, and `texts` would make a list of each: a twentieth of a load
            if rule.predicate is not None and rule.predicate(seen):
                for text in rule.texts(seen):
                    self._refuse(rule, offset, seen.name, seen.instance, text, seen)

    def _header(self) -> None:
        """The first record, which counts as an empty HEADER if it is another."""
        typecode = length = 0
        if len(self._view) >= _DESCRIPTOR.size:
            typecode, _, length = _DESCRIPTOR.unpack_from(self._view)
        length = length if typecode == x86.HEADER.typecode else 0
        seen = self._seen(x86.HEADER, x86.HEADER.size, 0, length, 0)
        self._judge(_HEADER_RULES, seen, 0)
        self._change(seen)

    def _seen(
        self, known: RecordType, size: int, instance: int, length: int, offset: int
    ) -> LoadedRecord:
        return LoadedRecord(
            known, size, instance, length, self._view[offset + _DESCRIPTOR.size :],
            self._release, self._guest, self._machine, self._loaded,
        )  # fmt: skip

    def _pass(self, *, checking: bool) -> None:
        view, end = self._view, len(self._view)
        two = self._release.since(TWO_PASSES_SINCE)
        handlers = self._handlers
        offset = _DESCRIPTOR.size + x86.HEADER.size
        for _ in range(self._limits.context_records):
            start = offset + _DESCRIPTOR.size
            if start > end:
                self._refuse(_END, offset, seen=self._seen(x86.END, 0, 0, 0, offset))
            typecode, instance, length = _DESCRIPTOR.unpack_from(view, offset)
            if typecode == x86.END.typecode:
                return
            handler = handlers.get(typecode)
            if handler is None:
                known = by_typecode(typecode)
                name = known.name if known else f"type {typecode}"
                known = known or RecordType(
                    f"{CONTEXT}:{typecode}", typecode, x86.END.struct, DOMAIN
                )
                seen = self._seen(known, 0, instance, length, offset)
                self._refuse(_TYPE, offset, name, instance, seen=seen)
            seen = self._seen(handler.type, handler.size, instance, length, offset)
            if checking != (two and handler.checked):
                if checking:
                    self._judge(_BOUNDS, seen, offset)
            elif typecode == VMPORT_TYPECODE:
                self._vmport(offset)
            else:
                self._judge(handler.rules, seen, offset)
                self._take(handler.hazards, seen, offset)
            offset = start + length
        raise self._limits.over("context_records", "records", layer=CONTEXT, offset=offset)

    def _vmport(self, offset: int) -> None:
        """A VMPORT record, as the patch's loader treats it."""
        from hvmctx.restore import vmport

        outcome = vmport.restore(self._view[offset:], self._machine.vmport)
        if isinstance(outcome, vmport.Violation):
            raise _Refusal(
                Verdict(
                    VIOLATION, rule=outcome.rule, record="VMPORT", instance=0, offset=offset,
                    text=outcome.text,
                )
            )  # fmt: skip
        if isinstance(outcome, vmport.Refused):
            self._refuse(vmport.RULES[outcome.rule], offset, "VMPORT", 0)


__all__ = ["ERRNO_SINCE", "TWO_PASSES_SINCE", "LoadedRecord", "load", "remedy"]
