"""HVM contexts for fuzzing: valid ones, and edits that aim at the rules of a load.

All is derived from the declared layouts (`abi`), so that a record type is fuzzed as soon as it
is declared. `AIMS` adds the places of rules that depend on single bits or ranges.
"""

from __future__ import annotations

from functools import cache

from hvmctx.abi import x86
from hvmctx.abi.declare import MARKER, VMPORT_TYPECODE, RecordType
from hvmctx.abi.registry import by_name, record_types
from hvmctx.abi.releases import CPU_COMPAT_SIZE, RELEASES, Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.fuzz.values import LENGTHS, around, of_slot
from hvmctx.restore.rules import ANY, WHOLE
from hvmctx.save.reset import reset_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable

__all__ = [
    "AIMS", "FREE", "INSTANCES", "MAKERS", "STRUCTURAL", "any_record", "lengths", "loaded",
    "msr_record", "mutate_context", "mutate_record", "valid_context", "xsave_record",
]  # fmt: skip

AIMS: dict[str, dict[str, list[int]]] = {
    "CPU": {
        "cr0": [0, 0x10, 0x11, 0x80000010, 0x80000011, 0xE005003F, 0x40, 1 << 32, 0x60000010],
        "cr4": [*(1 << bit for bit in range(34)), 0, 0x7FF, 0x6F0],
        "msr_efer": [*(1 << bit for bit in range(24)), 0, 0x500, 0x501, 0xD01, 0x1000, 0x4000],
        "dr6": [0, 0xFFFFFFFF, 1 << 32], "dr7": [0x400, 0xFFFFFFFF, 1 << 63],
        "cr3": [0, (1 << 40) - 1, 1 << 40, 1 << 63],
        "flags": [0, 1, 2, 3, 1 << 31], "pad0": [0, 1, 1 << 31],
        "msr_tsc_aux": [0, 0xFFFFFFFF, 1 << 32],
        "pending_event": [*(1 << 31 | kind << 8 | extra for kind in range(8)
                            for extra in (0, 1 << 11, 1 << 12, 0x20)), 0, 1 << 8, 0x7FFFF000],
        "error_code": [0, 0xFFFF, 0x10000], "rflags": [0, 2, 1 << 63],
        "cs_arbytes": [0, 0xA09B, 0x9B, 0xFFFFFFFF],
    },
    "PIC": {"elcr": [0, 4, 0xFC, 0xFD, 0xFE, 0xDE, 0x21, 1, 2], "int_output": [0, 1, 2, 255],
            "is_master": [0, 1], "init_state": [0, 1, 15]},
    "LAPIC": {"apic_base_msr": [0, 0x400, 0x800, 0xC00, 0xFEE00900, 0xFEE00400],
              "timer_divisor": [0, 1, 2, 128, 1 << 31]},
    "HPET": {"config": [0, 1, 3], "mc64": [0, 1 << 20, (1 << 32) - 1],
             **{f"timers[{n}].{name}": values for n in range(3) for name, values in (
                 ("config", [4, 0x104, 0x10C, 4 | 20 << 9, 0xF0000000000004 | 20 << 9]),
                 ("cmp", [0, (1 << 20) - 61036, 1 << 32]))}},
    "PCI_LINK": {**{f"route[{n}]": [0, 15, 16, 255] for n in range(4)}, "pad0[0]": [0, 1]},
    "PIT": {
        **{f"channels[{n}].{name}": values for n in range(3) for name, values in (
            ("count", [0, 0x10000, 0x10001]), ("count_latched", [0, 4, 5]),
            ("read_state", [0, 4, 5]), ("write_state", [4, 5]), ("rw_mode", [3, 4]),
            ("gate", [0, 0, 0, 1, 2]), ("bcd", [0, 1, 2]), ("mode", [0, 5, 6, 7, 255]))},
        "speaker_data_on": [0, 1, 2], "pad0": [0, 1],
    },
    "MTRR": {"msr_mtrr_cap": [0, 8, 9, 255, 0x508, 0x109]},
    "VMCE_VCPU": {"caps": [0, 0xFF, 0x100, 0x1FF, 0x200, 1 << 24, 1 << 27, 1 << 63]},
    "VIRIDIAN_VCPU": {
        "_pad[0]": [0, 1], "_pad[6]": [0, 255], "vp_assist_msr": [0, 1], "simp_msr": [0, 1],
        "stimer_config_msr[0]": [0, 1, 0x10001, 0x10003], "stimer_count_msr[0]": [0, 1],
    },
    "HEADER": {"magic": [0, x86.HVM_FILE_MAGIC], "version": [0, 1, 2]},
}  # fmt: skip
"""Record -> path -> values at the bounds of its rules."""

_MSRS = (0x48, 0x140, 0x6E1, 0xD90, 0xDA0, 0xC001011F, 0xC0011027, 0xC0011019, 0xC001101A,
         0xC001101B, 0x10, 0xC0000080)  # fmt: skip
INSTANCES = (0, 1, 2, 3, 127, 128, 0xFFFF)


def valid_context(
    rng: random.Random, release: Release | None = None, vcpus: int | None = None
) -> HvmContext:
    """A context that this release loads into a guest with as many vcpus (by default one to
    three) and every device. Registers and device state are arbitrary where no rule restricts
    them."""
    release = release or Release("newest")
    context = reset_context(vcpus or rng.choice((1, 1, 2, 3)), release)
    for record in context.entries:
        _fill(rng, record)
    return context


FREE = {
    "CPU": ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r15", "rip", "cr2",
            "tsc", "msr_lstar", "msr_star", "shadow_gs", "fpu_regs"),
    "IOAPIC": ("ioregsel", "id", "redirtbl[0].bits", "redirtbl[47].bits"),
    "LAPIC": ("timer_divisor", "tdt_msr"),
    "LAPIC_REGS": ("data",),
    "PCI_IRQ": ("i[0]", "i[1]"), "ISA_IRQ": ("i[0]",),
    "RTC": ("cmos_data", "cmos_index"),
    "HPET": ("config", "mc64", "isr"), "PMTIMER": ("tmr_val", "pm1a_sts", "pm1a_en"),
    "MTRR": ("msr_pat_cr", "msr_mtrr_def_type"), "TSC_ADJUST": ("tsc_adjust",),
    "VMCE_VCPU": ("mci_ctl2_bank0", "mci_ctl2_bank1"),
}  # fmt: skip
"""Record -> fields that may have any value."""


def _fill(rng: random.Random, record: Record) -> None:
    known = record.type
    body = bytearray(record.body)
    for path in FREE.get(record.name, ()):
        if rng.random() < 0.5:
            assert known is not None
            slot = known.layout.locate(path)
            if slot.offset + slot.size <= len(body):
                slot.put(body, of_slot(slot, rng))
    record.body = bytes(body)


def xsave_record(rng: random.Random, vcpu: int) -> Record:
    """An XSAVE record: any states, reserved words and lengths, and bytes after the image."""
    states = rng.choice((1, 2, 3, 7, 7, 7, 0x207, 6, 5, 0xFF, 0x1F, 0x20007, 1 << 62 | 7, 0))
    accum = states | rng.choice((0, 0, 0, 7, 0x200, 0x18))
    fixed, head = x86.CPU_XSAVE.size, x86.hvm_hw_cpu_xsave.save_area.offset
    sizes = (fixed, fixed - 1, fixed + 8, head + 832, head + 833, head + 2696, head, 0, 900, 4096)
    body = bytearray(rng.choice(sizes))
    if len(body) >= fixed:
        slot = x86.CPU_XSAVE.layout.locate
        slot("xfeature_mask").put(body, states)
        slot("xcr0").put(body, states)
        slot("xcr0_accum").put(body, accum)
        header = "save_area.xsave_hdr."
        slot(header + "xstate_bv").put(body, rng.choice((0, 1, 3, accum, accum, 1 << 9)))
        slot(header + "xcomp_bv").put(body, rng.choice((0, 0, 0, 0, 1 << 63, 1)))
        if rng.random() < 0.2:
            body[rng.randrange(slot(header + "reserved[0]").offset, fixed)] = 1
        if rng.random() < 0.5 and len(body) > fixed:
            body[rng.choice((rng.randrange(fixed, len(body)), len(body) - 1))] = 1
    return Record(x86.CPU_XSAVE, vcpu, bytes(body))


def msr_record(rng: random.Random, vcpu: int) -> Record:
    """An MSR record: known and unknown MSRs, values of all sizes, counts that are wrong."""
    count = rng.choice((0, 1, 1, 1, 2, 3))
    claimed, pad = rng.choice((count, count, count, count + 1)), rng.choice((0, 0, 1))
    body = bytes(x86.hvm_msr(claimed, pad))
    for _ in range(count):
        value = rng.choice((0, 1, 2, 0xFFFFFFFF, 1 << 32, 1 << 63))
        body += bytes(x86.hvm_one_msr(rng.choice(_MSRS), rng.choice((0, 0, 0, 0, 1)), value))
    return Record(x86.CPU_MSR, vcpu, body + bytes(rng.choice((0, 0, 0, 0, 1, 16))))


MAKERS: dict[str, Callable[[random.Random, int], Record]] = {
    "CPU_XSAVE": xsave_record,
    "CPU_MSR": msr_record,
}
"""What makes records whose bodies are more than their declared fields."""


def any_record(rng: random.Random, known: RecordType) -> Record:
    """A record of a type, its fields on borders, mostly as long as it should be."""
    if known.name in MAKERS:
        return MAKERS[known.name](rng, rng.choice((0, 0, 0, 0, 1, 2, 128)))
    body = bytearray(known.size)
    for path in known.layout.paths() if known.size else ():
        if rng.random() < 0.2:
            slot = known.layout.locate(path)
            slot.put(body, of_slot(slot, rng))
    size = rng.choice((*[len(body)] * 4, *lengths(known)))
    size += rng.choice((0, 0, 0, 0, -1, 1, 8))
    return Record(known, rng.choice(INSTANCES), bytes(body[: max(size, 0)]).ljust(size, b"\0"))


def mutate_context(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """The context with one or two edits, and what they are in words."""
    context = HvmContext.from_bytes(data, damaged=True)
    if not context.entries:
        return rng.randbytes(rng.randrange(40)), "noise"
    what: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 1, 2))):
        if context.entries:  # the first edit may have dropped the only one
            what.append(_edit(rng, context))
    made = context.to_bytes()
    if rng.random() < 0.03:
        made = made[: rng.randrange(len(made))] if made else made
        what.append("cut")
    elif rng.random() < 0.02 and made:
        at = rng.randrange(len(made))
        made = made[:at] + rng.randbytes(rng.randrange(1, 9)) + made[at:]
        what.append("bytes inserted")
    return made, "; ".join(what)


def mutate_record(data: bytes, rng: random.Random, name: str) -> tuple[bytes, str]:
    """The context with one edit that aims at the rules about records of that name, HEADER
    among them, or about all records or the whole (`rules.ANY` and `WHOLE`)."""
    context = HvmContext.from_bytes(data, damaged=True)
    if not context.entries:
        return mutate_context(data, rng)
    if name == WHOLE:
        most = len(data) if rng.random() < 0.5 else x86.DESCRIPTOR.size
        return data[: -rng.randrange(1, most + 1)], "cut"
    if name == ANY:
        what = rng.choice((_lie, _drop, _retype))(rng, context)
        return context.to_bytes(), what
    if name == "HEADER" and rng.random() < 0.6:
        what = _header(rng, context)
    elif name == "CPU" and rng.random() < 0.1:
        what = _event(rng, context)
    else:
        known = by_name(name)
        if known.name not in MAKERS and not context.records(known) and rng.random() < 0.7:
            plain = Record(known, 0, bytes(rng.choice(lengths(known))))
            context.entries.insert(_before_end(context), plain)
        what = _change(rng, context, known, rng.uniform(0.1, 0.9))
        if rng.random() < 0.1 and (found := context.records(known)):
            at = next(at for at, record in enumerate(context.entries) if record is found[-1])
            what += f"; {_lie(rng, context, at)}"
    return context.to_bytes(), what


def loaded() -> tuple[list[RecordType], list[int]]:
    """The types of record that a release's loader looks into (VMPORT's only the patch's), and
    how often to change each."""
    types = [
        known for known in record_types()
        if known.scope != MARKER and known.typecode != VMPORT_TYPECODE
    ]  # fmt: skip
    return types, [5 if k.name in AIMS or k.name in MAKERS else 1 for k in types]


def _edit(rng: random.Random, context: HvmContext) -> str:
    kind = rng.random()
    if kind < 0.02:
        return _event(rng, context)
    if kind < 0.04:
        return _header(rng, context)
    if kind < 0.72:
        types, weights = loaded()
        return _change(rng, context, rng.choices(types, weights)[0])
    return rng.choice((*STRUCTURAL, _put_vmport))(rng, context)


def _change(
    rng: random.Random, context: HvmContext, known: RecordType, at: float | None = None
) -> str:
    """Change a field, the length or the instance of a record of that type; insert one if
    there is none. `at` says which, from 0 to 1: random by default."""
    found = context.records(known)
    if not found or known.name in MAKERS:
        record = any_record(rng, known)
        context.entries.insert(_before_end(context), record)
        return f"{known.name} inserted"
    record, at = rng.choice(found), rng.random() if at is None else at
    if at < 0.15:
        record.instance = rng.choice(INSTANCES)
        return f"{known.name} instance {record.instance}"
    if at < 0.3:
        borders = lengths(known)
        others = max(0, len(record.body) - 8), borders[-1] + 1, borders[-1] + rng.randrange(2, 40)
        size = rng.choice((*around(rng.choice(borders)), *others))
        record.body = bytes(record.body[:size]).ljust(size, b"\0")
        return f"{known.name} length {size}"
    body = bytearray(record.body)
    aims = AIMS.get(known.name)
    if aims and at < 0.85:
        path = rng.choice(list(aims))
        slot = known.layout.locate(path)
        value = rng.choice(aims[path]) if rng.random() < 0.7 else of_slot(slot, rng)
    else:
        path = rng.choice(list(known.layout.paths()))
        slot = known.layout.locate(path)
        value = of_slot(slot, rng)
    if slot.offset + slot.size > len(body):
        return "nothing"
    slot.put(body, value)
    record.body = bytes(body)
    return f"{known.name}.{path} = {value.hex() if isinstance(value, bytes) else hex(value)}"


@cache
def lengths(known: RecordType) -> list[int]:
    """Every length of a type in some release, and 0."""
    sizes = {row[known.name] for row in RELEASES.values() if known.name in row}
    sizes |= {0, known.size}
    return sorted(sizes | ({CPU_COMPAT_SIZE} if known is x86.CPU else set()))


def _before_end(context: HvmContext) -> int:
    return len(context.entries) - (1 if context.has_end else 0)


def _event(rng: random.Random, context: HvmContext) -> str:
    """A pending event with an error code, for rules that look at several fields together."""
    for record in context.records(x86.CPU)[:1]:
        body = bytearray(record.body)
        event = 1 << 31 | 1 << 11 | rng.choice((0, 2, 3, 4, 5, 6)) << 8 | rng.randrange(256)
        for path, value in (
            ("pending_event", event),
            ("error_code", rng.choice((0xFFFF, 0x10000))),
        ):
            slot = x86.CPU.layout.locate(path)
            if slot.offset + slot.size <= len(body):
                slot.put(body, value)
        record.body = bytes(body)
    return "a pending event with an error code"


def _header(rng: random.Random, context: HvmContext) -> str:
    """Change magic or version of the header."""
    path = rng.choice(("magic", "version"))
    for record in context.records(x86.HEADER)[:1]:
        body = bytearray(record.body)
        if len(body) == x86.HEADER.size:
            slot = x86.HEADER.layout.locate(path)
            slot.put(body, rng.choice((*AIMS["HEADER"][path], of_slot(slot, rng))))
            record.body = bytes(body)
    return f"HEADER.{path}"


def _lie(rng: random.Random, context: HvmContext, place: int | None = None) -> str:
    if place is None:
        place = rng.randrange(len(context.entries))
    old = context.entries[place]
    length = rng.choice((*LENGTHS, *around(len(old.body) + 8)))
    context.entries[place] = Record(old.typecode, old.instance, old.body, length=length)
    return f"{old.name} says length {length}"


def _drop(rng: random.Random, context: HvmContext) -> str:
    return f"{context.entries.pop(rng.randrange(len(context.entries))).name} dropped"


def _repeat(rng: random.Random, context: HvmContext) -> str:
    record = rng.choice(context.entries)
    context.entries.insert(rng.randrange(len(context.entries) + 1), record)
    return f"{record.name} again"


def _swap(rng: random.Random, context: HvmContext) -> str:
    one, other = (rng.randrange(len(context.entries)) for _ in range(2))
    entries = context.entries
    entries[one], entries[other] = entries[other], entries[one]
    return f"{entries[one].name} and {entries[other].name} swapped"


def _retype(rng: random.Random, context: HvmContext) -> str:
    record = rng.choice(context.entries)
    last = max(known.typecode for known in loaded()[0])
    record.typecode = rng.choice((0, 1, 2, 3, 5, 16, last, last + 1, last + 2, 33, 99, 0xFFFF))
    return f"type {record.typecode}"


def _put_vmport(rng: random.Random, context: HvmContext) -> str:
    from hvmctx.abi.vmport import used
    from hvmctx.fuzz.vmport import random_record

    record = random_record(rng, used())
    if len(record) < x86.DESCRIPTOR.size:
        return "nothing"
    code, instance, length = x86.DESCRIPTOR.unpack_from(record)
    context.entries.insert(
        _before_end(context), Record(code, instance, record[x86.DESCRIPTOR.size :], length=length)
    )
    return "VMPORT inserted"


STRUCTURAL = (_lie, _drop, _repeat, _swap, _retype)
"""Edits of whole records: of a length, of which there are, in which order, of which type."""
