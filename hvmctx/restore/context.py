"""The load of a whole context as Xen does it: `load`.

Up to 4.18 one pass loads record by record. Since 4.19 a first pass checks the whole
context: its framing, and with the handlers that have a check (`CHECKED_SINCE`) their
records; only then a second pass loads. Up to 4.16 a refusal comes out as EPERM (-1),
whatever the handler said. Source: xen/common/hvm/save.c, 4.5 to c447b730, and Xen 4.17 and
4.20 themselves.
"""

from __future__ import annotations

from hvmctx.abi import x86
from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.abi.registry import by_name, by_typecode
from hvmctx.abi.releases import VARIABLE
from hvmctx.abi.x86_bits import RFLAGS
from hvmctx.context.record import Record
from hvmctx.restore.context_rules import CHECKED_SINCE, RULES
from hvmctx.restore.rules import LoadedRecord, Rule
from hvmctx.restore.verdict import ACCEPT, REFUSE, VIOLATION, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hvmctx.restore.host import Host

_DESCRIPTOR = x86.DESCRIPTOR
ERRNO_SINCE = "4.17"
"""The first release that passes a handler's errno on."""
TWO_PASSES_SINCE = "4.19"

WALK = {
    "context-header": ("ENODATA", "the context does not start with a HEADER record of 24 bytes"),
    "context-magic": ("EINVAL", "the header's magic is not Xen's"),
    "context-version": ("EINVAL", "the header's version is not 1"),
    "context-end": ("ENODATA", "the context ends without an END record"),
    "context-type": ("EINVAL", "no handler loads records of this type"),
    "context-bounds": ("ENODATA", "the record's length is beyond the end of the context"),
}
"""The walk's own rules: errno, text. `context-bounds` is one of the first of two passes."""


class _Refusal(Exception):
    """Carries a refusal out of a pass."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict


def load(context: bytes | bytearray | memoryview, host: Host) -> Verdict:
    """What Xen does with a context on this host. Never raises, whatever the bytes."""
    return _Load(memoryview(context).cast("B"), host).run()


class _Load:
    def __init__(self, view: memoryview, host: Host) -> None:
        self._view = view
        self._host = host
        self._known = host.release.sizes()
        self._rules = {
            name: [rule for rule in rules if host.release in rule.releases]
            for name, rules in RULES.items()
        }
        self._applied: list[str] = []

    def run(self) -> Verdict:
        try:
            self._header()
            if self._host.release.since(TWO_PASSES_SINCE):
                self._pass(checking=True)
            self._pass(checking=False)
        except _Refusal as refusal:
            return refusal.verdict
        return Verdict(ACCEPT, applied=self._applied)

    def _refuse(
        self, rule: str, errno: str, text: str, offset: int, name: str, instance: int
    ) -> None:
        if not self._host.release.since(ERRNO_SINCE):
            errno = "EPERM"
        raise _Refusal(
            Verdict(
                REFUSE, errno=errno, rule=rule, record=name, instance=instance, offset=offset,
                text=text,
            )
        )  # fmt: skip

    def _walk_refuses(self, rule: str, offset: int, name: str = "", instance: int = 0) -> None:
        errno, text = WALK[rule]
        self._refuse(rule, errno, text, offset, name, instance)

    def _header(self) -> None:
        view = self._view
        size = _DESCRIPTOR.size + x86.HEADER.size
        if len(view) >= _DESCRIPTOR.size:
            typecode, _, length = _DESCRIPTOR.unpack_from(view)
        else:
            typecode = length = 0
        if typecode != x86.HEADER.typecode or length != x86.HEADER.size or len(view) < size:
            self._walk_refuses("context-header", 0, "HEADER")
        fields = x86.HEADER.decode(view[_DESCRIPTOR.size : size])
        if fields["magic"] != x86.HVM_FILE_MAGIC:
            self._walk_refuses("context-magic", 0, "HEADER")
        if fields["version"] != x86.HVM_FILE_VERSION:
            self._walk_refuses("context-version", 0, "HEADER")

    def _pass(self, *, checking: bool) -> None:
        view, release = self._view, self._host.release
        two = release.since(TWO_PASSES_SINCE)
        offset = _DESCRIPTOR.size + x86.HEADER.size
        while True:
            if len(view) - offset < _DESCRIPTOR.size:
                self._walk_refuses("context-end", offset)
            typecode, instance, length = _DESCRIPTOR.unpack_from(view, offset)
            if typecode == x86.END.typecode:
                return
            known = by_typecode(typecode)
            if typecode == VMPORT_TYPECODE and self._host.vmport is not None:
                if not checking:
                    self._vmport(offset)
                elif length > len(view) - offset - _DESCRIPTOR.size:
                    self._walk_refuses("context-bounds", offset, "VMPORT", instance)
                offset += _DESCRIPTOR.size + length
                continue
            if known is None or known.name not in self._rules or known.name not in self._known:
                name = known.name if known else f"type {typecode}"
                self._walk_refuses("context-type", offset, name, instance)
                return
            body = view[offset + _DESCRIPTOR.size :]
            since = CHECKED_SINCE.get(known.name)
            has_check = two and since is not None and release.since(since)
            if checking and not has_check:
                if length > len(body):
                    self._walk_refuses("context-bounds", offset, known.name, instance)
            elif checking == has_check:
                entry = LoadedRecord(known.name, instance, length, body, self._host, _fields)
                self._judge(entry, offset)
                self._applied += _changes(entry)
            offset += _DESCRIPTOR.size + length

    def _vmport(self, offset: int) -> None:
        """A VMPORT record, as the patch's loader takes it."""
        from hvmctx.restore import vmport

        outcome = vmport.restore(self._view[offset:], self._host.vmport)
        if isinstance(outcome, vmport.Violation):
            raise _Refusal(
                Verdict(
                    VIOLATION, rule=outcome.rule, record="VMPORT", instance=0, offset=offset,
                    text=outcome.text,
                )
            )  # fmt: skip
        if isinstance(outcome, vmport.Refused):
            text = vmport.RULES[outcome.rule]
            self._refuse(outcome.rule, outcome.errno, text, offset, "VMPORT", 0)

    def _judge(self, entry: LoadedRecord, offset: int) -> None:
        for rule in self._rules[entry.name]:
            if rule.fires(entry):
                text = rule.text + _shown(rule, entry)
                self._refuse(rule.id, rule.errno, text, offset, entry.name, entry.instance)


_SHOWN = {
    "cpu-cr0": "cr0", "cpu-cr3": "cr3", "cpu-cr4": "cr4", "cpu-efer": "msr_efer",
    "cpu-flags": "flags", "cpu-tsc-aux": "msr_tsc_aux", "cpu-event": "pending_event",
    "cpu-error-code": "error_code", "lapic-base": "apic_base_msr", "mtrr-cap": "msr_mtrr_cap",
    "vmce-vcpu-caps": "caps", "pic-int-output": "int_output", "cpu-pad0": "pad0",
}  # fmt: skip
"""Rules about one field: which, so that a refusal shows its value."""


def _shown(rule: Rule, entry: LoadedRecord) -> str:
    if rule.id.endswith("-length"):
        return f": length {entry.length}, {entry.space} bytes left"
    if rule.id.endswith(("-vcpu", "-instance")):
        return f": instance {entry.instance}, {entry.host.vcpus} vcpus"
    name = _SHOWN.get(rule.id)
    return f": {name} is {entry.fields[name]:#x}" if name else ""


def _fields(entry: LoadedRecord) -> dict[str, Any]:
    known = by_name(entry.name)
    body = entry.body[: entry.length]
    if entry.name not in VARIABLE:
        # a release knows no more fields than its own structure has
        body = body[: entry.host.release.size_of(known)]
    return Record(known, entry.instance, body).fields()


_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldtr")


def unfolded(arbytes: int) -> int:
    """Segment attributes as Xen stores them: those of before Xen 3 have their upper four
    bits at 12 to 15, and are moved to 8 to 11."""
    if arbytes & 0xF000 and not arbytes & 0x0F00:
        return arbytes & 0xFF | arbytes >> 4 & 0xF00
    return arbytes


def _changes(entry: LoadedRecord) -> list[str]:
    """What an accepted load makes of a record that is not what the record says."""
    where, fields = f"{entry.name}/{entry.instance}", entry.fields
    changes = []
    if entry.name == "CPU":
        for segment in _SEGMENTS:
            before = fields[f"{segment}_arbytes"]
            if unfolded(before) != before:
                changes.append(f"{where}: {segment}_arbytes {before:#x} -> {unfolded(before):#x}")
        if not fields["rflags"] & RFLAGS.ONE:
            changes.append(f"{where}: rflags gets bit 1")
        if entry.length != x86.CPU.size and entry.host.release.since("4.7"):
            changes.append(f"{where}: read from {entry.length} bytes, flags forced to 1")
    elif entry.name == "PIC" and entry.host.release.since("4.19"):
        if fields["is_master"] and not fields["elcr"] & 4:
            changes.append(f"{where}: elcr gets the cascade's bit 2")
    elif entry.name == "PIT" and entry.host.release.since("4.19"):
        for number, channel in enumerate(fields["channels"]):
            mode = channel["mode"] & 7
            mode -= 4 if mode > 5 else 0
            if mode != channel["mode"]:
                changes.append(f"{where}: channels[{number}].mode {channel['mode']:#x} -> {mode}")
    elif entry.length < (entry.host.release.size_of(entry.name) or 0):
        changes.append(f"{where}: {entry.length} bytes, the rest zero")
    return changes


def rules() -> list[Rule]:
    """All rules of records, in the order of their typecodes."""
    return [rule for table in RULES.values() for rule in table]


__all__ = ["ERRNO_SINCE", "TWO_PASSES_SINCE", "WALK", "load", "rules", "unfolded"]
