"""What mends a record that a rule refuses, by the rule's id: `REMEDIES`.

A remedy asks the rule itself whether it would still apply to the record with another body, so
that no check is written twice. It keeps all that the rule lets it keep, and gives no steps
where the guest would not survive them: a guest that runs with PKU or with long mode needs a
host that has them, whatever its image says.
"""

from __future__ import annotations

import struct

from hvmctx.abi import x86
from hvmctx.abi.registry import by_name, by_typecode
from hvmctx.abi.releases import CPU_COMPAT_SIZE, RELEASES, VARIABLE
from hvmctx.abi.streams import Flat
from hvmctx.abi.x86_bits import CR0, CR4, EFER, XCR0, ApicBase, bits_of, named_bits
from hvmctx.context.record import Record
from hvmctx.errors import HvmctxError
from hvmctx.restore.rules import ADD, REMOVE, SET, Change, Remedy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hvmctx.abi.releases import Release
    from hvmctx.restore.rules import Rule, Seen

__all__ = ["MISFRAMED", "REMEDIES", "misframed"]

_MAGIC = x86.HVM_FILE_MAGIC.to_bytes(4, "little")
_EVERY_BIT = (1 << 64) - 1
_MSR = Flat(x86.hvm_one_msr)
_CR4_MAY_GO = ~sum(named_bits(CR4)) | CR4.UMIP | CR4.SMEP | CR4.LASS
_EFER_MAY_GO = ~sum(named_bits(EFER)) | EFER.FFXSE | EFER.TCE | EFER.INTWB | EFER.AIBRSE
"""Bits that are reserved, that only forbid something, or that are for speed. A guest that has set one
of the others cannot run without: instructions would fault, page tables be read otherwise."""
_CR3_NO_FLUSH = 1 << 63
"""What a guest may write with a cr3 and no cr3 holds: that translations are kept."""
_STATE_GROUPS = (XCR0.BNDREGS | XCR0.BNDCSR, XCR0.AVX512, XCR0.TILE)
_XSAVE_HEAD = x86.hvm_hw_cpu_xsave.save_area.offset
_XSAVE_RESERVED = _XSAVE_HEAD + 512 + 16
"""Where the legacy area and the two numbers after it end."""
_COMPACTED = 1 << 63
_XSAVE = "save_area.xsave_hdr"


class _Draft:
    """A record that is being changed field by field, and the steps so far."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.where = f"{seen.name}/{seen.instance}"
        self.known = by_name(seen.name)
        self.record = Record(self.known, seen.instance, seen.body())
        self.changes: list[Change] = []

    def _whole(self) -> bytearray:
        return bytearray(self.record.as_read(max(self.known.size, len(self.record.body))))

    def number(self, field: str) -> int:
        value = self.known.layout.locate(field).get(self._whole())
        assert isinstance(value, int)
        return value

    def set(self, field: str, value: int | bytes) -> None:
        """Raises FieldError for a field that is beyond the end of a short record."""
        slot, body = self.known.layout.locate(field), self._whole()
        if slot.get(body) == value:
            return
        slot.put(body, value)
        size = self.known.size
        self.record.body = self.record.rewritten(bytes(body[:size]), bytes(body[size:]))
        self.changes.append(Change(SET, f"{self.where}.{field}", value))

    def resize(self, length: int) -> None:
        """Cut the record, or fill it up with zeros. If records go on after that length, and do
        not after its own (or are hidden by it, as senders of MSRs have done), only its descriptor
        is wrong; and so it is if the record was to go on after the end of the context."""
        seen, cut = self.seen, self.seen.length > self.seen.space
        if length == seen.length:
            return
        goes_on = _goes_on(seen.after(length), self.known.typecode) and (
            seen.name == "CPU_MSR" or not _goes_on(seen.after(seen.length), self.known.typecode)
        )
        body = (seen.after(0) if goes_on else seen.body())[:length]
        self.record.body = body.ljust(length, b"\0")
        if goes_on or (cut and len(body) == length):
            self.changes.append(Change(SET, f"{self.where}.descriptor.length", length))
        elif cut:
            self.changes += [Change(REMOVE, "tail"), Change(ADD, self.where, self.record.body)]
        else:
            self.changes.append(Change(SET, f"{self.where}.length", length))

    def accepted(self, rule: Rule) -> bool:
        return not rule.fires(self.seen.altered(bytes(self.record.body)))


def _remedy(words: str, mend: Callable[[_Draft, Rule], None]) -> Remedy:
    """`mend` changes the draft; its steps count if the rule then no longer applies."""

    def changes(seen: Seen, rule: Rule) -> list[Change]:
        draft = _Draft(seen)
        try:
            mend(draft, rule)
        except HvmctxError:  # a field that the record is too short for
            return []
        return draft.changes if draft.changes and draft.accepted(rule) else []

    return Remedy(words, changes)


def _removal(words: str, of: Callable[[Seen], bool] = lambda seen: True) -> Remedy:
    """The record goes."""
    return Remedy(words, lambda seen, rule: [_removed(seen)] if of(seen) else [])


def _removed(seen: Seen) -> Change:
    """What there is of a record that is cut off follows the others."""
    cut = seen.length > seen.space
    return Change(REMOVE, "tail" if cut else f"{seen.name}/{seen.instance}")


def _goes_on(data: bytes, after: int) -> bool:
    """Whether records follow as Xen writes them, of types that there are and rise from this one
    on, to an END that is the end."""
    at, last = 0, len(data) - x86.DESCRIPTOR.size
    while at <= last:
        typecode, _, length = x86.DESCRIPTOR.unpack_from(data, at)
        if typecode == x86.END.typecode:
            return bool(length == 0 and at == last)
        if typecode < after or by_typecode(typecode) is None:
            return False
        after = typecode
        if typecode == x86.CPU_MSR.typecode and length >= x86.CPU_MSR.size:
            length = min(length, _counted(data[at + x86.DESCRIPTOR.size :]))
        at += x86.DESCRIPTOR.size + length
    return False


def _clear(draft: _Draft, rule: Rule, field: str, may_go: int = _EVERY_BIT) -> None:
    """Clear as few of these bits as the rule lets, the lowest kept first."""
    value = draft.number(field)
    kept, asked = value & ~may_go, draft.seen

    def accepted(number: int) -> bool:
        trial = _Draft(asked)
        trial.record.body = draft.record.body
        trial.set(field, number)
        return trial.accepted(rule)

    if kept == value or not accepted(kept):
        return
    for bit in bits_of(value & may_go):
        if accepted(kept | bit):
            kept |= bit
    draft.set(field, kept)


def _clears(words: str, field: str, may_go: int = _EVERY_BIT) -> Remedy:
    return _remedy(words, lambda draft, rule: _clear(draft, rule, field, may_go))


def _sets(words: str, *values: tuple[str, int | bytes]) -> Remedy:
    def mend(draft: _Draft, rule: Rule) -> None:
        for field, value in values:
            draft.set(field, value)

    return _remedy(words, mend)


def _fit(draft: _Draft, rule: Rule) -> None:
    """The length that the release has. Of a record that is to be filled up, half must be there;
    and a CPU record must have a length of some release, else its bytes are nothing known."""
    seen = draft.seen
    draft.resize(seen.size)
    if not draft.changes or draft.changes[0].path.endswith(".descriptor.length"):
        return
    there = min(seen.length, seen.space)
    if seen.release.zero_extends(seen.name):  # as the loader does
        return
    unknown = seen.name == "CPU" and there not in _CPU_LENGTHS
    if 2 * there < seen.size or (there < seen.size and unknown):
        draft.changes.clear()


_CPU_LENGTHS = {sizes["CPU"] for sizes in RELEASES.values() if "CPU" in sizes} | {CPU_COMPAT_SIZE}


def _mend_cr0(draft: _Draft, rule: Rule) -> None:
    draft.set("cr0", draft.number("cr0") & CR0.KNOWN | CR0.ET)


def _mend_dr(draft: _Draft, rule: Rule) -> None:
    for field in ("dr6", "dr7"):
        draft.set(field, draft.number(field) & 0xFFFFFFFF)


def _mend_event(draft: _Draft, rule: Rule) -> None:
    """Without its reserved bits, else without the event."""
    event = draft.number("pending_event")
    draft.set("pending_event", event & ~_EVENT_RESERVED)
    if not draft.accepted(rule):
        draft.changes.clear()
        draft.set("pending_event", 0)


_EVENT_RESERVED = 0x7FFFF << 12


def _mend_pic(draft: _Draft, rule: Rule) -> None:
    draft.set("is_master", int(draft.seen.instance == 0))
    if draft.number("init_state"):
        draft.set("int_output", 0)
    _clear(draft, rule, "elcr")


def _mend_route(draft: _Draft, rule: Rule) -> None:
    for link in range(4):
        if draft.number(f"route[{link}]") > 15:
            draft.set(f"route[{link}]", 0)


def _mend_pit(draft: _Draft, rule: Rule) -> None:
    """Out of range goes to the end of the range; a state of reading or writing to the one that
    follows a control word, latched counts to none."""
    draft.set("pad0", 0)
    draft.set("speaker_data_on", min(draft.number("speaker_data_on"), 1))
    for number in range(3):
        channel = f"channels[{number}]"
        for field, most in (("count", 0x10000), ("rw_mode", 3), ("gate", 1), ("bcd", 1)):
            draft.set(f"{channel}.{field}", min(draft.number(f"{channel}.{field}"), most))
        for field, instead in (
            ("count_latched", 0),
            ("read_state", draft.number(f"{channel}.rw_mode")),
            ("write_state", draft.number(f"{channel}.rw_mode")),
        ):
            if draft.number(f"{channel}.{field}") >= 5:
                draft.set(f"{channel}.{field}", instead)


def _states(draft: _Draft) -> tuple[int, int, int]:
    """xcr0, xcr0_accum, xstate_bv."""
    return (
        draft.number("xcr0"), draft.number("xcr0_accum"), draft.number(f"{_XSAVE}.xstate_bv")
    )  # fmt: skip


def _mend_states(draft: _Draft, rule: Rule) -> None:
    """xcr0_accum says which states the vcpu has ever enabled: those in use stay in it, of the
    others those that the rule lets."""
    xcr0, accum, present = _states(draft)
    if not _is_compacted(draft):
        draft.set(f"{_XSAVE}.xcomp_bv", 0)
    draft.set("xcr0", xcr0 | XCR0.X87)
    before = draft.record.body
    kept = xcr0 | present | XCR0.X87
    draft.set("xcr0_accum", kept)
    if not draft.accepted(rule):
        return
    groups = [group for group in _STATE_GROUPS if accum & group == group]
    for group in (*bits_of(accum), *groups):
        trial = _Draft(draft.seen)
        trial.record.body = before
        trial.set("xcr0_accum", kept | group)
        if trial.accepted(rule):
            kept |= group
    draft.changes = [c for c in draft.changes if not c.path.endswith(".xcr0_accum")]
    draft.record.body = before
    draft.set("xcr0_accum", kept)


def _is_compacted(draft: _Draft) -> bool:
    """Whether states do not lie where they lie in an image that is not."""
    compacted = draft.number(f"{_XSAVE}.xcomp_bv") & _COMPACTED
    return bool(compacted and draft.number("xcr0_accum") & ~(XCR0.X87 | XCR0.SSE))


def _mend_mask(draft: _Draft, rule: Rule) -> None:
    _clear(draft, rule, "xfeature_mask")


def _mend_reserved(draft: _Draft, rule: Rule) -> None:
    for number in range(6):
        draft.set(f"{_XSAVE}.reserved[{number}]", 0)


def _fit_states(draft: _Draft, rule: Rule) -> None:
    """The length of the image for xcr0_accum. A state that is not in xstate_bv has its initial
    value, whatever is in its place; of one that is, no byte may be missing."""
    there, host = len(draft.record.body), draft.seen.host
    if there < _XSAVE_RESERVED:
        return
    _, accum, present = _states(draft)
    extended = present & ~(XCR0.X87 | XCR0.SSE)
    if not extended or _XSAVE_HEAD + host.xsave_size(extended) <= there:
        draft.resize(_XSAVE_HEAD + max(host.xsave_size(accum), x86.CPU_XSAVE.size - _XSAVE_HEAD))


def _only_legacy(seen: Seen) -> bool:
    """Whether the vcpu has no states but those that its CPU record has too."""
    return not seen.fields["xcr0_accum"] & ~(XCR0.X87 | XCR0.SSE)


_Row = tuple[int, int, int]


def _rows(body: bytes) -> list[_Row]:
    """(index, reserved, value) of each whole element."""
    rows = body[x86.CPU_MSR.size :]
    return list(_MSR.iter_unpack(rows[: len(rows) // _MSR.size * _MSR.size]))


def _as_body(rows: list[_Row]) -> bytes:
    return struct.pack("<II", len(rows), 0) + b"".join(_MSR.pack(*row) for row in rows)


def _with_rows(seen: Seen, rows: list[_Row]) -> list[Change]:
    """The steps from the rows of a record to others, of which there are no more."""
    if not rows:
        return [_removed(seen)]
    where, before = f"{seen.name}/{seen.instance}", _rows(seen.body())
    changes = [
        Change(SET, f"{where}.msr[{at}].{field}", value)
        for at, (old, new) in enumerate(zip(before, rows))
        for field, was, value in zip(("index", "_rsvd", "val"), old, new)
        if was != value
    ]
    if len(rows) < len(before):
        changes += [
            Change(SET, f"{where}.count", len(rows)),
            Change(SET, f"{where}.length", x86.CPU_MSR.size + len(rows) * _MSR.size),
        ]
    if len(changes) > _MOST_STEPS:
        return [Change(REMOVE, where), Change(ADD, where, _as_body(rows))]
    return changes


_MOST_STEPS = 16
"""More than that are put as a whole record."""


def _reserved_msrs(seen: Seen, rule: Rule) -> list[Change]:
    return _with_rows(seen, [(index, 0, value) for index, _, value in _rows(seen.body())])


def _refused_msrs(seen: Seen, rule: Rule) -> list[Change]:
    """Each with the bits that it may have; those that may have none are left out, the last in
    their places."""

    def accepted(index: int, value: int) -> bool:
        return not rule.fires(seen.altered(_as_body([(index, 0, value)])))

    rows: list[_Row] = []
    for index, reserved, value in _rows(seen.body()):
        kept = value
        if not accepted(index, value):
            kept = 0
            for bit in bits_of(value):
                if accepted(index, kept | bit):
                    kept |= bit
        if kept or (value == 0 and accepted(index, 0)):
            rows.append((index, reserved, kept))
    return _with_rows(seen, rows)


MISFRAMED = "says in the descriptor the length that the release has: records go on after that, and not after the other"
_MOST_TRIED = 8


def misframed(context: memoryview, release: Release, end: int) -> list[Change]:
    """Of the records before that offset the first whose descriptor alone is wrong: what follows
    looks like records of other types, and is refused in its place."""
    sizes, at, tried = release.sizes(), x86.DESCRIPTOR.size + x86.HEADER.size, 0
    while at < end and at + x86.DESCRIPTOR.size <= len(context) and tried < _MOST_TRIED:
        typecode, instance, length = x86.DESCRIPTOR.unpack_from(context, at)
        known, body = by_typecode(typecode), at + x86.DESCRIPTOR.size
        size = None if known is None or known.name in VARIABLE else sizes.get(known.name)
        if known is not None and size is not None and length != size:
            tried += 1
            after, other = (bytes(context[body + n :]) for n in (size, length))
            if _goes_on(after, typecode) and not _goes_on(other, typecode):
                return [Change(SET, f"{known.name}/{instance}.descriptor.length", size)]
        at = body + length
    return []


def _counted(body: bytes) -> int:
    """The length of a CPU_MSR record by its count."""
    return x86.CPU_MSR.size + int.from_bytes(body[:4], "little") * _MSR.size


def _mend_count(draft: _Draft, rule: Rule) -> None:
    """The length follows from the count, where that many MSRs are there; else the count from
    what is there."""
    body = draft.seen.after(0)
    meant = _counted(body)
    whole = len(_rows(draft.seen.body()))
    if x86.CPU_MSR.size < meant <= len(body):
        draft.resize(meant)
    elif whole:
        draft.resize(x86.CPU_MSR.size + whole * _MSR.size)
        draft.set("count", whole)


def _meant_length(seen: Seen, rule: Rule) -> list[Change]:
    """A record without MSRs is one that no release takes."""
    if seen.length < x86.CPU_MSR.size + _MSR.size and not seen.number(0):
        return [_removed(seen)]
    return _MEND_COUNT.changes(seen, rule)


def _header(seen: Seen, rule: Rule) -> list[Change]:
    """What a release writes at the start; the CPU's name only if the policy has it."""
    if seen.length:
        return [Change(SET, "HEADER/0.length", x86.HEADER.size)]
    if seen.after(0)[:4] == _MAGIC and _goes_on(seen.after(x86.HEADER.size), 0):
        return [Change(SET, "HEADER/0.descriptor.length", x86.HEADER.size)]
    values = {
        "magic": x86.HVM_FILE_MAGIC, "version": x86.HVM_FILE_VERSION,
        "changeset": _EVERY_BIT, "cpuid": seen.guest.register(1, None, 2),
    }  # fmt: skip
    return [Change(ADD, "HEADER/0", x86.HEADER.layout.encode(values))]


def _end(seen: Seen, rule: Rule) -> list[Change]:
    """What is left, less than a descriptor, then comes after END, where nobody reads."""
    return [Change(ADD, "END/0", b"")]


_FIT = _remedy(
    "cuts off what this release does not know, or fills up with zeros what it knows and the "
    "record lacks", _fit,
)  # fmt: skip
_NO_VCPU = _removal("removes the record: no vcpu has that number, so nobody loses anything")
_NO_DEVICE = _removal("removes the record: the guest has no such device")
_STATES = _remedy(
    "keeps in xcr0_accum the states that are in use, and of the others those that are allowed",
    _mend_states,
)
_FIT_STATES = _remedy("gives the record the length of the states in xcr0_accum", _fit_states)
_COUNTS = (
    "gives the record the length of as many MSRs as it counts, which senders before 4.10 got wrong"
)
_MEND_COUNT = _remedy(_COUNTS, _mend_count)
_MEANT = Remedy(_COUNTS, _meant_length)
_ZEROES = "clears what is reserved: no release gives it a meaning"

_BY_RECORD = {"CPU_MSR": _MEANT, "CPU_XSAVE": _FIT_STATES}
"""Whose length is their own."""

# fmt: off
REMEDIES = {
    "context-header": Remedy("puts a header before the first record", _header),
    "context-magic": _sets("puts Xen's magic in its place", ("magic", x86.HVM_FILE_MAGIC)),
    "context-version": _sets("puts the only version in its place", ("version", x86.HVM_FILE_VERSION)),
    "context-end": Remedy("puts an END record after the last; what may have been between them is lost", _end),
    "context-type": _removal("removes the record, which this release cannot load: what it says is lost", lambda seen: _goes_on(seen.after(seen.length), 0)),
    "context-bounds": Remedy(_FIT.words, lambda seen, rule: _BY_RECORD.get(seen.name, _FIT).changes(seen, rule)),
    "cpu-length": _FIT,
    "cpu-pad0": _sets(_ZEROES, ("pad0", 0)),
    "cpu-cr0": _remedy("clears bits that no CPU has, and sets ET, which every CPU has set", _mend_cr0),
    "cpu-cr4": _clears("clears bits that are reserved or only forbid something; a guest that needs the others needs a host that has them", "cr4", _CR4_MAY_GO),
    "cpu-efer": _clears("clears bits that are reserved or that a guest does without; a guest that needs the others needs a host that has them", "msr_efer", _EFER_MAY_GO),
    "cpu-dr": _remedy("clears bits above 31, which no CPU keeps", _mend_dr),
    "cpu-cr3": _clears("clears bit 63, which only counts at the moment of writing cr3", "cr3", _CR3_NO_FLUSH),
    "cpu-flags": _clears(_ZEROES, "flags", ~x86.XEN_X86_FPU_INITIALISED),
    "cpu-tsc-aux": _clears("clears bits above 31, which RDTSCP does not give", "msr_tsc_aux"),
    "cpu-event": _remedy("clears reserved bits of the pending event; if its type is invalid, the event is lost", _mend_event),
    "cpu-error-code": _clears("clears bits above 15, which no error code has", "error_code"),
    "pic-instance": _removal("removes the record: there are only two PICs"),
    "pic-int-output": _sets("sets the output, which is not 0", ("int_output", 1)),
    "pic-state": _remedy("makes is_master that of the instance, lowers the output of a PIC that is being initialised, and clears bits of elcr whose pins are edge-triggered", _mend_pic),
    "lapic-base": _remedy("sets EN: no APIC gets into x2APIC mode without", lambda draft, rule: draft.set("apic_base_msr", draft.number("apic_base_msr") | ApicBase.EN)),
    "pci-link-pad0": _sets(_ZEROES, ("pad0", bytes(4))),
    "pci-link-route": _remedy("leaves the link without an IRQ, as 0 says: its interrupts are lost until the guest routes it anew", _mend_route),
    "pit-range": _remedy("puts what is out of range at the end of its range", _mend_pit),
    "pit-gate": _sets("opens the gates, which are always open on a PC", ("channels[0].gate", 1), ("channels[1].gate", 1)),
    "mtrr-cap": _remedy("says eight variable ranges, as many as the record has", lambda draft, rule: draft.set("msr_mtrr_cap", draft.number("msr_mtrr_cap") & ~0xFF | x86.MTRR_VCNT)),
    "viridian-domain-tsc-page": _remedy("turns off the reference TSC, for which the guest has no page", lambda draft, rule: draft.set("reference_tsc", draft.number("reference_tsc") & ~1)),
    "cpu-xsave-host": _removal("removes the record, if it has no states but those of the CPU record", _only_legacy),
    "cpu-xsave-cut": _FIT_STATES,
    "cpu-xsave-length": _FIT_STATES,
    "cpu-xsave-long": _FIT_STATES,
    "cpu-xsave-mask": _remedy("clears states that the host does not have; nothing reads them", _mend_mask),
    "cpu-xsave-states": _STATES,
    "cpu-xsave-compact": _STATES,
    "cpu-xsave-reserved": _remedy(_ZEROES, _mend_reserved),
    "cpu-xsave-excess": _FIT_STATES,
    "cpu-xsave-short": _FIT_STATES,
    "viridian-vcpu-pad": _sets(_ZEROES, ("_pad", bytes(7))),
    "vmce-vcpu-caps": _clears("clears capabilities that the host's vendor does not have", "caps"),
    "cpu-msr-cut": _MEANT,
    "cpu-msr-length": _MEANT,
    "cpu-msr-count": _MEANT,
    "cpu-msr-reserved": Remedy(_ZEROES, _reserved_msrs),
    "cpu-msr-index": Remedy("clears bits that the guest may not set, as senders do since 4.17; an MSR that may have none is left out, and starts as 0", _refused_msrs),
    "cpu-msr-mask": Remedy("clears bits above 31", _refused_msrs),
    **{f"{name}-length": _FIT for name in ("pic", "ioapic", "lapic", "lapic-regs", "pci-irq", "isa-irq", "pci-link", "pit", "rtc", "hpet", "pmtimer", "mtrr", "viridian-domain", "viridian-vcpu", "vmce-vcpu", "tsc-adjust")},
    **{f"{name}-device": _NO_DEVICE for name in ("pic", "ioapic", "lapic", "lapic-regs", "pit", "rtc", "hpet", "pmtimer")},
    **{f"{name}-vcpu": _NO_VCPU for name in ("lapic", "lapic-regs", "mtrr", "cpu-xsave", "viridian-vcpu", "vmce-vcpu", "tsc-adjust", "cpu-msr")},
}
# fmt: on
"""A rule that is not here has no remedy: a guest with a CPU record beyond its vcpus, or whose page
tables are gone, is not to be had from this image."""
