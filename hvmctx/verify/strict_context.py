"""What is questionable about an HVM context even if Xen loads it: state that no CPU can have,
reserved bits, and records that are missing, repeated, or out of order.

Sources: the writer's order and records, xen/common/hvm/save.c, 4.0 to c447b730; Intel SDM
vol. 3, 27.3.1 "Checks on the Guest State Area" and AMD APM vol. 2, 15.5.1: with what state a
CPU cannot enter a guest.
"""

from __future__ import annotations

from functools import cache

from hvmctx.abi import x86
from hvmctx.abi.declare import DOMAIN
from hvmctx.abi.fields import Layout
from hvmctx.abi.registry import record_types
from hvmctx.abi.releases import emission_order
from hvmctx.abi.x86_bits import CR0, CR4, EFER, RFLAGS, ApicBase, bit_names, dpl
from hvmctx.findings import ERROR, NOTE, WARNING, Finding
from hvmctx.limits import DEFAULT
from hvmctx.restore.effects import unfolded
from hvmctx.restore.rules import WHOLE, Rule, Seen
from hvmctx.stream.reader import CONTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from hvmctx.abi.vmport import VmportProfile
    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.context.record import Record
    from hvmctx.limits import Limits

    Fields = dict[str, Any]

_MXCSR_AT, _MXCSR = 24, 0xFFFF
_DATA, _SYSTEM = ("ds", "es", "fs", "gs", "ss"), ("tr", "ldtr")
_SEGMENTS = ("cs", *_DATA, *_SYSTEM)
_ALWAYS_CANONICAL = (
    "tr_base", "ldtr_base", "gdtr_base", "idtr_base", "sysenter_esp", "sysenter_eip",
    "shadow_gs", "msr_lstar", "msr_cstar",
)  # fmt: skip
_MEMORY_TYPES, _PAT_TYPES = (0, 1, 4, 5, 6), (0, 1, 4, 5, 6, 7)
_APIC_ID_AT = 0x20


class _Segment:
    """A segment register, with its attributes packed into 12 bits."""

    def __init__(self, fields: Fields, name: str) -> None:
        self.name = name
        self.selector = fields[f"{name}_sel"]
        self.limit = fields[f"{name}_limit"]
        self.base = fields[f"{name}_base"]
        self.attributes = unfolded(fields[f"{name}_arbytes"])
        self.type = self.attributes & 0xF
        self.code_or_data = bool(self.attributes & 0x10)
        self.dpl = dpl(self.attributes)
        self.present = bool(self.attributes & 0x80)
        self.long = bool(self.attributes & 0x200)
        self.big = bool(self.attributes & 0x400)
        self.granular = bool(self.attributes & 0x800)

    def __str__(self) -> str:
        return f"{self.name}_arbytes is {self.attributes:#x}"


def _is_long(fields: Fields) -> bool:
    return bool(fields["msr_efer"] & EFER.LMA)


def _is_v86(fields: Fields) -> bool:
    return bool(fields["cr0"] & CR0.PE and fields["rflags"] & RFLAGS.VM) and not _is_long(fields)


def _protected(fields: Fields) -> bool:
    return bool(fields["cr0"] & CR0.PE) and not _is_v86(fields)


def _canonical(value: int, fields: Fields) -> bool:
    width = 57 if fields["cr4"] & CR4.LA57 else 48
    return value >> width - 1 in (0, (1 << 65 - width) - 1)


def _non_canonical(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    names = list(_ALWAYS_CANONICAL)
    if _is_long(fields):
        names += ["fs_base", "gs_base"]
        if _Segment(fields, "cs").long:
            names.append("rip")
    return (f"{n} is {fields[n]:#x}" for n in names if not _canonical(fields[n], fields))


def _rip_beyond(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    if fields["rip"] >> 32 and not (_is_long(fields) and _Segment(fields, "cs").long):
        yield f"{fields['rip']:#x}"


def _cr0(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    cr0 = fields["cr0"]
    if cr0 & CR0.PG and not cr0 & CR0.PE:
        yield "paging without protection"
    if cr0 & CR0.NW and not cr0 & CR0.CD:
        yield "NW without CD"
    if fields["cr4"] & CR4.CET and not cr0 & CR0.WP:
        yield "CET without WP"


def _long_mode(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    efer = fields["msr_efer"]
    active = bool(efer & EFER.LME) and bool(fields["cr0"] & CR0.PG)
    if bool(efer & EFER.LMA) != active:
        yield f"LMA is {efer >> 10 & 1}, LME and paging say {int(active)}"
    if not efer & EFER.LMA and fields["cr4"] & CR4.PCIDE:
        yield "PCIDE outside of long mode"
    if efer & EFER.LMA and not fields["cr4"] & CR4.PAE:
        yield "long mode without PAE"
    if efer & EFER.LMA and fields["rflags"] & RFLAGS.VM:
        yield "virtual-8086 mode within long mode"


def _rflags(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    reserved = fields["rflags"] & ~RFLAGS.KNOWN
    if reserved:
        yield ", ".join(bit_names(RFLAGS, reserved))


def _mxcsr(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    mxcsr = int.from_bytes(fields["fpu_regs"][_MXCSR_AT : _MXCSR_AT + 4], "little")
    if fields["flags"] & x86.XEN_X86_FPU_INITIALISED and mxcsr & ~_MXCSR:
        yield f"{mxcsr:#x}"


def _debug(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    return (f"{name} is {fields[name]:#x}" for name in ("dr6", "dr7") if fields[name] >> 32)


def _attribute_bits(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    segments = (_Segment(fields, name) for name in _SEGMENTS)
    return (str(segment) for segment in segments if segment.attributes & ~0xFFF)


def _limits(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    if _is_v86(fields):
        return
    for name in _SEGMENTS:
        segment = _Segment(fields, name)
        if not segment.present:
            continue
        if segment.limit >> 20 and not segment.granular:
            yield f"{name}_limit is {segment.limit:#x}, counted in bytes"
        elif segment.limit & 0xFFF != 0xFFF and segment.granular:
            yield f"{name}_limit is {segment.limit:#x}, counted in pages"


def _cs(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    segment = _Segment(fields, "cs")
    if not _protected(fields):
        return
    if _is_long(fields) and segment.long and segment.big:
        yield f"{segment}: both 64-bit and 32-bit"
    if not segment.present or not segment.code_or_data:
        yield f"{segment}: not present, or a system segment"
    elif segment.type < 8 and segment.type != 3:
        yield f"{segment}: data, not code"


def _data(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    if _protected(fields):
        for name in _DATA:
            segment = _Segment(fields, name)
            if segment.present and not segment.code_or_data:
                yield f"{segment}: a system segment"


def _tr(seen: Seen) -> bool | list[str]:
    fields = seen.fields
    segment = _Segment(fields, "tr")
    busy = (11,) if _is_long(fields) else (3, 11)
    right = segment.present and not segment.code_or_data and segment.type in busy
    return False if right else [str(segment)]


def _ldtr(seen: Seen) -> bool | list[str]:
    fields = seen.fields
    segment = _Segment(fields, "ldtr")
    wrong = segment.present and (segment.code_or_data or segment.type != 2)
    return [str(segment)] if wrong else False


def _v86(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    if not _is_v86(fields):
        return
    for name in ("cs", *_DATA):
        segment = _Segment(fields, name)
        if segment.attributes & 0xFF != 0xF3:
            yield str(segment)
        if segment.base != segment.selector << 4 or segment.limit != 0xFFFF:
            yield f"{name} is {segment.selector:#x}, at {segment.base:#x}, limit {segment.limit:#x}"


def _privilege(seen: Seen) -> bool:
    fields = seen.fields
    cs, ss = _Segment(fields, "cs"), _Segment(fields, "ss")
    conforming = cs.type >= 12
    return _protected(fields) and cs.present and ss.present and not conforming and cs.dpl != ss.dpl


def _apic_base(seen: Seen) -> bool | list[str]:
    fields = seen.fields
    base = fields["apic_base_msr"]
    wrong = base & ApicBase.RESERVED or base & ~0xFFF != ApicBase.ADDRESS
    return [f"{base:#x}"] if wrong else False


def _types(values: Iterable[int], allowed: tuple[int, ...]) -> list[str]:
    wrong = sorted({value for value in values if value not in allowed})
    return [", ".join(map(str, wrong))] if wrong else []


def _pat(seen: Seen) -> list[str]:
    fields = seen.fields
    return _types(fields["msr_pat_cr"].to_bytes(8, "little"), _PAT_TYPES)


def _mtrr_types(seen: Seen) -> list[str]:
    fields = seen.fields
    fixed = (byte for value in fields["msr_mtrr_fixed"] for byte in value.to_bytes(8, "little"))
    bases = (value & 0xFF for value in fields["msr_mtrr_var"][::2])
    return _types((*fixed, *bases, fields["msr_mtrr_def_type"] & 0xFF), _MEMORY_TYPES)


def _redirections(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    for pin, entry in enumerate(fields["redirtbl"]):
        word = entry["bits"]
        if word & 0x00FFFFFFFFFE0000:
            yield f"pin {pin} is {word:#x}"


class _Kept(Seen):
    """A record of a context, read with the structure of the newest release."""

    __slots__ = ("_record", "instance", "length", "name")
    layer = CONTEXT

    def __init__(self, record: Record) -> None:
        self._record = record
        self.name = record.name
        self.instance = record.instance
        self.length = record.length

    @property
    def fields(self) -> Fields:
        return self._record.fields()


# fmt: off
RULES = tuple(Rule(CONTEXT, row[0], row[1], row[3], row[4], severity=row[2]) for row in (
    ("CPU", "cpu-cr0-contradiction", ERROR, _cr0, "no CPU holds such control registers"),
    ("CPU", "cpu-long-mode", ERROR, _long_mode, "EFER does not match the control registers"),
    ("CPU", "cpu-canonical", ERROR, _non_canonical, "not a canonical address"),
    ("CPU", "cpu-rip", ERROR, _rip_beyond, "rip is beyond 4 GiB outside of 64-bit code"),
    ("CPU", "cpu-rflags", ERROR, _rflags, "reserved bits of rflags are set"),
    ("CPU", "cpu-dr-high", WARNING, _debug, "the upper half is reserved"),
    ("CPU", "cpu-mxcsr", WARNING, _mxcsr, "reserved bits of MXCSR are set: restoring them faults"),
    ("CPU", "segment-bits", WARNING, _attribute_bits, "segment attributes have 12 bits"),
    ("CPU", "segment-limit", ERROR, _limits, "limit and granularity do not match"),
    ("CPU", "segment-cs", ERROR, _cs, "no CPU executes such a code segment"),
    ("CPU", "segment-data", ERROR, _data, "no CPU has such a data segment"),
    ("CPU", "segment-tr", ERROR, _tr, "not a busy task state segment"),
    ("CPU", "segment-ldtr", ERROR, _ldtr, "not a local descriptor table"),
    ("CPU", "segment-v86", ERROR, _v86, "not a segment of virtual-8086 mode"),
    ("CPU", "segment-privilege", WARNING, _privilege, "cs and ss have different privilege levels"),
    ("LAPIC", "lapic-base-msr", WARNING, _apic_base, "reserved bits are set, or the base is not the one that Xen uses"),
    ("IOAPIC", "ioapic-base", WARNING, lambda s: s.fields["base_address"] != 0xFEC00000, "not the base address that Xen uses"),
    ("IOAPIC", "ioapic-reserved", WARNING, _redirections, "reserved bits of a redirection entry are set"),
    ("MTRR", "mtrr-pat", WARNING, _pat, "unknown memory type; Xen ignores the PAT"),
    ("MTRR", "mtrr-type", WARNING, _mtrr_types, "unknown memory type; Xen ignores the MTRR"),
))
OF_WHOLE = {row[0]: Rule(CONTEXT, WHOLE, row[0], None, row[2], severity=row[1]) for row in (
    ("reserved-field", WARNING, "padding or a reserved field is not zero"),
    ("context-order", WARNING, "records are not in the writer's order: by type, then by instance"),
    ("context-duplicate", WARNING, "a record occurs twice: Xen loads both, and the last one stays"),
    ("context-end-body", WARNING, "END has a body or an instance"),
    ("context-tail", WARNING, "bytes follow END"),
    ("context-no-cpu", WARNING, "no vcpu has a CPU record: none will run"),
    ("context-incomplete", WARNING, "a record is missing that Xen always writes along with the others"),
    ("lapic-bsp", WARNING, "the boot processor is not vcpu 0"),
    ("lapic-id", WARNING, "the LAPIC's id is not twice the number of the vcpu"),
    ("lapic-same-id", WARNING, "two LAPICs have the same id"),
    ("vcpu-offline", NOTE, "a vcpu is offline: it has a LAPIC, but no CPU record"),
)}
"""Id -> rule about all records, or about several together."""
# fmt: on

_WITH_CPU = ("LAPIC", "LAPIC_REGS", "MTRR")
_PLATFORM = tuple(known.name for known in record_types() if known.scope == DOMAIN and known.name
                  not in ("VIRIDIAN_DOMAIN", "VMPORT"))  # fmt: skip
_PVH = ("PCI_IRQ", "ISA_IRQ", "PCI_LINK")
"""Those of a guest without emulated devices."""


def findings_of(
    context: HvmContext,
    base_offset: int = 0,
    vmport: VmportProfile | None = None,
    limits: Limits = DEFAULT,
) -> list[Finding]:
    """The findings about a context whose first byte is at `base_offset`, as many as `limits`
    allow; `vmport` is the profile of its VMPORT records (default: the one in use). Never
    raises."""
    judging = _Judging(context, base_offset, vmport, limits)
    judging.run()
    return judging.findings


class _Judging:
    def __init__(
        self, context: HvmContext, base_offset: int, vmport: VmportProfile | None, limits: Limits
    ) -> None:
        self._limits = limits
        self._context = context
        self._base = base_offset
        self._size = context.size  # of all records: to be counted once
        self._vmport = vmport
        self.findings: list[Finding] = []
        self._times: dict[str, int] = {}

    def _say(self, rule: Rule, text: str, record: Record | None = None) -> None:
        times = self._times[rule.id] = self._times.get(rule.id, 0) + 1
        most = self._limits.rule_findings
        if times > most or self._full:
            return
        if times == most:
            text += "; further findings suppressed"
        offset = self._base + ((record.offset or 0) if record else self._size)
        name = f"{record.name}/{record.instance}" if record else ""
        self.findings.append(
            Finding(rule.severity, rule.id, text, layer=CONTEXT, offset=offset, record=name)
        )

    @property
    def _full(self) -> bool:
        """More than are shown, so that whoever cuts them off says so."""
        return len(self.findings) > self._limits.findings

    def run(self) -> None:
        for record in self._context.entries:
            self._record(record)
        self._order()
        self._ends()
        self._completeness()
        self._lapics()

    def _record(self, record: Record) -> None:
        if self._full:
            return
        if record.name == "VMPORT":
            from hvmctx.restore import vmport

            self.findings += vmport.findings_of(
                record.to_bytes(), self._vmport, self._base + (record.offset or 0)
            )
            return
        known = record.type
        if known is None or not known.size:
            return
        seen = _Kept(record)
        for rule in RULES:
            if rule.record == record.name:
                for text in rule.texts(seen):
                    self._say(rule, text, record)
        body = bytes(record.as_read(known.size))
        for name, offset, size, mask in _reserved(known.struct):
            value = int.from_bytes(body[offset : offset + size], "little") & mask
            if value:
                text = f"{name} is not zero: {body[offset : offset + size].hex()}"
                self._say(OF_WHOLE["reserved-field"], text, record)

    def _order(self) -> None:
        before = emission_order(x86.HEADER.typecode, 0)
        seen = set()
        for record in self._context.entries:
            key = emission_order(record.typecode, record.instance)
            if record.typecode in (x86.END.typecode, x86.HEADER.typecode):
                continue
            if key in seen:
                self._say(OF_WHOLE["context-duplicate"], "the context has an earlier one", record)
            elif key < before:
                self._say(OF_WHOLE["context-order"], "after a record that Xen writes later", record)
            seen.add(key)
            before = max(before, key)

    def _ends(self) -> None:
        context = self._context
        if not context.has_end:
            return
        end = context.entries[-1]
        if end.length or end.instance:
            text = f"END has {end.length} bytes, instance {end.instance}"
            self._say(OF_WHOLE["context-end-body"], text, end)
        if len(context.tail):
            self._say(OF_WHOLE["context-tail"], f"{len(context.tail)} bytes follow END")

    def _completeness(self) -> None:
        there = {(record.name, record.instance) for record in self._context.entries}
        cpus = sorted(instance for name, instance in there if name == "CPU")
        if not cpus:
            self._say(OF_WHOLE["context-no-cpu"], OF_WHOLE["context-no-cpu"].words)
        for vcpu in cpus:
            for name in _WITH_CPU:
                if (name, vcpu) not in there:
                    text = f"CPU/{vcpu} is present, {name}/{vcpu} is not"
                    self._say(OF_WHOLE["context-incomplete"], text)
        for name, instance in sorted(there):
            if name == "LAPIC" and cpus and ("CPU", instance) not in there:
                self._say(
                    OF_WHOLE["vcpu-offline"], f"vcpu {instance} is offline: it has no CPU record"
                )
        names = {name for name, _ in there}
        expected = _PLATFORM if names & (set(_PLATFORM) - set(_PVH)) else _PVH
        for name in expected:
            if cpus and name not in names:
                self._say(OF_WHOLE["context-incomplete"], f"there is no {name} record")
        if ("PIC", 0) in there and ("PIC", 1) not in there:
            self._say(OF_WHOLE["context-incomplete"], "PIC/0 is present, PIC/1 is not")

    def _lapics(self) -> None:
        modes: dict[int, int] = {}
        for record in self._context.records(x86.LAPIC):
            fields: dict[str, Any] = record.fields()
            base = modes[record.instance] = fields["apic_base_msr"]
            if bool(base & ApicBase.BSP) != (record.instance == 0):
                text = f"vcpu {record.instance}: apic_base_msr is {base:#x}"
                self._say(OF_WHOLE["lapic-bsp"], text, record)
        ids: dict[int, int] = {}
        for record in self._context.records(x86.LAPIC_REGS):
            vcpu = record.instance
            data = bytes(record.as_read(x86.LAPIC_REGS.size))
            number = int.from_bytes(data[_APIC_ID_AT : _APIC_ID_AT + 4], "little")
            if not modes.get(vcpu, 0) & ApicBase.EXTD:
                number >>= 24
            if ids.get(number, vcpu) != vcpu:
                text = f"id {number}, the same as vcpu {ids[number]}"
                self._say(OF_WHOLE["lapic-same-id"], text, record)
            elif number != 2 * vcpu:
                text = f"id {number}, expected {2 * vcpu} for vcpu {vcpu}"
                self._say(OF_WHOLE["lapic-id"], text, record)
            ids.setdefault(number, vcpu)


@cache
def _reserved(struct: Any) -> list[tuple[str, int, int, int]]:
    """(path, offset, bytes, mask of the bits) of every field that is padding or reserved."""
    return [
        (leaf.name, leaf.offset, leaf.size, (1 << leaf.width) - 1 << leaf.shift)
        for leaf in Layout.of(struct).leaves()
        if leaf.is_reserved and (leaf.is_bits or not leaf.alternate)
    ]


__all__ = ["OF_WHOLE", "RULES", "findings_of"]
