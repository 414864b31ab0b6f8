"""Every check that Xen makes of a record when it loads a context, as a table in the order
of the loaders.

Source: the load handlers of every release tag, 4.0.0 to c447b730, and what hypervisors
answered when asked: twelve from 4.5.5 to c447b730 on AMD, 4.17 and 4.20 on Intel.
"""

from __future__ import annotations

from hvmctx.abi import x86
from hvmctx.abi.names import NAMES
from hvmctx.abi.releases import CPU_COMPAT_REFUSED, CPU_COMPAT_SIZE, OLDEST, Window, came_with
from hvmctx.abi.streams import Flat
from hvmctx.abi.x86_bits import CR0, ApicBase, McgCap, bit_names
from hvmctx.restore.machine import AMD, INTEL
from hvmctx.restore.msrs import refused
from hvmctx.restore.registers import (
    bad_cr0,
    bad_cr4,
    bad_efer,
    bad_states,
    beyond_the_host,
    compacted,
    states_of,
)
from hvmctx.restore.remedies import REMEDIES
from hvmctx.restore.rules import ANY, WHOLE, Rule, Seen
from hvmctx.stream.reader import CONTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hvmctx.restore.rules import Answer, Predicate

_SINGLE_PASS = "4.18"
"""The last release that loads in a single pass."""
_CHECKED = "4.19"
"""The first release that checks PIC, PIT and PCI_LINK before it loads anything."""
_LAPIC_CHECKED = "4.20"

_U32, _U64 = 0xFFFFFFFF, (1 << 64) - 1
_PFN = (1 << 48) - 1

_MSR = Flat(x86.hvm_one_msr)
XSAVE_HEAD = x86.hvm_hw_cpu_xsave.save_area.offset
XSAVE_CHECKED = "4.4 4.3.1 4.2.4"
"""Since when the states of a CPU_XSAVE record are checked, and its length."""
_ZEROES_TAKEN = "4.5 4.4.2 4.3.4"
"""Since when zeros after the image for xcr0_accum are let through."""
_ROOM_BY_LENGTH = "4.5 4.4.2 4.3.4"
"""Since when a short record that is extended with zeros may be the last of a context."""


def _no_vcpu(seen: Seen) -> Answer:
    return seen.instance >= seen.guest.vcpus and _which(seen)


def _no_pic(seen: Seen) -> Answer:
    return seen.instance >= 2 and _which(seen)


def _which(seen: Seen) -> list[str]:
    return [f"instance {seen.instance}, {seen.guest.vcpus} vcpus"]


def _lengths(seen: Seen) -> list[str]:
    return [f"length {seen.length}, {seen.space} bytes left"]


def _strict(seen: Seen) -> Answer:
    return (seen.length != seen.size or seen.length > seen.space) and _lengths(seen)


def _extends(seen: Seen) -> Answer:
    """Older loaders want as many bytes left of the context as the whole structure has."""
    needed = seen.length if seen.release.since(_ROOM_BY_LENGTH) else max(seen.length, seen.size)
    return (seen.length > seen.size or needed > seen.space) and _lengths(seen)


def _by_release(seen: Seen) -> Answer:
    """Checked strictly or extended with zeros, as the release does for this type."""
    return _extends(seen) if seen.release.zero_extends(seen.name) else _strict(seen)


def _cpu_length(seen: Seen) -> Answer:
    compat = seen.length == CPU_COMPAT_SIZE and str(seen.release) not in CPU_COMPAT_REFUSED
    if compat and not seen.release.zero_extends("CPU"):
        return seen.length > seen.space and _lengths(seen)
    return _by_release(seen)


def _shorter(size: int) -> Predicate:
    return lambda seen: seen.length < size and _lengths(seen)


def _without(device: str) -> Predicate:
    return lambda seen: device not in seen.guest.devices


def _shows(name: str, wrong: Predicate) -> Predicate:
    """The same predicate, with the value of its field as a detail."""
    return lambda seen: wrong(seen) and [f"{name} is {seen.fields[name]:#x}"]


def _beyond(name: str, width: int) -> Predicate:
    """The field has bits above that width."""
    return _shows(name, lambda seen: bool(seen.fields[name] >> width))


def _not_zero(name: str) -> Predicate:
    return lambda seen: any(seen.fields[name])


def cr3_beyond(seen: Seen) -> Answer:
    cr3, width = seen.fields["cr3"], seen.guest.maxphysaddr
    return bool(cr3 >> width) and [f"cr3 is {cr3:#x}, the guest has {width} address bits"]


def _cr3_without_page(seen: Seen) -> bool:
    """Shadow paging needs the page of the top table at once."""
    has_page, fields = seen.guest.has_page, seen.fields
    if seen.guest.hap or has_page is None or not fields["cr0"] & CR0.PG:
        return False
    return not has_page(fields["cr3"] >> 12)


def tsc_page_of(seen: Seen) -> int | None:
    """The pfn that a VIRIDIAN_DOMAIN record gives to the reference TSC; None if that is off."""
    value: int = seen.fields["reference_tsc"]
    return value >> 12 & _PFN if value & 1 else None


def _tsc_without_page(seen: Seen) -> bool:
    """A page that an earlier record had mapped stays mapped, whatever this one says."""
    pfn, has_page = tsc_page_of(seen), seen.guest.has_page
    if pfn is None or has_page is None or not seen.guest.viridian or seen.loaded.tsc_page:
        return False
    return not has_page(pfn)


def vendor_of(seen: Seen) -> str:
    return seen.machine.vendor or seen.guest.vendor or INTEL


def _event(seen: Seen) -> tuple[bool, int, bool, int]:
    """(valid, type, with an error code, reserved) of the pending event."""
    word = seen.fields["pending_event"]
    return bool(word >> 31), word >> 8 & 7, bool(word >> 11 & 1), word >> 12 & 0x7FFFF


def bad_event(seen: Seen) -> str:
    """Of a release that knows which types of event AMD's CPUs have."""
    return event_beyond(seen, 4 if vendor_of(seen) == AMD and seen.release.since("4.9") else 6)


def event_beyond(seen: Seen, highest: int) -> str:
    """What is wrong with a pending event, whose type is at most this."""
    valid, kind, _, reserved = _event(seen)
    if not valid:
        return ""
    if kind == 1 or kind > highest:
        name = NAMES["CPU.pending_type"].get(kind)
        of = f"{'AMD' if highest == 4 else 'x86'}'s CPUs do not have"
        return f"the pending event is of type {kind}{f' ({name})' if name else ''}, which {of}"
    return f"the pending event has reserved bits: {reserved:#x}" if reserved else ""


def _bad_error_code(seen: Seen) -> bool:
    valid, _, with_error, _ = _event(seen)
    return valid and with_error and seen.fields["error_code"] >> 16 != 0


def _pic_master(seen: Seen) -> bool:
    return bool(seen.fields["is_master"])


def wrong_master(seen: Seen) -> list[str]:
    """That is_master is not that of the instance."""
    master = _pic_master(seen)
    if master == (seen.instance == 0):
        return []
    return [f"is_master is {int(master)} in PIC/{seen.instance}; the master is PIC/0"]


def _bad_pic(seen: Seen) -> str:
    fields = seen.fields
    master = _pic_master(seen)
    beyond = fields["elcr"] & ~(0xF8 | 0x04 if master else 0xDE)
    mismatch = wrong_master(seen)
    if mismatch:
        return mismatch[0]
    if fields["int_output"] and fields["init_state"]:
        return f"int_output is 1 while init_state is {fields['init_state']}"
    return (
        f"elcr is {fields['elcr']:#x}: pins {beyond:#x} are always edge-triggered" if beyond else ""
    )


def _bad_lapic_base(seen: Seen) -> bool:
    mode = seen.fields["apic_base_msr"] & (ApicBase.EXTD | ApicBase.EN)
    return bool(mode == ApicBase.EXTD)


def _bad_routes(seen: Seen) -> Answer:
    routes = enumerate(seen.fields["route"])
    return next(([f"route[{n}] is {route}"] for n, route in routes if route > 15), False)


def pit_range(seen: Seen) -> Answer:
    fields = seen.fields
    for name, most in (("speaker_data_on", 1), ("pad0", 0)):
        if fields[name] > most:
            return [f"{name} is {fields[name]}"]
    errno, what = _pit_channels(seen)
    return errno == "EDOM" and [what]


_PIT_MOST = {
    "count": 0x10000, "count_latched": 4, "read_state": 4, "write_state": 4, "rw_mode": 3,
    "gate": 1, "bcd": 1,
}  # fmt: skip


def _pit_channels(seen: Seen) -> tuple[str, str]:
    """The errno of the first channel that is refused, and what it is refused for: its ranges are
    checked before its gate."""
    for number, channel in enumerate(seen.fields["channels"]):
        for name, most in _PIT_MOST.items():
            if channel[name] > most:
                return "EDOM", f"channels[{number}].{name} is {channel[name]:#x}"
        if number != 2 and not channel["gate"]:
            return "EINVAL", f"channels[{number}].gate is 0"
    return "", ""


def pit_gate(seen: Seen) -> Answer:
    errno, what = _pit_channels(seen)
    return errno == "EINVAL" and [what]


def too_many_ranges(seen: Seen) -> Answer:
    cap = seen.fields["msr_mtrr_cap"]
    return cap & 0xFF > x86.MTRR_VCNT and [f"msr_mtrr_cap is {cap:#x}"]


def _cut_off(seen: Seen) -> bool:
    return seen.length > seen.space


def _mask_beyond(seen: Seen) -> str:
    return beyond_the_host(seen, "xfeature_mask", seen.fields["xfeature_mask"], seen.host)


def _compacted(seen: Seen) -> str:
    return compacted(seen, seen.host)


def _reserved_xsave(seen: Seen) -> bool:
    return any(seen.fields["save_area"]["xsave_hdr"]["reserved"])


def xsave_size(seen: Seen) -> int:
    """Bytes of a CPU_XSAVE record that has no more than the image for its xcr0_accum."""
    return XSAVE_HEAD + seen.host.xsave_size(states_of(seen)[1])


def _xsave_long(seen: Seen) -> Answer:
    """Beyond all states of the host, as the loaders before the zeros did not take it."""
    largest = XSAVE_HEAD + seen.host.xsave_size(seen.host.xcr0_max)
    return seen.length > largest and _lengths(seen)


def _xsave_excess(seen: Seen) -> bool:
    excess = seen.body()[xsave_size(seen) :]
    return any(excess) if seen.release.since(_ZEROES_TAKEN) else bool(excess)


def _xsave_short(seen: Seen) -> bool:
    return seen.length < xsave_size(seen)


def _msrs(seen: Seen) -> list[tuple[int, int, int]]:
    """(index, reserved, value) of each whole element."""
    rows = seen.body()[x86.CPU_MSR.size :]
    return list(_MSR.iter_unpack(rows[: len(rows) // _MSR.size * _MSR.size]))


def _bad_msr_count(seen: Seen) -> bool:
    return seen.length != x86.CPU_MSR.size + _MSR.size * seen.number(0)


def _first_refused(seen: Seen, errno: str) -> str:
    """MSRs are taken one by one: what speaks against the first that is refused, if that is with
    this errno."""
    vendor = vendor_of(seen)
    for index, _, value in _msrs(seen):
        refusal = refused(seen, vendor, index, value)
        if refusal is not None:
            return refusal.why if refusal.errno == errno else ""
    return ""


def _caps(seen: Seen) -> str:
    """4.2 allows the same bits on every host; those of Intel's CPUs are other ones since."""
    intel = 0x09000DFF if seen.release.since("4.10") else 0x01000DFF
    whose, allowed = ("Intel", intel) if vendor_of(seen) == INTEL else ("AMD", 0x1FF)
    if not seen.release.since("4.3"):
        whose, allowed = "x86", 0x010009FF
    beyond = ", ".join(bit_names(McgCap, seen.fields["caps"] & ~allowed))
    return f"caps has {beyond}, which Xen gives no guest on {whose} CPUs" if beyond else ""


def _no_header(seen: Seen) -> bool:
    return seen.length != seen.size or seen.space < seen.size


def _always(seen: Seen) -> bool:
    return True


def _rows(record: str, *rows: tuple[Any, ...]) -> tuple[Rule, ...]:
    """Rules from (id, errno, predicate, words, since, until, gone); the last three may be
    omitted, and without `since` a rule is as old as its record."""
    prefix, first = record.lower().replace("_", "-"), came_with(record)
    return tuple(
        Rule(
            CONTEXT, record, f"{prefix}-{identifier}", predicate, words,
            errno=errno, releases=Window(*(window or (first,))),
            remedy=REMEDIES.get(f"{prefix}-{identifier}"),
        )
        for identifier, errno, predicate, words, *window in rows
    )  # fmt: skip


_VCPU = ("vcpu", "EINVAL", _no_vcpu, "the guest has no vcpu of that number")
_LENGTH = ("length", "EINVAL", _by_release, "this release does not accept this length")

# fmt: off
WALK = tuple(Rule(CONTEXT, record, identifier, predicate, words, errno=errno, releases=Window(*since), remedy=REMEDIES.get(identifier)) for record, identifier, errno, predicate, words, *since in (
    ("HEADER", "context-header", "ENODATA", _no_header, "the context does not start with a HEADER record of 24 bytes"),
    ("HEADER", "context-magic", "EINVAL", lambda s: s.fields["magic"] != x86.HVM_FILE_MAGIC, "the header's magic is not Xen's"),
    ("HEADER", "context-version", "EINVAL", lambda s: s.fields["version"] != x86.HVM_FILE_VERSION, "the header's version is not 1"),
    (WHOLE, "context-end", "ENODATA", _always, "the context ends without an END record"),
    (ANY, "context-type", "EINVAL", _always, "no handler loads records of this type"),
    (ANY, "context-bounds", "ENODATA", _cut_off, "the record ends after the end of the context", _CHECKED),
))
"""Rules that no handler makes: about the first record; about what is left when there is no
room for another record; about a record without a handler; and, in the first of two passes,
about a record whose handler has no check."""
RULES = (
    *_rows("CPU",
        _VCPU,
        ("length", "EINVAL", _cpu_length, "this release does not accept this length"),
        ("pad0", "EINVAL", _beyond("pad0", 0), "pad0 is not zero", "4.7"),
        ("cr0", "EINVAL", bad_cr0, "cr0 has an unknown bit, or no ET, or PG without PE"),
        ("cr4", "EINVAL", bad_cr4, "cr4 has a bit that the guest's CPU policy does not allow"),
        ("efer", "EINVAL", bad_efer, "EFER has an unknown bit, one that the policy does not allow, or LMA without LME and paging"),
        ("dr", "EINVAL", lambda s: bool(s.fields["dr6"] >> 32 or s.fields["dr7"] >> 32), "dr6 or dr7 has bits above 31", "4.18"),
        ("cr3", "EINVAL", cr3_beyond, "cr3 is beyond the guest's physical addresses", "4.14"),
        ("flags", "EINVAL", _beyond("flags", 1), "flags has an unknown bit", "4.7"),
        ("tsc-aux", "EINVAL", _beyond("msr_tsc_aux", 32), "msr_tsc_aux has bits above 31", "4.12"),
        ("event", "EINVAL", bad_event, "the pending event has an invalid type, or reserved bits set"),
        ("error-code", "EINVAL", _shows("error_code", _bad_error_code), "the pending event's error code has bits above 15", "4.9"),
        ("cr3-page", "EINVAL", _shows("cr3", _cr3_without_page), "the guest has no page at cr3, and its page tables are shadowed"),
    ),
    *_rows("PIC",
        ("device", "ENODEV", _without("vpic"), "the guest has no PIC", "4.7"),
        ("instance", "ENOENT", _no_pic, "there are only two PICs"),
        ("length", "EINVAL", _strict, "not the length of this record type", OLDEST, _SINGLE_PASS),
        ("length", "ENODATA", _strict, "not the length of this record type", _CHECKED),
        ("int-output", "EDOM", _shows("int_output", lambda s: s.fields["int_output"] > 1), "int_output is neither 0 nor 1", _CHECKED),
        ("state", "EINVAL", _bad_pic, "a mismatch of is_master and the instance, of int_output and init_state, or of elcr and the pins", _CHECKED),
    ),
    *_rows("IOAPIC",
        ("device", "ENODEV", _without("vioapic"), "the guest has no I/O APIC", "4.7"),
        ("length", "ENODATA", _strict, "not the length of this record type"),
    ),
    *_rows("LAPIC",
        ("device", "ENODEV", _without("vlapic"), "the guest has no LAPIC", "4.7"),
        _VCPU,
        ("length", "EINVAL", _by_release, "this release does not accept this length", OLDEST, "4.19"),
        ("length", "ENODATA", _by_release, "this release does not accept this length", _LAPIC_CHECKED),
        ("base", "EINVAL", _shows("apic_base_msr", _bad_lapic_base), "apic_base_msr has EXTD without EN", "4.5"),
    ),
    *_rows("LAPIC_REGS",
        ("device", "ENODEV", _without("vlapic"), "the guest has no LAPIC", "4.7"),
        _VCPU,
        ("length", "EINVAL", _strict, "not the length of this record type", OLDEST, "4.19"),
        ("length", "ENODATA", _strict, "not the length of this record type", _LAPIC_CHECKED),
    ),
    *_rows("PCI_IRQ", _LENGTH),
    *_rows("ISA_IRQ", _LENGTH),
    *_rows("PCI_LINK",
        ("length", "EINVAL", _strict, "not the length of this record type", OLDEST, _SINGLE_PASS),
        ("length", "ENODATA", _strict, "not the length of this record type", _CHECKED),
        ("pad0", "EINVAL", _not_zero("pad0"), "pad0 is not zero", _CHECKED),
        ("route", "EINVAL", _bad_routes, "a link is routed to an IRQ above 15"),
    ),
    *_rows("PIT",
        ("device", "ENODEV", _without("vpit"), "the guest has no PIT", "4.7"),
        ("length", "ENODATA", _strict, "not the length of this record type"),
        ("range", "EDOM", pit_range, "a field is beyond its range, or pad0 is not zero", _CHECKED),
        ("gate", "EINVAL", pit_gate, "the gate of channel 0 or 1 is closed", _CHECKED),
    ),
    *_rows("RTC",
        ("device", "ENODEV", _without("vrtc"), "the guest has no RTC", "4.7"), _LENGTH,
    ),
    *_rows("HPET",
        ("device", "ENODEV", _without("vhpet"), "the guest has no HPET", "4.7"), _LENGTH,
    ),
    *_rows("PMTIMER",
        ("device", "ENODEV", _without("vpm"), "the guest has no PM timer", "4.7"), _LENGTH,
    ),
    *_rows("MTRR",
        _VCPU, _LENGTH,
        ("cap", "EINVAL", too_many_ranges, "msr_mtrr_cap has more than eight variable ranges", "4.12"),
    ),
    *_rows("VIRIDIAN_DOMAIN", _LENGTH),
    *_rows("CPU_XSAVE",
        _VCPU,
        ("host", "ENOTSUP", lambda s: not s.machine.xsave, "the host has no XSAVE"),
        ("cut", "ENODATA", _cut_off, "the context ends within the record"),
        ("length", "EINVAL", _shorter(x86.CPU_XSAVE.size), "shorter than the fixed part and the legacy area", XSAVE_CHECKED),
        ("long", "ENOTSUP", _xsave_long, "longer than the image for all states of the host", "4.1", None, _ZEROES_TAKEN),
        ("mask", "EINVAL", _mask_beyond, "xfeature_mask has states that the host does not have", "4.1", None, XSAVE_CHECKED),
        ("states", "EINVAL", bad_states, "xcr0, xcr0_accum and xstate_bv do not match each other, the policy or the architecture", XSAVE_CHECKED),
        ("compact", "ENOTSUP", _compacted, "states that the host does not have, or a compacted image", XSAVE_CHECKED),
        ("reserved", "EIO", _reserved_xsave, "reserved bytes of the xsave header are not zero", "4.7"),
        ("excess", "ENOTSUP", _xsave_excess, "bytes after the image for xcr0_accum are not zero", XSAVE_CHECKED),
        ("short", "EINVAL", _xsave_short, "shorter than the image for xcr0_accum", "4.8 4.7.1"),
    ),
    *_rows("VIRIDIAN_VCPU",
        _VCPU, _LENGTH,
        ("pad", "EINVAL", _not_zero("_pad"), "padding is not zero", "4.7"),
    ),
    *_rows("VMCE_VCPU",
        _VCPU,
        ("length", "EPERM", _by_release, "this release does not accept this length"),
        ("caps", "EINVAL", _caps, "caps has a bit that CPUs of the host's vendor do not have"),
    ),
    *_rows("TSC_ADJUST", _VCPU, _LENGTH),
    *_rows("CPU_MSR",
        _VCPU,
        ("cut", "ENODATA", _cut_off, "the context ends within the record"),
        ("length", "EINVAL", _shorter(24), "too short for a single MSR"),
        ("count", "ENOTSUP", _bad_msr_count, "the length does not match the count"),
        ("reserved", "ENOTSUP", lambda s: any(m[1] for m in _msrs(s)), "an entry's reserved word is not zero"),
        ("index", "ENXIO", lambda s: _first_refused(s, "ENXIO"), "an MSR that is not in the release's list, or a value that the guest may not write"),
        ("mask", "EDOM", lambda s: _first_refused(s, "EDOM"), "an address mask with bits above 31", "4.5", "4.11"),
    ),
)
"""The checks of each record's loader, in order. Before `context.ERRNO_SINCE` every refusal by a
handler is EPERM."""
UNPAUSED = (
    Rule(
        CONTEXT, "VIRIDIAN_DOMAIN", "viridian-domain-tsc-page", _shows("reference_tsc", _tsc_without_page),
        "the hypervisor dies: the reference TSC is on, and the guest has no page for it",
        releases=Window("4.13", gone="4.21 4.20.2 4.19.4 4.18.6 4.17.6"),
        commit="5776a2e9db", cve="CVE-2025-27466",
        remedy=REMEDIES["viridian-domain-tsc-page"],
    ),
)
"""What kills the hypervisor when the load ends the pause of the guest, even if a later record was
refused (CVE-2025-27466 of XSA-472; read in 4.13.0 to 4.22.0, and seen in 4.14.6 and 4.16.7)."""
# fmt: on

CHECKED_SINCE = {
    "PIC": _CHECKED,
    "PIT": _CHECKED,
    "PCI_LINK": _CHECKED,
    "LAPIC": _LAPIC_CHECKED,
    "LAPIC_REGS": _LAPIC_CHECKED,
}
"""Records with a check handler, which runs over the whole context before anything is
loaded, and since when."""

__all__ = [
    "CHECKED_SINCE", "RULES", "UNPAUSED", "WALK", "XSAVE_CHECKED", "XSAVE_HEAD", "cr3_beyond",
    "event_beyond", "pit_gate", "pit_range", "too_many_ranges", "tsc_page_of",
    "vendor_of", "wrong_master", "xsave_size",
]  # fmt: skip
