"""Every check that Xen makes of a record when it loads a context, as a table in the order
of the loaders.

Source: the load handlers of 4.5 and of c447b730, and what Xen 4.17 and 4.20 themselves
answered when asked. Where the two of them and the source's history leave it open since
when a check is made, the row says the youngest release that is known not to make it, plus
one.
"""

from __future__ import annotations

from hvmctx.abi import x86
from hvmctx.abi.releases import CPU_COMPAT_REFUSED, CPU_COMPAT_SIZE, OLDEST, Window
from hvmctx.abi.x86_bits import CR0, CR4, EFER, XCR0, ApicBase
from hvmctx.restore.machine import AMD, INTEL
from hvmctx.restore.rules import ANY, WHOLE, Rule, Seen
from hvmctx.stream.reader import CONTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hvmctx.abi.releases import Release
    from hvmctx.restore.rules import Answer, Predicate

_SINGLE_PASS = "4.18"
"""The last release that loads in a single pass."""
_CHECKED = "4.19"
"""The first release that checks PIC, PIT and PCI_LINK before it loads anything."""
_LAPIC_CHECKED = "4.20"

_U32 = 0xFFFFFFFF

# feature -> bits of cr4 that it allows, and the first release that lets it
_CR4_FEATURES = (
    ("VME", CR4.VME | CR4.PVI, OLDEST), ("TSC", CR4.TSD, OLDEST),
    ("DE", CR4.DE, OLDEST), ("PSE", CR4.PSE, OLDEST), ("PAE", CR4.PAE, OLDEST),
    ("MCE", CR4.MCE, OLDEST), ("MCA", CR4.MCE, OLDEST), ("PGE", CR4.PGE, OLDEST),
    ("FXSR", CR4.OSFXSR, OLDEST), ("SSE", CR4.OSXMMEXCPT, OLDEST),
    ("UMIP", CR4.UMIP, "4.12"), ("FSGSBASE", CR4.FSGSBASE, OLDEST),
    ("PCID", CR4.PCIDE, OLDEST), ("XSAVE", CR4.OSXSAVE, OLDEST),
    ("SMEP", CR4.SMEP, OLDEST), ("SMAP", CR4.SMAP, OLDEST),
    ("PKU", CR4.PKE, "4.7"), ("CET_SS", CR4.CET, "4.14"),
    ("CET_IBT", CR4.CET, "4.14"), ("PKS", CR4.PKS, "4.18"),
    ("LASS", CR4.LASS, "newest"),
)  # fmt: skip
_KNOWN_STATES = 0x2FF | XCR0.TILE | 1 << 62


_MSRS = ((0x48, "4.10"), (0x140, "4.10"), (0x6E1, "4.18"), (0xD90, "4.5"), (0xDA0, "4.13"),
         (0xC001011F, "4.17"), (0xC0011027, "4.5"), (0xC0011019, "4.5"), (0xC001101A, "4.5"),
         (0xC001101B, "4.5"))  # fmt: skip
"""The MSRs that a CPU_MSR record may hold, and the first release that takes them."""


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
    return (seen.length > seen.size or seen.length > seen.space) and _lengths(seen)


def _by_release(seen: Seen) -> Answer:
    """Strict or zero-extending, as the release takes this type."""
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
    """The same, with the value of the field that it is about."""
    return lambda seen: wrong(seen) and [f"{name} is {seen.fields[name]:#x}"]


def _beyond(name: str, width: int) -> Predicate:
    """Bits above that width."""
    return _shows(name, lambda seen: bool(seen.fields[name] >> width))


def _not_zero(name: str) -> Predicate:
    return lambda seen: any(seen.fields[name])


def _bad_cr0(seen: Seen) -> bool:
    cr0 = seen.fields["cr0"]
    return bool(cr0 & ~CR0.KNOWN) or not cr0 & CR0.ET or (bool(cr0 & CR0.PG) and not cr0 & CR0.PE)


def cr4_allowed(seen: Seen) -> int:
    """The bits of cr4 that this guest may have set."""
    guest, release = seen.guest, seen.release
    allowed = CR4.PCE
    for feature, lets, since in _CR4_FEATURES:
        if release.since(since) and guest.has(feature):
            allowed |= lets
    if guest.has("VMX") and (guest.nested or not release.since("4.6")):
        allowed |= CR4.VMXE
    return allowed


def _bad_cr4(seen: Seen) -> bool:
    return bool(seen.fields["cr4"] & ~cr4_allowed(seen))


def _bad_efer(seen: Seen) -> bool:
    guest, efer, cr0 = seen.guest, seen.fields["msr_efer"], seen.fields["cr0"]
    old = not seen.release.since("4.6")
    known = EFER.SCE | EFER.LME | EFER.LMA | EFER.NXE | EFER.FFXSE
    if old:
        known |= EFER.LMSLE
    if not old or (guest.nested and guest.has("SVM")):
        known |= EFER.SVME
    if seen.release.since("4.18"):
        known |= EFER.AIBRSE
    return bool(
        efer & ~known
        or (efer & EFER.SCE and not guest.has("SYSCALL"))
        or (not old and efer & (EFER.LME | EFER.LMA) and not guest.has("LM"))
        or (efer & EFER.LMA and (not efer & EFER.LME or (not old and not cr0 & CR0.PG)))
        or (efer & EFER.NXE and not guest.has("NX"))
        or (efer & EFER.SVME and not (guest.has("SVM") and guest.nested))
        or (efer & EFER.FFXSE and not guest.has("FFXSR"))
        or (efer & EFER.AIBRSE and not guest.has("AUTO_IBRS"))
    )


def _vendor(seen: Seen) -> str:
    return seen.machine.vendor or seen.guest.vendor or INTEL


def _event(seen: Seen) -> tuple[bool, int, bool, int]:
    """(valid, type, with an error code, reserved) of the pending event."""
    word = seen.fields["pending_event"]
    return bool(word >> 31), word >> 8 & 7, bool(word >> 11 & 1), word >> 12 & 0x7FFFF


def _bad_event(seen: Seen) -> bool:
    valid, kind, _, reserved = _event(seen)
    highest = 4 if _vendor(seen) == AMD and seen.release.since("4.17") else 6
    return valid and (kind == 1 or kind > highest or reserved != 0)


def _bad_error_code(seen: Seen) -> bool:
    valid, _, with_error, _ = _event(seen)
    return valid and with_error and seen.fields["error_code"] >> 16 != 0


def _pic_master(seen: Seen) -> bool:
    return bool(seen.fields["is_master"])


def _bad_pic(seen: Seen) -> bool:
    fields = seen.fields
    allowed = 0xF8 | 0x04 if _pic_master(seen) else 0xDE
    return (
        _pic_master(seen) != (seen.instance == 0)
        or bool(fields["int_output"] and fields["init_state"])
        or bool(fields["elcr"] & ~allowed)
    )


def _bad_lapic_base(seen: Seen) -> bool:
    mode = seen.fields["apic_base_msr"] & (ApicBase.EXTD | ApicBase.EN)
    return bool(mode == ApicBase.EXTD)


def _bad_routes(seen: Seen) -> bool:
    return any(route > 15 for route in seen.fields["route"])


def _pit_domain(seen: Seen) -> bool:
    fields = seen.fields
    return fields["speaker_data_on"] > 1 or fields["pad0"] != 0 or _pit_channels(seen) == "EDOM"


def _pit_channels(seen: Seen) -> str | None:
    """The errno of the first channel that is refused: all its ranges come before its gate."""
    for number, channel in enumerate(seen.fields["channels"]):
        if (
            channel["count"] > 0x10000
            or channel["count_latched"] >= 5
            or channel["read_state"] >= 5
            or channel["write_state"] >= 5
            or channel["rw_mode"] > 3
            or channel["gate"] > 1
            or channel["bcd"] > 1
        ):
            return "EDOM"
        if number != 2 and not channel["gate"]:
            return "EINVAL"
    return None


def _pit_gate(seen: Seen) -> bool:
    return _pit_channels(seen) == "EINVAL"


def _too_many_ranges(seen: Seen) -> bool:
    return bool(seen.fields["msr_mtrr_cap"] & 0xFF > x86.MTRR_VCNT)


def _cut_off(seen: Seen) -> bool:
    return seen.length > seen.space


def _states(seen: Seen) -> tuple[int, int, int, int]:
    """xcr0, xcr0_accum, xstate_bv, xcomp_bv."""
    header = seen.fields["save_area"]["xsave_hdr"]
    fields = seen.fields
    return fields["xcr0"], fields["xcr0_accum"], header["xstate_bv"], header["xcomp_bv"]


def _valid_xcr0(states: int) -> bool:
    if states & ~_KNOWN_STATES or not states & XCR0.X87:
        return False
    if states & XCR0.YMM and not states & XCR0.SSE:
        return False
    if states & XCR0.AVX512 and (states & XCR0.AVX512 != XCR0.AVX512 or not states & XCR0.YMM):
        return False
    if states & XCR0.TILE not in (0, XCR0.TILE):
        return False
    return bool(states & XCR0.BNDREGS) == bool(states & XCR0.BNDCSR)


def _bad_states(seen: Seen) -> bool:
    xcr0, accum, present, _ = _states(seen)
    beyond = accum & ~seen.guest.xcr0_max if seen.release.since("4.17") else 0
    return bool(
        present & ~accum or xcr0 & ~accum or beyond or not _valid_xcr0(xcr0)
        or not _valid_xcr0(accum)
    )  # fmt: skip


def _compacted(seen: Seen) -> bool:
    accum, compact = _states(seen)[1], _states(seen)[3]
    return bool(accum & ~seen.guest.xcr0_max or compact)


def _reserved_xsave(seen: Seen) -> bool:
    return any(seen.fields["save_area"]["xsave_hdr"]["reserved"])


def _xsave_size(seen: Seen) -> int:
    return 24 + seen.guest.xsave_size(_states(seen)[1])


def _xsave_excess(seen: Seen) -> bool:
    return any(seen.body()[_xsave_size(seen) :])


def _xsave_short(seen: Seen) -> bool:
    return seen.length < _xsave_size(seen)


def _msrs(seen: Seen) -> list[tuple[int, int, int]]:
    """(index, reserved, value) of each element."""
    body = seen.body()
    return [
        (
            int.from_bytes(body[at : at + 4], "little"),
            int.from_bytes(body[at + 4 : at + 8], "little"),
            int.from_bytes(body[at + 8 : at + 16], "little"),
        )
        for at in range(8, seen.length, 16)
    ]


def _bad_msr_count(seen: Seen) -> bool:
    return seen.length != 8 + 16 * seen.number(0)


def takes_msr(release: Release, index: int) -> bool:
    """Whether the release's list of MSRs has this one."""
    return any(index == known and release.since(since) for known, since in _MSRS)


def _first_msr_errno(seen: Seen) -> str | None:
    """MSRs are taken one by one: the errno of the first that is refused."""
    for index, _, value in _msrs(seen):
        if not takes_msr(seen.release, index):
            return "ENXIO"
        errno = _msr_refused(seen, index, value)
        if errno:
            return errno
    return None


def _msr_refused(seen: Seen, index: int, value: int) -> str | None:
    if index in (0xC0011027, 0xC0011019, 0xC001101A, 0xC001101B):
        if _vendor(seen) != AMD or not seen.guest.has("DBEXT"):
            return "ENXIO"
        return "EDOM" if value >> 32 else None
    needs = {0x48: ("IBRSB", "IBRS"), 0x6E1: ("PKS",), 0xD90: ("MPX",), 0xDA0: ("XSAVES",),
             0xC001011F: ("VIRT_SSBD",)}.get(index)  # fmt: skip
    if needs is not None and not any(seen.guest.has(feature) for feature in needs):
        return "ENXIO"
    if index == 0xDA0 and value:
        return "ENXIO"
    if index == 0x140 and value & ~1:
        return "ENXIO"
    return None


def _caps(seen: Seen) -> bool:
    intel = 0x09000DFF if seen.release.since("4.10") else 0x01000DFF
    return bool(seen.fields["caps"] & ~(intel if _vendor(seen) == INTEL else 0x1FF))


def _no_header(seen: Seen) -> bool:
    return seen.length != seen.size or seen.space < seen.size


def _always(seen: Seen) -> bool:
    return True


def _rows(record: str, *rows: tuple[Any, ...]) -> tuple[Rule, ...]:
    """(id, errno, predicate, words, since, until) -> rules; since and until may be left out."""
    prefix = record.lower().replace("_", "-")
    return tuple(
        Rule(
            CONTEXT, record, f"{prefix}-{identifier}", predicate, words,
            errno=errno, releases=Window(*window),
        )
        for identifier, errno, predicate, words, *window in rows
    )  # fmt: skip


_VCPU = ("vcpu", "EINVAL", _no_vcpu, "the guest has no vcpu of that number")
_LENGTH = ("length", "EINVAL", _by_release, "this release does not accept this length")

# fmt: off
WALK = tuple(Rule(CONTEXT, record, identifier, predicate, words, errno=errno, releases=Window(*since)) for record, identifier, errno, predicate, words, *since in (
    ("HEADER", "context-header", "ENODATA", _no_header, "the context does not start with a HEADER record of 24 bytes"),
    ("HEADER", "context-magic", "EINVAL", lambda s: s.fields["magic"] != x86.HVM_FILE_MAGIC, "the header's magic is not Xen's"),
    ("HEADER", "context-version", "EINVAL", lambda s: s.fields["version"] != x86.HVM_FILE_VERSION, "the header's version is not 1"),
    (WHOLE, "context-end", "ENODATA", _always, "the context ends without an END record"),
    (ANY, "context-type", "EINVAL", _always, "no handler loads records of this type"),
    (ANY, "context-bounds", "ENODATA", _cut_off, "the record's length is beyond the end of the context", _CHECKED),
))
"""The walk's own rules, which stand whatever the handlers say: about the first record; about
what is left where there is no room for another; about a record without a handler; and, in
the first of two passes, about one whose handler has no check."""
RULES = (
    *_rows("CPU",
        _VCPU,
        ("length", "EINVAL", _cpu_length, "this release does not accept this length"),
        ("pad0", "EINVAL", _beyond("pad0", 0), "pad0 is not zero", "4.7"),
        ("cr0", "EINVAL", _shows("cr0", _bad_cr0), "cr0 has an unknown bit, or no ET, or PG without PE"),
        ("cr4", "EINVAL", _shows("cr4", _bad_cr4), "cr4 has a bit that the guest's CPU policy does not allow"),
        ("efer", "EINVAL", _shows("msr_efer", _bad_efer), "EFER has an unknown bit, one that the policy does not allow, or LMA without LME and paging"),
        ("dr", "EINVAL", lambda s: bool(s.fields["dr6"] >> 32 or s.fields["dr7"] >> 32), "dr6 or dr7 has bits above 31", "4.18"),
        ("cr3", "EINVAL", _shows("cr3", lambda s: bool(s.fields["cr3"] >> s.guest.maxphysaddr)), "cr3 is beyond the guest's physical addresses", "4.14"),
        ("flags", "EINVAL", _beyond("flags", 1), "flags has an unknown bit", "4.7"),
        ("tsc-aux", "EINVAL", _beyond("msr_tsc_aux", 32), "msr_tsc_aux has bits above 31", "4.12"),
        ("event", "EINVAL", _shows("pending_event", _bad_event), "the pending event has an invalid type, or reserved bits set"),
        ("error-code", "EINVAL", _shows("error_code", _bad_error_code), "the pending event's error code has bits above 15", "4.17"),
    ),
    *_rows("PIC",
        ("device", "ENODEV", _without("vpic"), "the guest has no PIC", "4.12"),
        ("instance", "ENOENT", _no_pic, "there are only two PICs"),
        ("length", "EINVAL", _strict, "not the length of this record type", OLDEST, _SINGLE_PASS),
        ("length", "ENODATA", _strict, "not the length of this record type", _CHECKED),
        ("int-output", "EDOM", _shows("int_output", lambda s: s.fields["int_output"] > 1), "int_output is neither 0 nor 1", _CHECKED),
        ("state", "EINVAL", _bad_pic, "a mismatch of is_master and the instance, of int_output and init_state, or of elcr and the pins", _CHECKED),
    ),
    *_rows("IOAPIC",
        ("device", "ENODEV", _without("vioapic"), "the guest has no I/O APIC", "4.12"),
        ("length", "ENODATA", _strict, "not the length of this record type"),
    ),
    *_rows("LAPIC",
        ("device", "ENODEV", _without("vlapic"), "the guest has no LAPIC", "4.12"),
        _VCPU,
        ("length", "EINVAL", _by_release, "this release does not accept this length", OLDEST, "4.19"),
        ("length", "ENODATA", _by_release, "this release does not accept this length", _LAPIC_CHECKED),
        ("base", "EINVAL", _shows("apic_base_msr", _bad_lapic_base), "apic_base_msr has EXTD without EN"),
    ),
    *_rows("LAPIC_REGS",
        ("device", "ENODEV", _without("vlapic"), "the guest has no LAPIC", "4.12"),
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
        ("device", "ENODEV", _without("vpit"), "the guest has no PIT", "4.12"),
        ("length", "ENODATA", _strict, "not the length of this record type"),
        ("range", "EDOM", _pit_domain, "a field is beyond its range, or pad0 is not zero", _CHECKED),
        ("gate", "EINVAL", _pit_gate, "the gate of channel 0 or 1 is closed", _CHECKED),
    ),
    *_rows("RTC",
        ("device", "ENODEV", _without("vrtc"), "the guest has no RTC", "4.12"), _LENGTH,
    ),
    *_rows("HPET",
        ("device", "ENODEV", _without("vhpet"), "the guest has no HPET", "4.12"), _LENGTH,
    ),
    *_rows("PMTIMER",
        ("device", "ENODEV", _without("vpm"), "the guest has no PM timer", "4.12"), _LENGTH,
    ),
    *_rows("MTRR",
        _VCPU, _LENGTH,
        ("cap", "EINVAL", _shows("msr_mtrr_cap", _too_many_ranges), "msr_mtrr_cap has more than eight variable ranges", "4.12"),
    ),
    *_rows("VIRIDIAN_DOMAIN", _LENGTH),
    *_rows("CPU_XSAVE",
        _VCPU,
        ("host", "ENOTSUP", lambda s: not s.machine.xsave, "the host has no XSAVE"),
        ("cut", "ENODATA", _cut_off, "the context ends within the record"),
        ("length", "EINVAL", _shorter(x86.CPU_XSAVE.size), "shorter than the fixed part and the legacy area"),
        ("states", "EINVAL", _bad_states, "xcr0, xcr0_accum and xstate_bv do not match each other, the policy or the architecture"),
        ("compact", "ENOTSUP", _compacted, "states that the host does not have, or a compacted image"),
        ("reserved", "EIO", _reserved_xsave, "reserved bytes of the xsave header are not zero", "4.17"),
        ("excess", "ENOTSUP", _xsave_excess, "bytes after the image for xcr0_accum are not zero"),
        ("short", "EINVAL", _xsave_short, "shorter than the image for xcr0_accum", "4.17"),
    ),
    *_rows("VIRIDIAN_VCPU",
        _VCPU, _LENGTH,
        ("pad", "EINVAL", _not_zero("_pad"), "padding is not zero", "4.7"),
    ),
    *_rows("VMCE_VCPU",
        _VCPU,
        ("length", "EPERM", _by_release, "this release does not accept this length"),
        ("caps", "EINVAL", _shows("caps", _caps), "caps has a bit that CPUs of the host's vendor do not have"),
    ),
    *_rows("TSC_ADJUST", _VCPU, _LENGTH),
    *_rows("CPU_MSR",
        _VCPU,
        ("cut", "ENODATA", _cut_off, "the context ends within the record"),
        ("length", "EINVAL", _shorter(24), "too short for a single MSR"),
        ("count", "ENOTSUP", _bad_msr_count, "the length does not match the count"),
        ("reserved", "ENOTSUP", lambda s: any(m[1] for m in _msrs(s)), "an entry's reserved word is not zero"),
        ("index", "ENXIO", lambda s: _first_msr_errno(s) == "ENXIO", "an MSR that is not in the release's list, or a value that the guest may not write"),
        ("mask", "EDOM", lambda s: _first_msr_errno(s) == "EDOM", "an address mask with bits above 31"),
    ),
)
"""The checks of each record's loader, in order. Errnos as 4.17 and later give them; up to 4.16 every
handler's refusal comes out as EPERM."""
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

__all__ = ["CHECKED_SINCE", "RULES", "WALK", "cr4_allowed", "takes_msr"]
