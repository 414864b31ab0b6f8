"""What an accepted load does not take over as the record says, in words: `changes`.

Source: the load handlers of every release tag, 4.0.0 to c447b730. For two effects the commit
says since when: 90309854fd (LDR from the id of an x2APIC), ff7d9aa77e (timers without a count).
Those of x2APICs, debug registers, timers, routes, PATs and MTRRs were read back from Xen 4.17.7
and 4.20.4.
"""

from __future__ import annotations

from ctypes import sizeof

from hvmctx.abi import x86
from hvmctx.abi.x86_bits import DR6, DR7, RFLAGS, StimerConfig
from hvmctx.restore.context_rules import xsave_size
from hvmctx.restore.hazards import XRSTOR_GUARDED, bad_mxcsr, good_ldr, x2apic_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hvmctx.restore.rules import Seen

__all__ = ["changes", "unfolded"]

_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldtr")
_LDR_BY_ID = "4.19 4.18.1 4.17.3"
_STIMERS_CHECKED = "4.22 4.21.2 4.20.4 4.19.6 4.18.6 4.17.7"
_ROUTES_CHECKED = "4.12"
_DR_ADJUSTED = "4.18"
_RANGES_COUNTED = "4.12"
_MEMORY_TYPES, _PAT_TYPES = b"\0\1\4\5\6", b"\0\1\4\5\6\7"
_ROUTES_OF_LEGACY = "4.22 4.21.1 4.20.3 4.19.4"
_HPET_LEGACY = 2
_DR6_ONES, _DR6_ZEROS, _DR7_ONES, _DR7_ZEROS = 0xFFFF0FF0, 1 << 12, 1 << 10, 0xD000


def unfolded(arbytes: int) -> int:
    """Segment attributes as Xen stores them: before Xen 3 the upper four bits were at 12 to
    15, and are moved to 8 to 11."""
    if arbytes & 0xF000 and not arbytes & 0x0F00:
        return arbytes & 0xFF | arbytes >> 4 & 0xF00
    return arbytes


def changes(seen: Seen) -> list[str]:
    """In which ways an accepted load does not take over what the record says."""
    of_record = _CHANGES.get(seen.name)
    if of_record is None and seen.length >= seen.size:
        return []
    found = [] if of_record is None else list(of_record(seen))
    if seen.length < seen.size and seen.name not in ("CPU", "CPU_XSAVE"):
        found.append(f"{seen.length} bytes, zeros after them")
    return [f"{seen.name}/{seen.instance}: {change}" for change in found]


def _cpu(seen: Seen) -> Iterator[str]:
    fields, release = seen.fields, seen.release
    for segment in _SEGMENTS:
        before = fields[f"{segment}_arbytes"]
        if unfolded(before) != before:
            yield f"{segment}_arbytes {before:#x} -> {unfolded(before):#x}"
    if not fields["rflags"] & RFLAGS.ONE:
        yield "rflags gets bit 1"
    if release.since(_DR_ADJUSTED):
        yield from _debug(seen)
    short = seen.length != x86.CPU.size and release.since("4.7")
    if short:
        yield f"read from {seen.length} bytes, flags forced to 1"
    initialised = short or not release.since("4.7") or fields["flags"] & 1
    if not initialised and any(fields["fpu_regs"]):
        yield "fpu_regs is not taken: flags says that the FPU is not initialised, and it is reset"
    elif initialised and (release.since(XRSTOR_GUARDED) or not seen.machine.xsave):
        for wrong in bad_mxcsr(fields["fpu_regs"]):
            yield f"{wrong}, which has reserved bits: the FPU is reset when it is used"
    if not seen.loaded.tsc:
        yield f"the guest's TSC goes on from {fields['tsc']:#x}: the time since the save is not in it"


def _debug(seen: Seen) -> Iterator[str]:
    """Reserved bits become what a CPU with the guest's features has there."""
    dr6, dr7 = seen.fields["dr6"], seen.fields["dr7"]
    ones, zeros = _DR6_ONES, _DR7_ZEROS
    if seen.guest.has("RTM"):
        ones &= ~DR6.RTM
    else:
        zeros |= DR7.RTM
    if seen.guest.has("BLD"):
        ones &= ~DR6.BLD
    for name, before, after in (
        ("dr6", dr6, (dr6 | ones) & ~_DR6_ZEROS), ("dr7", dr7, dr7 & ~zeros | _DR7_ONES),
    ):  # fmt: skip
        if after != before:
            yield f"{name} {before:#x} -> {after:#x}"


def _header(seen: Seen) -> Iterator[str]:
    if not seen.fields["gtsc_khz"]:
        yield "gtsc_khz is 0: the guest keeps the TSC frequency that it was made with"


def _pic(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    if seen.release.since("4.19") and fields["is_master"] and not fields["elcr"] & 4:
        yield "elcr gets bit 2, the cascade"


def _pit(seen: Seen) -> Iterator[str]:
    for number, channel in enumerate(seen.fields["channels"]):
        if not channel["count"]:
            yield f"channels[{number}].count 0x0 -> 0x10000"
        mode = channel["mode"] & 7
        mode -= 4 if mode > 5 else 0
        if mode != channel["mode"] and seen.release.since("4.19"):
            yield f"channels[{number}].mode {channel['mode']:#x} -> {mode}"


def _lapic(seen: Seen) -> Iterator[str]:
    """Id and logical destination of an x2APIC, as soon as both records have been loaded."""
    page = x2apic_of(seen)
    if page is None or not seen.release.since("4.5"):
        return
    number, ldr = page
    if ldr == 1 and number != 0:
        made = 2 * seen.instance
        fixed = good_ldr(made if seen.release.since(_LDR_BY_ID) else seen.instance)
        yield f"x2APIC: id {number:#x} -> {made:#x}, LDR 0x1 -> {fixed:#x}"


def _hpet(seen: Seen) -> Iterator[str]:
    """Routes that a timer's own register does not offer. In legacy mode timers 0 and 1 have
    others, and all the same were treated alike at first."""
    release, of = seen.release, x86.hvm_hw_hpet
    if not release.since(_ROUTES_CHECKED):
        return
    legacy = seen.number(of.config.offset) & _HPET_LEGACY and release.since(_ROUTES_OF_LEGACY)
    for number in range(2 if legacy else 0, x86.HPET_TIMER_NUM):
        at = of.timers.offset + number * sizeof(x86.hvm_hw_hpet_timer)
        config = seen.number(at) | seen.number(at + 4) << 32
        route, offered = config >> 9 & 31, config >> 32
        if offered >> route & 1:
            continue
        first = (offered & -offered).bit_length() - 1 if config & 4 and offered else 0
        if first != route:
            yield f"timers[{number}] is routed to interrupt {first} instead of {route}"


def _mtrr(seen: Seen) -> Iterator[str]:
    body, of, size = seen.head(x86.MTRR.size), x86.hvm_hw_mtrr, x86.MTRR_VCNT * 16
    fixed = body[of.msr_mtrr_fixed.offset :][: x86.NUM_FIXED_MSR * 8]
    ranges = body[of.msr_mtrr_var.offset :][:size]
    low = ranges[::8] + body[of.msr_mtrr_def_type.offset :][:1]
    wrong = (fixed + low).translate(None, _MEMORY_TYPES) or body[:8].translate(None, _PAT_TYPES)
    full = body[of.msr_mtrr_cap.offset :][:1] == bytes([x86.MTRR_VCNT])
    if wrong or not full:  # which is rare: to decode all of them takes a tenth of a load
        yield from _mtrr_values(seen)


def _mtrr_values(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    ranges = x86.MTRR_VCNT
    if seen.release.since(_RANGES_COUNTED):
        ranges = min(fields["msr_mtrr_cap"] & 0xFF, ranges)
    yield from _unknown("msr_pat_cr", fields["msr_pat_cr"], _PAT_TYPES)
    for number, value in enumerate(fields["msr_mtrr_fixed"]):
        yield from _unknown(f"msr_mtrr_fixed[{number}]", value, _MEMORY_TYPES)
    for number, value in enumerate(fields["msr_mtrr_var"]):
        if number < 2 * ranges:
            yield from _unknown(f"msr_mtrr_var[{number}]", value & 0xFF, _MEMORY_TYPES)
        elif value:
            yield f"msr_mtrr_var[{number}] is not taken: beyond the ranges of msr_mtrr_cap"
    yield from _unknown("msr_mtrr_def_type", fields["msr_mtrr_def_type"] & 0xFF, _MEMORY_TYPES)


def _unknown(name: str, value: int, allowed: bytes) -> list[str]:
    """That a setter refuses a byte of the value, and keeps what it had."""
    unknown = value.to_bytes(8, "little").translate(None, allowed)
    if not unknown:
        return []
    kinds = ", ".join(map(str, sorted(set(unknown))))
    return [f"{name} is not taken: unknown memory type {kinds}"]


def _xsave(seen: Seen) -> Iterator[str]:
    size = xsave_size(seen)
    if seen.length > size:
        yield f"{seen.length - size} bytes after the image for xcr0_accum are not taken"
    if seen.release.since(XRSTOR_GUARDED):
        for wrong in bad_mxcsr(seen.fields["save_area"]["fpu_sse"]["x"]):
            yield f"{wrong}, which has reserved bits: XSAVE state is reset when it is used"


def _viridian_vcpu(seen: Seen) -> Iterator[str]:
    fields = seen.fields
    if not seen.release.since(_STIMERS_CHECKED):
        return
    for number, config in enumerate(fields["stimer_config_msr"]):
        lacks = [
            name
            for name, there in (
                ("count", fields["stimer_count_msr"][number]),
                ("interrupt source", config >> 16 & 15),
            )
            if not there
        ]
        if config & StimerConfig.ENABLE and lacks:
            yield f"stimer_config_msr[{number}] loses ENABLE: it has no {' and no '.join(lacks)}"


_CHANGES: dict[str, Callable[[Seen], Iterator[str]]] = {
    "HEADER": _header, "CPU": _cpu, "PIC": _pic, "PIT": _pit, "LAPIC": _lapic,
    "LAPIC_REGS": _lapic, "HPET": _hpet, "MTRR": _mtrr, "CPU_XSAVE": _xsave,
    "VIRIDIAN_VCPU": _viridian_vcpu,
}  # fmt: skip
