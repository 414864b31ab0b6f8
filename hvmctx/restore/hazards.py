"""What a release loads and then suffers by: hazards, which stand beside the verdict.

A row is a `Rule` whose releases are those that suffer, with who is harmed, the commit that
mended it and its CVE. None of them speaks against a load: the verdict stays accept.

Source: the commits named, in the history of Xen, and the load handlers of every release tag,
4.0.0 to c447b730. Seen on running hypervisors, with a guest restored from an image:
`pic-wrong-master` (4.17.7 dies of it) and `lapic-divisor` (4.17.7 and 4.20.4 do). That a guest's
own writes lead to the others as well is why most have a CVE; that a saved record does is a
reading.
"""

from __future__ import annotations

from hvmctx.abi import x86
from hvmctx.abi.releases import Window, came_with
from hvmctx.abi.x86_bits import XCR0, ApicBase, StimerConfig, bit_names
from hvmctx.findings import WARNING
from hvmctx.restore.context_rules import (
    XSAVE_CHECKED,
    XSAVE_HEAD,
    cr3_beyond,
    event_beyond,
    pit_gate,
    pit_range,
    too_many_ranges,
    vendor_of,
    wrong_master,
)
from hvmctx.restore.machine import AMD, INTEL
from hvmctx.restore.registers import states_of, wrong_xcr0
from hvmctx.restore.rules import GUEST, LOADING, RUNNING, Rule, Seen
from hvmctx.stream.reader import CONTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvmctx.restore.rules import Answer, Predicate

__all__ = ["HAZARDS", "XRSTOR_GUARDED", "bad_mxcsr", "good_ldr", "x2apic_ids", "x2apic_of"]

_MXCSR_AT, _MXCSR_KNOWN = 24, 0xFFFF
"""Where an FXSAVE image has MXCSR, and the bits of it that some CPU has."""
_XSTATE_HEADER = x86.hvm_hw_cpu_xsave.save_area.offset + 512
XRSTOR_GUARDED = "4.3 4.2.3 4.1.6"
"""Since when Xen recovers from a fault of XRSTOR (XSA-53)."""
_STIMERS = "4.13"
"""Since when a VIRIDIAN_VCPU record holds timers."""
_ID, _LDR, _LVTERR = 0x20, 0xD0, 0x370
"""Registers in the page of a LAPIC."""
_MASKED, _VECTOR = 1 << 16, 0xFF
_APIC_BUS_NS = 10
_TINY = 61035
"""HPET ticks that a 32-bit comparator may lie in the past, and is still taken for past."""
_HPET_ON, _HPET_LEGACY = 1, 2
_TIMER_ON, _TIMER_PERIODIC, _TIMER_32BIT = 1 << 2, 1 << 3, 1 << 8


def bad_mxcsr(image: bytes) -> list[str]:
    """Of an FXSAVE image: the bits of MXCSR that no CPU has, in words."""
    mxcsr = int.from_bytes(image[_MXCSR_AT : _MXCSR_AT + 4], "little")
    return [f"MXCSR is {mxcsr:#x}"] if mxcsr & ~_MXCSR_KNOWN else []


def _mxcsr_of_cpu(seen: Seen) -> Answer:
    return seen.machine.xsave and bad_mxcsr(seen.fields["fpu_regs"])


def _xrstor_faults(seen: Seen) -> list[str]:
    """Reasons for which XRSTOR faults on the area of a CPU_XSAVE record."""
    _, accum, present, _ = states_of(seen)
    found = bad_mxcsr(seen.fields["save_area"]["fpu_sse"]["x"])
    if present & ~accum:
        found.append(f"xstate_bv has {', '.join(bit_names(XCR0, present & ~accum))}")
    return found + _header_not_zero(seen)


def _header_not_zero(seen: Seen) -> list[str]:
    """What XRSTOR wants to be zero of the header: bytes 8 to 23, xcomp_bv among them."""
    rest = seen.body()[_XSTATE_HEADER + 8 : _XSTATE_HEADER + 24]
    return [f"bytes 8 to 23 of its header are {rest.hex()}"] if any(rest) else []


def _xsetbv_faults(seen: Seen) -> list[str]:
    xcr0, accum, *_ = states_of(seen)
    found = []
    for name, states in (("xcr0", xcr0), ("xcr0_accum", accum)):
        beyond = bit_names(XCR0, states & ~seen.host.xcr0_max)
        reasons = [f"has {', '.join(beyond)}"] if beyond else list(wrong_xcr0(states, seen))
        found += [f"{name} {reason}" for reason in reasons[:1]]
    return found[:1]


def _xsave_overread(seen: Seen) -> Answer:
    """As many bytes are read as the host's states take: at least those of xcr0_accum."""
    host = seen.host
    needed = XSAVE_HEAD + host.xsave_size(host.xcr0_max if host.leaves else states_of(seen)[1])
    return seen.length < needed and [f"length {seen.length}, {needed} bytes are read"]


def _high(seen: Seen, *names: str) -> list[str]:
    fields = seen.fields
    return [f"{name} is {fields[name]:#x}" for name in names if fields[name] >> 32][:1]


def _dr6_of_intel(seen: Seen) -> Answer:
    return vendor_of(seen) == INTEL and _high(seen, "dr6")


def _dr_of_entry(seen: Seen) -> Answer:
    """Intel's CPUs get only dr7 with the guest's state."""
    return _high(seen, "dr7") if vendor_of(seen) == INTEL else _high(seen, "dr6", "dr7")


def _event_of_amd(seen: Seen) -> Answer:
    """Types 5 and 6, which Intel's CPUs have and AMD's do not."""
    text = event_beyond(seen, 4) if vendor_of(seen) == AMD else ""
    return [text] if text else False


def _pit(seen: Seen) -> Answer:
    return pit_range(seen) or pit_gate(seen)


def _timers(seen: Seen) -> Iterator[tuple[int, int, int]]:
    """Number, configuration and count of the enabled timers of a VIRIDIAN_VCPU record."""
    if not seen.guest.viridian:
        return
    fields = seen.fields
    rows = zip(fields["stimer_config_msr"], fields["stimer_count_msr"])
    for number, (config, count) in enumerate(rows):
        if config & StimerConfig.ENABLE:
            yield number, config, count


def _no_count(seen: Seen) -> list[str]:
    wrong = (
        n for n, config, count in _timers(seen) if config & StimerConfig.PERIODIC and not count
    )
    return [f"stimer {number} is enabled and periodic, its count is 0" for number in wrong][:1]


def _no_message_page(seen: Seen) -> list[str]:
    if seen.fields["simp_msr"] & 1:
        return []
    return [f"stimer {n} is enabled, simp_msr is not" for n, *_ in _timers(seen)][:1]


def _assist_again(seen: Seen) -> Answer:
    twice = seen.fields["vp_assist_msr"] & 1 and seen.instance in seen.loaded.vp_assist
    return bool(seen.guest.viridian and twice)


def _hpet_timers(seen: Seen) -> Iterator[tuple[int, int, int]]:
    """Number, configuration and comparator of the timers that run."""
    fields = seen.fields
    if fields["config"] & _HPET_ON:
        for number, timer in enumerate(fields["timers"]):
            if timer["config"] & _TIMER_ON:
                yield number, timer["config"], timer["cmp"]


def _hpet_wraps(seen: Seen) -> list[str]:
    """A one-shot 32-bit comparator that is past, and not by less than a millisecond."""
    now = seen.fields["mc64"] & 0xFFFFFFFF
    found = []
    for number, config, comparator in _hpet_timers(seen):
        past = now - (comparator & 0xFFFFFFFF)
        if config & _TIMER_32BIT and not config & _TIMER_PERIODIC and past > _TINY:
            found.append(f"timer {number} is {past} ticks past its comparator")
    return found[:1]


def _hpet_route(seen: Seen) -> list[str]:
    """Timers 0 and 1 have routes of their own in legacy mode."""
    first = 2 if seen.fields["config"] & _HPET_LEGACY else 0
    routes = ((n, config >> 9 & 31) for n, config, _ in _hpet_timers(seen) if n >= first)
    return [f"timer {n} is routed to interrupt {route}" for n, route in routes if route > 15][:1]


def _no_divisor(seen: Seen) -> Answer:
    """The divisor is multiplied by the nanoseconds of a bus cycle, in 32 bits."""
    divisor: int = seen.fields["timer_divisor"]
    return not divisor * _APIC_BUS_NS & 0xFFFFFFFF and [f"timer_divisor is {divisor:#x}"]


def _error_vector(seen: Seen) -> Answer:
    entry = seen.number(_LVTERR)
    wrong = not entry & _MASKED and entry & _VECTOR < 16
    return wrong and [f"LVTERR is {entry:#x}"]


def good_ldr(number: int) -> int:
    """The logical destination of an x2APIC, which follows from its id."""
    return (number & ~0xF) << 12 | 1 << (number & 0xF)


def x2apic_ids(seen: Seen) -> tuple[int, int]:
    """Id and logical destination in a LAPIC_REGS record, as an x2APIC has them."""
    return seen.number(_ID), seen.number(_LDR)


def x2apic_of(seen: Seen) -> tuple[int, int] | None:
    """Id and logical destination of a vcpu's x2APIC, once its LAPIC and its LAPIC_REGS record
    have both been loaded, in either order; None in another mode."""
    loaded = seen.loaded
    if seen.name == "LAPIC":
        mode, page = seen.fields["apic_base_msr"], loaded.apic_ids.get(seen.instance)
    else:
        mode = loaded.apic_base.get(seen.instance, 0)
        page = x2apic_ids(seen)
    return page if mode & ApicBase.EXTD and mode & ApicBase.EN else None


def _ldr_of_one(seen: Seen) -> Answer:
    page = x2apic_of(seen)
    return page is not None and page[0] != 0 and page[1] == 1 and [f"id {page[0]:#x}, LDR 0x1"]


def _other_ldr(seen: Seen) -> Answer:
    """Neither what follows from the id, nor one of the two that older releases wrote."""
    page = x2apic_of(seen)
    if page is None or page[1] in (1, good_ldr(page[0]), good_ldr(seen.instance)):
        return False
    return [f"id {page[0]:#x}, LDR {page[1]:#x}, expected {good_ldr(page[0]):#x}"]


def _row(
    record: str, identifier: str, predicate: Predicate, words: str, harms: str,
    commit: str = "", cve: str | None = None, *, since: str = "", gone: str | None = None,
) -> Rule:  # fmt: skip
    window = Window(since or came_with(record), gone=gone)
    return Rule(
        CONTEXT, record, identifier, predicate, words,
        severity=WARNING, releases=window, harms=harms, commit=commit, cve=cve,
    )  # fmt: skip


# fmt: off
HAZARDS = (
    _row("CPU", "cpu-mxcsr-fault", _mxcsr_of_cpu, "XRSTOR faults in the hypervisor, and nothing catches it: reserved bits of MXCSR are set", RUNNING, "c6ae65db36", "CVE-2013-2077", since="4.1", gone=XRSTOR_GUARDED),
    _row("CPU", "cpu-dr6-fault", _dr6_of_intel, "the move to dr6 faults in the hypervisor: dr6 has bits above 31", RUNNING, "30f43f4aa8", gone="4.12"),
    _row("CPU", "cpu-dr-entry", _dr_of_entry, "the CPU refuses to enter the guest, which is destroyed: a debug register has bits above 31", GUEST, "15987cb03f", gone="4.18"),
    _row("CPU", "cpu-cr3-entry", cr3_beyond, "the CPU refuses to enter the guest, which is destroyed: cr3 is beyond its physical addresses", GUEST, "80872597e6", gone="4.14"),
    _row("CPU", "cpu-event-entry", _event_of_amd, "the CPU refuses to enter the guest, which is destroyed: a pending event that AMD does not have", GUEST, "ef7f5bbf9d", gone="4.9"),
    _row("PIC", "pic-wrong-master", wrong_master, "the hypervisor takes other memory for the domain's and writes there, and can die of it: is_master does not match the instance", LOADING, "69c89dd787", gone="4.19"),
    _row("LAPIC", "lapic-divisor", _no_divisor, "the hypervisor divides by zero when the guest reads its timer's count", RUNNING),
    _row("LAPIC", "lapic-ldr-one", _ldr_of_one, "interrupts to a logical destination go to all vcpus: an x2APIC without an LDR of its own", GUEST, "f9e0cccf7b", gone="4.5"),
    _row("LAPIC", "lapic-ldr", _other_ldr, "interrupts to a logical destination get lost: the LDR of an x2APIC does not follow from its id", GUEST, since="4.5"),
    _row("LAPIC_REGS", "lapic-ldr-one", _ldr_of_one, "interrupts to a logical destination go to all vcpus: an x2APIC without an LDR of its own", GUEST, "f9e0cccf7b", gone="4.5"),
    _row("LAPIC_REGS", "lapic-ldr", _other_ldr, "interrupts to a logical destination get lost: the LDR of an x2APIC does not follow from its id", GUEST, since="4.5"),
    _row("LAPIC_REGS", "lapic-error-vector", _error_vector, "the hypervisor hangs when the LAPIC has an error to report: its error interrupt is unmasked and has an illegal vector", RUNNING, "c42d9ec61f", "CVE-2024-45817", since="4.5", gone="4.20 4.19.1 4.18.4 4.17.6 4.16.7"),
    _row("PIT", "pit-out-of-range", _pit, "the guest reads nonsense from the timer and the speaker port", GUEST, "c53013da6f", gone="4.19"),
    _row("HPET", "hpet-route", _hpet_route, "the hypervisor writes beyond its PICs when the timer fires", RUNNING, "14c3f68a57", "CVE-2018-10982", gone="4.11 4.10.2 4.9.3 4.8.4 4.7.6"),
    _row("HPET", "hpet-late", _hpet_wraps, "the timer fires after minutes instead of at once, and until then the guest may not react: a 32-bit comparator in the past", GUEST, "b144cf45d5", gone="4.13 4.12.1 4.11.3"),
    _row("MTRR", "mtrr-overread", too_many_ranges, "the hypervisor reads beyond the variable ranges: there are eight", LOADING, "76159f10b1", gone="4.12"),
    _row("CPU_XSAVE", "cpu-xsave-overread", _xsave_overread, "the hypervisor reads beyond the record, and perhaps the context, and takes that for XSAVE state", LOADING, "4cc1344447", gone=XSAVE_CHECKED),
    _row("CPU_XSAVE", "cpu-xsave-xsetbv", _xsetbv_faults, "XSETBV faults in the hypervisor, and nothing catches it", RUNNING, "365c95f7de", "CVE-2013-2078", gone="4.3 4.2.3"),
    _row("CPU_XSAVE", "cpu-xsave-fault", _xrstor_faults, "XRSTOR faults in the hypervisor, and nothing catches it", RUNNING, "c6ae65db36", "CVE-2013-2077", gone=XRSTOR_GUARDED),
    _row("CPU_XSAVE", "cpu-xsave-lost", _header_not_zero, "the guest loses all XSAVE state, as XRSTOR faults on it", GUEST, "d570d82291", since=XRSTOR_GUARDED, gone="4.7"),
    _row("VIRIDIAN_VCPU", "viridian-vcpu-count", _no_count, "the hypervisor divides by zero when the timer fires again", LOADING, "ff7d9aa77e", "CVE-2026-62431", since=_STIMERS, gone="4.22 4.21.2 4.20.4 4.19.6 4.18.6 4.17.7"),
    _row("VIRIDIAN_VCPU", "viridian-vcpu-page", _no_message_page, "the hypervisor dereferences a null pointer when the timer fires: there is no page for its message", RUNNING, "3a7b4f2897", "CVE-2025-58142", since=_STIMERS, gone="4.21 4.20.2 4.19.4 4.18.6 4.17.6"),
    _row("VIRIDIAN_VCPU", "viridian-vcpu-again", _assist_again, "the domain is destroyed: its VP assist page is mapped a second time", GUEST, "4567bf73c1", since="4.7", gone="4.9"),
)
"""Every hazard, in the order of the records."""
# fmt: on
