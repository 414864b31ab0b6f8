"""What the fields of a save record mean, in words: `decoded`, which `dump --decode`, its JSON
and the report show.

A row is a field, or a few that only say something together, such as a segment's. What the
names of values and bits can say (`abi.names`) is said without a line of code here; the
functions below know the rest, one for a record.

Source: Intel SDM vol. 3, 3.4.5, 11.5, 12.11; AMD APM vol. 2; the datasheets of the 8254, 8259A,
82093AA and MC146818; IA-PC HPET 1.0a; Microsoft's TLFS; Xen's public arch-x86/hvm/save.h.
"""

from __future__ import annotations

from hvmctx.abi.msrs import MSR_BITS, msr_name
from hvmctx.abi.names import bits_of_field, names_of
from hvmctx.abi.x86_bits import (
    CR0,
    CR4,
    DR6,
    DR7,
    EFER,
    RFLAGS,
    XCR0,
    ApicBase,
    McgCap,
    Pm1,
    StimerConfig,
    bits_of,
    dpl,
    named,
    short_names,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeAlias

    from hvmctx.context.record import Record

    Fields: TypeAlias = dict[str, Any]
    Rows: TypeAlias = Iterator["Row"]

__all__ = ["Row", "decoded", "decoded_lines"]

_MOST_SHOWN = 32
_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldtr")
_MEMORY_TYPES = {0: "UC", 1: "WC", 4: "WT", 5: "WP", 6: "WB", 7: "UC-"}
_SYSTEM_SEGMENTS = {
    1: "16-bit TSS", 2: "LDT", 3: "busy 16-bit TSS", 9: "TSS", 11: "busy TSS",
}  # fmt: skip
_PIT_HZ, _PM_HZ, _RTC_HZ = 1_193_182, 3_579_545, 32768


class Row:
    """`path` within the record, as `get` takes it after `CPU/0.`; `value` as a number or a
    text; `words`, empty where the value says all."""

    __slots__ = ("path", "value", "words")

    def __init__(self, path: str, value: int | str, words: str = "") -> None:
        self.path = path
        self.value = value
        self.words = words

    def __repr__(self) -> str:
        return f"<{self.path} {self.shown}{': ' if self.words else ''}{self.words}>"

    @property
    def shown(self) -> str:
        """The value as text: numbers in hex."""
        return f"{self.value:#x}" if isinstance(self.value, int) else self.value

    def as_dict(self) -> dict[str, int | str]:
        """For JSON."""
        return {"path": self.path, "value": self.value, "words": self.words}


def decoded(record: Record) -> list[Row]:
    """The fields of a record of any type and length, in the order of the record; nothing of a
    type that is not known. A record that is shorter than its structure is read as a load of it
    does, the rest zero.

    >>> from hvmctx import open_image
    >>> with open_image("examples/hvm1.save") as image:
    ...     rows = decoded(image.context["CPU", 0])
    >>> next(row for row in rows if row.path == "cr0")
    <cr0 0x11: PE ET>
    """
    if record.type is None or not record.type.size:
        return []
    fields = record.fields()
    special = _OF_RECORDS.get(record.name)
    made = {row.path: row for row in special(fields)} if special else {}
    body = record.as_read(record.type.size)
    rows: list[Row] = []
    for slot in record.type.layout.slots():
        if slot.path in made:
            rows.append(made.pop(slot.path))
        elif not _is_told(slot.path, record.name):
            rows.append(_row(record.name, slot.path, slot.get(body)))
    return rows + list(made.values())


def decoded_lines(record: Record) -> Iterator[str]:
    """A head, and a line for each row, in columns."""
    where = "" if record.offset is None else f" at {record.offset:#x}"
    yield f"{record.name}/{record.instance}: {record.length} bytes{where}\n"
    rows = decoded(record)
    widths = [max((len(getattr(row, name)) for row in rows), default=0) for name in _COLUMNS]
    for row in rows:
        cells = (getattr(row, name).ljust(width) for name, width in zip(_COLUMNS, widths))
        yield f"    {'  '.join((*cells, row.words)).rstrip()}\n"


_COLUMNS = ("path", "shown")


def _row(record: str, path: str, value: int | bytes) -> Row:
    """Of a field by the names of its values or bits."""
    if not isinstance(value, int):
        more = "..." if len(value) > _MOST_SHOWN else ""
        return Row(path, bytes(value[:_MOST_SHOWN]).hex() + more, f"{len(value)} bytes")
    whole = f"{record}.{path}"
    names, bits = names_of(whole), bits_of_field(whole)
    if names:
        return Row(path, value, names.get(value, ""))
    return Row(path, value, " ".join(named(bits, value)) if bits else "")


def _is_told(path: str, record: str) -> bool:
    return path in _TOLD.get(record, ()) or path.startswith(_WITHOUT.get(record, ("\0",)))


def _numbers(value: int, first: int = 0) -> str:
    """The numbers of the bits that are set: `0, 3 to 5`."""
    runs: list[list[int]] = []
    for bit in bits_of(value):
        number = bit.bit_length() - 1 + first
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in runs) or "none"


def _seconds(number: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if number >= size:
            return f"{number / size:.6g} {unit}"
    return f"{number * 1e9:.6g} ns"


def _header(fields: Fields) -> Rows:
    cpuid = fields["cpuid"]
    family, model = cpuid >> 8 & 15, cpuid >> 4 & 15
    if family == 15:
        family += cpuid >> 20 & 0xFF
    if family in (6, *range(15, 271)):
        model += cpuid >> 12 & 0xF0
    words = f"family {family}, model {model}, stepping {cpuid & 15}"
    yield Row("cpuid", cpuid, words)
    yield Row("gtsc_khz", fields["gtsc_khz"], f"{fields['gtsc_khz'] / 1e6:.6g} GHz")


def _cpu(fields: Fields) -> Rows:
    fpu = fields["fpu_regs"]
    control, status = (int.from_bytes(fpu[at : at + 2], "little") for at in (0, 2))
    mxcsr = int.from_bytes(fpu[24:28], "little")
    yield Row(
        "fpu_regs", f"{len(fpu)} bytes", f"FCW {control:#x}, FSW {status:#x}, MXCSR {mxcsr:#x}"
    )
    flags = fields["rflags"]
    names = short_names(RFLAGS, flags & ~(RFLAGS.ONE | RFLAGS.IOPL_LOW | RFLAGS.IOPL_HIGH))
    yield Row("rflags", flags, " ".join([*names, f"IOPL={flags >> 12 & 3}"]))
    yield Row("cr0", fields["cr0"], " ".join([*short_names(CR0, fields["cr0"]), _mode(fields)]))
    cr3 = fields["cr3"]
    yield Row("cr3", cr3, f"page table at {cr3 & ~0xFFF & (1 << 52) - 1:#x}")
    dr6 = fields["dr6"]
    yield Row("dr6", dr6, " ".join(short_names(DR6, dr6 & _DR6_EVENTS)))
    dr7 = fields["dr7"]
    control = dr7 & 0xFFFF & ~0x400
    points = [
        f"{number}: {_BREAKS[dr7 >> 16 + 4 * number & 3]}, "
        f"{_LENGTHS[dr7 >> 18 + 4 * number & 3]} bytes"
        for number in range(4)
        if dr7 >> 2 * number & 3
    ]
    yield Row("dr7", dr7, "; ".join([" ".join(short_names(DR7, control)), *points]).strip("; "))
    for name in _SEGMENTS:
        yield Row(f"{name}_sel", fields[f"{name}_sel"], _segment(name, fields))
    for name in ("idtr", "gdtr"):
        words = f"base {fields[f'{name}_base']:#x}"
        yield Row(f"{name}_limit", fields[f"{name}_limit"], words)
    star = fields["msr_star"]
    selectors = f"SYSCALL CS {star >> 32 & 0xFFFF:#x}, SYSRET CS {star >> 48:#x}"
    yield Row("msr_star", star, f"{selectors}, EIP {star & 0xFFFFFFFF:#x}")
    event = fields["pending_event"]
    yield Row("pending_event", event, _event(event, fields["error_code"]))
    if "flags" in fields:
        known = {1: "FPU_INITIALISED"}
        yield Row("flags", fields["flags"], " ".join(named(known, fields["flags"])))


_DR6_EVENTS = DR6.B0 | DR6.B1 | DR6.B2 | DR6.B3 | DR6.BD | DR6.BS | DR6.BT
_BREAKS = ("execute", "write", "I/O", "read or write")
_LENGTHS = (1, 2, 8, 4)


def _mode(fields: Fields) -> str:
    cr0, efer = fields["cr0"], fields["msr_efer"]
    if not cr0 & CR0.PE:
        return "(real mode)"
    if efer & EFER.LMA:
        return "(64-bit mode)" if fields["cs_arbytes"] >> 9 & 1 else "(compatibility mode)"
    if not cr0 & CR0.PG:
        return "(protected mode, no paging)"
    return "(PAE paging)" if fields["cr4"] & CR4.PAE else "(32-bit paging)"


def _event(event: int, error: int) -> str:
    if not event >> 31:
        return "none"
    kind = names_of("CPU.pending_type").get(event >> 8 & 7, f"type {event >> 8 & 7}")
    code = f", error code {error:#x}" if event >> 11 & 1 else ""
    return f"{kind}, vector {event & 0xFF:#x}{code}"


def _segment(name: str, fields: Fields) -> str:
    attributes = fields[f"{name}_arbytes"]
    kind, present = attributes & 15, attributes >> 7 & 1
    where = f"base {fields[f'{name}_base']:#x}, limit {fields[f'{name}_limit']:#x}"
    if not present:
        return f"{where}; {attributes:#x}: not present"
    if not attributes >> 4 & 1:
        words = [_SYSTEM_SEGMENTS.get(kind, f"system type {kind}")]
    elif kind & 8:
        words = ["code", "execute and read" if kind & 2 else "execute"]
        words += ["conforming"] if kind & 4 else []
    else:
        words = ["data", "read and write" if kind & 2 else "read"]
        words += ["expands down"] if kind & 4 else []
    if attributes >> 4 & 1:
        words += [
            "64-bit" if attributes >> 9 & 1 else "32-bit" if attributes >> 10 & 1 else "16-bit"
        ]
        words += ["accessed"] if kind & 1 else []
    words += [f"DPL {dpl(attributes)}"]
    words += ["pages"] if attributes >> 11 & 1 else []
    return f"{where}; {attributes:#x}: {', '.join(words)}"


def _pic(fields: Fields) -> Rows:
    first = 0 if fields["is_master"] else 8
    for name, what in (("irr", "requested"), ("imr", "masked"), ("isr", "in service")):
        yield Row(name, fields[name], f"{what}: {_numbers(fields[name], first)}")
    base = fields["irq_base"]
    yield Row(
        "irq_base", base, f"vectors {base:#x} to {base + 7:#x} for IRQ {first} to {first + 7}"
    )
    yield Row("elcr", fields["elcr"], f"level: {_numbers(fields['elcr'], first)}")
    yield Row("is_master", fields["is_master"], "master" if fields["is_master"] else "slave")


def _ioapic(fields: Fields) -> Rows:
    for pin, entry in enumerate(fields["redirtbl"]):
        yield Row(f"redirtbl[{pin}].bits", entry["bits"], _redirection(entry["bits"]))


def _redirection(bits: int) -> str:
    kind = names_of("IOAPIC.redirtbl.fields.delivery_mode").get(bits >> 8 & 7, "reserved")
    words = [
        "masked" if bits >> 16 & 1 else "open", f"vector {bits & 0xFF:#x}", kind,
        f"to {'logical' if bits >> 11 & 1 else 'APIC'} {bits >> 56:#x}",
        "level" if bits >> 15 & 1 else "edge", "low" if bits >> 13 & 1 else "high",
    ]  # fmt: skip
    words += ["pending"] if bits >> 12 & 1 else []
    words += ["remote IRR"] if bits >> 14 & 1 else []
    return "masked" if bits == 1 << 16 else ", ".join(words)


def _lapic(fields: Fields) -> Rows:
    base = fields["apic_base_msr"]
    flags = " ".join(short_names(ApicBase, base & 0xFFF))
    yield Row("apic_base_msr", base, f"at {base & ~0xFFF:#x}; {flags}".rstrip("; "))
    yield Row("disabled", fields["disabled"], " ".join(named(_DISABLED, fields["disabled"])))
    yield Row("timer_divisor", fields["timer_divisor"], f"by {fields['timer_divisor']}")


_DISABLED = {1: "by software", 2: "by hardware"}

_APIC = {
    0x20: "ID", 0x30: "version", 0x80: "TPR", 0x90: "APR", 0xA0: "PPR", 0xD0: "LDR", 0xE0: "DFR",
    0xF0: "SVR", 0x280: "ESR", 0x2F0: "LVT CMCI", 0x300: "ICR low", 0x310: "ICR high",
    0x320: "LVT timer", 0x330: "LVT thermal", 0x340: "LVT PMC", 0x350: "LVT LINT0",
    0x360: "LVT LINT1", 0x370: "LVT error", 0x380: "timer initial count",
    0x390: "timer current count", 0x3E0: "timer divide",
}  # fmt: skip
_APIC_SETS = {0x100: "ISR", 0x180: "TMR", 0x200: "IRR"}
_TIMER_MODES = ("one-shot", "periodic", "TSC deadline", "reserved")


def _lapic_regs(fields: Fields) -> Rows:
    data = fields["data"]

    def number(at: int) -> int:
        return int.from_bytes(data[at : at + 4], "little")

    for at, name in sorted({**_APIC, **_APIC_SETS}.items()):
        if at in _APIC_SETS:
            value = sum(number(at + 16 * word) << 32 * word for word in range(8))
            vectors = ", ".join(f"{bit.bit_length() - 1:#x}" for bit in bits_of(value))
            yield Row(f"data[{at:#x}:+128]", f"{value:#x}", f"{name}: {vectors or 'no vector'}")
        else:
            words = _apic_words(at, number(at))
            yield Row(f"data[{at:#x}:+4]", number(at), f"{name}{': ' if words else ''}{words}")


def _apic_words(at: int, value: int) -> str:
    if at in (0x20, 0x310):
        return f"APIC {value >> 24} ({value:#x} in x2APIC mode)"
    if at == 0xF0:
        return f"{'on' if value >> 8 & 1 else 'off'}, spurious vector {value & 0xFF:#x}"
    if at == 0x3E0:
        return f"by {2 << (((value >> 1 & 4) | (value & 3)) & 7) if (value & 11) != 11 else 1}"
    if 0x320 <= at <= 0x370 or at in (0x2F0, 0x300):
        mode = names_of("IOAPIC.redirtbl.fields.delivery_mode").get(value >> 8 & 7, "reserved")
        if at == 0x320:
            mode = _TIMER_MODES[value >> 17 & 3]
        masked = ", masked" if value >> 16 & 1 and at != 0x300 else ""
        return f"{mode}, vector {value & 0xFF:#x}{masked}"
    return ""


def _pci_irq(fields: Fields) -> Rows:
    for word, value in enumerate(fields["i"]):
        lines = (bit.bit_length() - 1 + 64 * word for bit in bits_of(value))
        words = ", ".join(f"{line >> 2:02x}.INT{'ABCD'[line & 3]}" for line in lines)
        yield Row(f"i[{word}]", value, words or "none raised")


def _isa_irq(fields: Fields) -> Rows:
    yield Row("i[0]", fields["i"][0], f"raised: {_numbers(fields['i'][0])}")


def _pci_link(fields: Fields) -> Rows:
    routes = ", ".join(
        f"{name}: {f'IRQ {irq}' if irq else 'none'}" for name, irq in zip("ABCD", fields["route"])
    )
    yield Row("route", fields["route"].hex(), routes)


_PIT_MODES = (
    "interrupt on terminal count", "one-shot", "rate generator", "square wave",
    "software strobe", "hardware strobe", "rate generator", "square wave",
)  # fmt: skip


def _pit(fields: Fields) -> Rows:
    for number, channel in enumerate(fields["channels"]):
        count = channel["count"] or 0x10000
        words = f"every {_seconds(count / _PIT_HZ)}, {_PIT_HZ / count:.6g} Hz"
        yield Row(f"channels[{number}].count", channel["count"], words)
        mode = channel["mode"]
        yield Row(
            f"channels[{number}].mode", mode, _PIT_MODES[mode] if mode < len(_PIT_MODES) else ""
        )


def _rtc(fields: Fields) -> Rows:
    data = fields["cmos_data"]
    binary, whole_day = data[11] >> 2 & 1, data[11] >> 1 & 1

    def number(value: int) -> int:
        return value if binary else (value >> 4) * 10 + (value & 15)

    hour = number(data[4] & 0x7F) + (12 if data[4] & 0x80 and not whole_day else 0)
    date = "-".join(f"{number(data[at]):02}" for at in (9, 8, 7))
    rate = data[10] & 15
    ticks = f"periodic rate {_RTC_HZ >> rate - 1} Hz" if rate else "no periodic rate"
    enabled = " ".join(named({0x40: "PIE", 0x20: "AIE", 0x10: "UIE"}, data[11] & 0x70))
    words = (
        f"{date} {hour:02}:{number(data[2]):02}:{number(data[0]):02}, "
        f"{'binary' if binary else 'BCD'}, {24 if whole_day else 12} hours, {ticks}"
    )
    yield Row("cmos_data", data.hex(), f"{words}{', ' if enabled else ''}{enabled}")
    if "rtc_offset" in fields:
        yield Row("rtc_offset", str(fields["rtc_offset"]), "seconds")


def _hpet(fields: Fields) -> Rows:
    capability, config = fields["capability"], fields["config"]
    femtoseconds = capability >> 32
    tick = femtoseconds / 1e15
    yield Row(
        "capability", capability,
        f"{(capability >> 8 & 31) + 1} timers, {'64' if capability >> 13 & 1 else '32'}-bit, "
        f"a tick of {_seconds(tick)}",
    )  # fmt: skip
    yield Row("config", config, " ".join(named({1: "ENABLE", 2: "LEGACY"}, config)))
    yield Row("mc64", fields["mc64"], _seconds(fields["mc64"] * tick))
    for number, timer in enumerate(fields["timers"]):
        bits = timer["config"]
        words = " ".join(named(_HPET_TIMER, bits & 0xFF & ~0x30))
        route = f"IRQ {bits >> 9 & 31}"
        yield Row(f"timers[{number}].config", bits, f"{words} {route}".strip())
        yield Row(f"timers[{number}].cmp", timer["cmp"], _seconds(timer["cmp"] * tick))
        period = fields["period"][number]
        yield Row(f"period[{number}]", period, f"every {_seconds(period * tick)}" if period else "")


_HPET_TIMER = {2: "LEVEL", 4: "ENABLE", 8: "PERIODIC", 0x40: "SETVAL"}


def _pmtimer(fields: Fields) -> Rows:
    yield Row(
        "tmr_val", fields["tmr_val"], f"{_seconds(fields['tmr_val'] / _PM_HZ)} at 3.579545 MHz"
    )
    for name in ("pm1a_sts", "pm1a_en"):
        yield Row(name, fields[name], " ".join(short_names(Pm1, fields[name])))


_FIXED = (
    (0, 0x10000), (0x80000, 0x4000), (0xA0000, 0x4000),
    *((0xC0000 + 0x8000 * part, 0x1000) for part in range(8)),
)  # fmt: skip


def _mtrr(fields: Fields) -> Rows:
    pat = fields["msr_pat_cr"].to_bytes(8, "little")
    yield Row("msr_pat_cr", fields["msr_pat_cr"], " ".join(map(_memory_type, pat)))
    ranges = fields["msr_mtrr_var"]
    for at in range(0, len(ranges), 2):
        base, mask = ranges[at : at + 2]
        yield Row(f"msr_mtrr_var[{at}]", base, _variable(base, mask))
    for at, value in enumerate(fields["msr_mtrr_fixed"]):
        start, size = _FIXED[at]
        yield Row(f"msr_mtrr_fixed[{at}]", value, _fixed(start, size, value))
    cap, default = fields["msr_mtrr_cap"], fields["msr_mtrr_def_type"]
    features = " ".join(named({0x100: "FIX", 0x400: "WC", 0x800: "SMRR"}, cap & ~0xFF))
    yield Row("msr_mtrr_cap", cap, f"{cap & 0xFF} variable ranges; {features}")
    flags = " ".join(named({0x400: "FE", 0x800: "E"}, default & ~0xFF))
    yield Row("msr_mtrr_def_type", default, f"{_memory_type(default & 0xFF)} {flags}".strip())


def _memory_type(value: int) -> str:
    return _MEMORY_TYPES.get(value, f"type {value:#x}")


def _variable(base: int, mask: int) -> str:
    if not mask >> 11 & 1:
        return "off"
    bits = max(mask.bit_length(), 36)
    size = ((1 << bits) - 1 & ~(mask & ~0xFFF)) + 1
    start = base & ~0xFFF
    if size & (size - 1):
        return f"{_memory_type(base & 0xFF)} at {start:#x}, scattered"
    return f"{_memory_type(base & 0xFF)} {start:#x} to {start + size - 1:#x}"


def _fixed(start: int, size: int, value: int) -> str:
    """Neighbours of one type are told once."""
    kinds = value.to_bytes(8, "little")
    parts: list[str] = []
    first = 0
    for at in range(1, 9):
        if at == 8 or kinds[at] != kinds[first]:
            end = start + at * size - 1
            parts.append(f"{_memory_type(kinds[first])} {start + first * size:#x} to {end:#x}")
            first = at
    return ", ".join(parts)


def _page(value: int) -> str:
    return f"on, page {value >> 12:#x}" if value & 1 else "off"


def _viridian_domain(fields: Fields) -> Rows:
    yield Row("hypercall_gpa", fields["hypercall_gpa"], _page(fields["hypercall_gpa"]))
    os = fields["guest_os_id"]
    words = "none" if not os else (
        f"vendor {os >> 48 & 0x7FFF:#x}, OS {os >> 40 & 0xFF}, version {os >> 32 & 0xFF}."
        f"{os >> 24 & 0xFF}, service {os >> 16 & 0xFF}, build {os & 0xFFFF}"
    )  # fmt: skip
    yield Row("guest_os_id", os, words)
    if "time_ref_count" in fields:
        count = fields["time_ref_count"]
        yield Row("time_ref_count", count, _seconds(count * 1e-7))
    if "reference_tsc" in fields:
        yield Row("reference_tsc", fields["reference_tsc"], _page(fields["reference_tsc"]))


def _viridian_vcpu(fields: Fields) -> Rows:
    for name in ("vp_assist_msr", "simp_msr"):
        if name in fields:
            yield Row(name, fields[name], _page(fields[name]))
    for at, value in enumerate(fields.get("sint_msr", ())):
        flags = named({1 << 16: "masked", 1 << 17: "auto-EOI", 1 << 18: "polling"}, value & 7 << 16)
        yield Row(f"sint_msr[{at}]", value, ", ".join([f"vector {value & 0xFF:#x}", *flags]))
    for at, value in enumerate(fields.get("stimer_config_msr", ())):
        flags = short_names(StimerConfig, value & 0x100F)
        source = f"SINT {value >> 16 & 15}"
        yield Row(f"stimer_config_msr[{at}]", value, " ".join([*flags, source]))
    for at, value in enumerate(fields.get("stimer_count_msr", ())):
        yield Row(f"stimer_count_msr[{at}]", value, _seconds(value * 1e-7) if value else "")


def _cpu_xsave(fields: Fields) -> Rows:
    for name in ("xfeature_mask", "xcr0", "xcr0_accum"):
        yield Row(name, fields[name], " ".join(short_names(XCR0, fields[name])))
    head = fields["save_area"]["xsave_hdr"]
    for name in ("xstate_bv", "xcomp_bv"):
        value = head[name]
        words = short_names(XCR0, value & ~(1 << 63))
        words += ["compacted"] if value >> 63 else []
        yield Row(f"save_area.xsave_hdr.{name}", value, " ".join(words))
    extended = fields.get("extended") or b""
    yield Row("extended", f"{len(extended)} bytes", "components beyond x87 and SSE")


def _vmce(fields: Fields) -> Rows:
    caps = fields["caps"]
    names = " ".join(short_names(McgCap, caps & ~0xFF))
    yield Row("caps", caps, f"{caps & 0xFF} banks; {names}".rstrip("; "))


def _tsc_adjust(fields: Fields) -> Rows:
    value = fields["tsc_adjust"]
    signed = value - (1 << 64) if value >> 63 else value
    yield Row("tsc_adjust", value, f"{signed} ticks")


def _cpu_msr(fields: Fields) -> Rows:
    yield Row("count", fields["count"], f"{fields['count']} MSRs")
    for at, msr in enumerate(fields.get("msr") or ()):
        index, value = msr["index"], msr["val"]
        register = MSR_BITS.get(index)
        bits = " ".join(short_names(register, value)) if register else ""
        yield Row(f"msr[{at}].val", value, f"{msr_name(index)}{': ' if bits else ''}{bits}")


_OF_RECORDS: dict[str, Callable[[Fields], Iterable[Row]]] = {
    "HEADER": _header, "CPU": _cpu, "PIC": _pic, "IOAPIC": _ioapic, "LAPIC": _lapic,
    "LAPIC_REGS": _lapic_regs, "PCI_IRQ": _pci_irq, "ISA_IRQ": _isa_irq, "PCI_LINK": _pci_link,
    "PIT": _pit, "RTC": _rtc, "HPET": _hpet, "PMTIMER": _pmtimer, "MTRR": _mtrr,
    "VIRIDIAN_DOMAIN": _viridian_domain, "VIRIDIAN_VCPU": _viridian_vcpu,
    "CPU_XSAVE": _cpu_xsave, "VMCE_VCPU": _vmce, "TSC_ADJUST": _tsc_adjust, "CPU_MSR": _cpu_msr,
}  # fmt: skip
"""What knows more of a record than the names of its values and bits."""

_TOLD = {
    "CPU": {
        f"{name}_{part}" for name in _SEGMENTS for part in ("limit", "base", "arbytes")
    } | {"idtr_base", "gdtr_base", "error_code"},
    "MTRR": {f"msr_mtrr_var[{at}]" for at in range(1, 16, 2)},
    "LAPIC_REGS": {"data"},
}  # fmt: skip
"""Fields that the row of another has told."""

_WITHOUT = {
    "CPU": ("pending_v", "pending_t", "pending_error", "pending_r"),
    "CPU_XSAVE": ("save_area.fpu_sse", "save_area.xsave_hdr.reserved"),
    "IOAPIC": ("redirtbl",),
}  # fmt: skip
"""The same by the starts of their paths."""
