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
from hvmctx.restore.host import AMD, INTEL
from hvmctx.restore.rules import LoadedRecord, Rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

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


def _size(entry: LoadedRecord) -> int:
    size = entry.host.release.size_of(entry.name)
    assert size is not None
    return size


def _no_vcpu(entry: LoadedRecord) -> bool:
    return entry.instance >= entry.host.vcpus


def _strict(entry: LoadedRecord) -> bool:
    return entry.length != _size(entry) or entry.length > entry.space


def _extends(entry: LoadedRecord) -> bool:
    return entry.length > _size(entry) or entry.length > entry.space


def _by_release(entry: LoadedRecord) -> bool:
    """Strict or zero-extending, as the release takes this type."""
    return _extends(entry) if entry.host.release.zero_extends(entry.name) else _strict(entry)


def _cpu_length(entry: LoadedRecord) -> bool:
    release = entry.host.release
    if release.zero_extends("CPU"):
        return _extends(entry)
    compat = entry.length == CPU_COMPAT_SIZE and str(release) not in CPU_COMPAT_REFUSED
    return (not compat and entry.length != _size(entry)) or entry.length > entry.space


def _without(device: str) -> Callable[[LoadedRecord], bool]:
    return lambda entry: device not in entry.host.devices


def _bits_beyond(name: str, width: int) -> Callable[[LoadedRecord], bool]:
    return lambda entry: bool(entry.fields[name] >> width)


def _not_zero(name: str) -> Callable[[LoadedRecord], bool]:
    return lambda entry: any(v) if isinstance(v := entry.fields[name], bytes) else bool(v)


def _bad_cr0(entry: LoadedRecord) -> bool:
    cr0 = entry.fields["cr0"]
    return bool(cr0 & ~CR0.KNOWN) or not cr0 & CR0.ET or (bool(cr0 & CR0.PG) and not cr0 & CR0.PE)


def cr4_allowed(entry: LoadedRecord) -> int:
    """The bits of cr4 that this guest may have set."""
    host = entry.host
    allowed = CR4.PCE
    for feature, lets, since in _CR4_FEATURES:
        if host.release.since(since) and host.has(feature):
            allowed |= lets
    if host.has("VMX") and (host.nested or not host.release.since("4.6")):
        allowed |= CR4.VMXE
    return allowed


def _bad_cr4(entry: LoadedRecord) -> bool:
    return bool(entry.fields["cr4"] & ~cr4_allowed(entry))


def _bad_efer(entry: LoadedRecord) -> bool:
    host, efer, cr0 = entry.host, entry.fields["msr_efer"], entry.fields["cr0"]
    old = not host.release.since("4.6")
    known = EFER.SCE | EFER.LME | EFER.LMA | EFER.NXE | EFER.FFXSE
    if old:
        known |= EFER.LMSLE
    if not old or (host.nested and host.has("SVM")):
        known |= EFER.SVME
    if host.release.since("4.18"):
        known |= EFER.AIBRSE
    return bool(
        efer & ~known
        or (efer & EFER.SCE and not host.has("SYSCALL"))
        or (not old and efer & (EFER.LME | EFER.LMA) and not host.has("LM"))
        or (efer & EFER.LMA and (not efer & EFER.LME or (not old and not cr0 & CR0.PG)))
        or (efer & EFER.NXE and not host.has("NX"))
        or (efer & EFER.SVME and not (host.has("SVM") and host.nested))
        or (efer & EFER.FFXSE and not host.has("FFXSR"))
        or (efer & EFER.AIBRSE and not host.has("AUTO_IBRS"))
    )


def _event(entry: LoadedRecord) -> tuple[bool, int, bool, int]:
    """(valid, type, with an error code, reserved) of the pending event."""
    word = entry.fields["pending_event"]
    return bool(word >> 31), word >> 8 & 7, bool(word >> 11 & 1), word >> 12 & 0x7FFFF


def _bad_event(entry: LoadedRecord) -> bool:
    valid, kind, _, reserved = _event(entry)
    highest = 4 if entry.host.vendor == AMD and entry.host.release.since("4.17") else 6
    return valid and (kind == 1 or kind > highest or reserved != 0)


def _bad_error_code(entry: LoadedRecord) -> bool:
    valid, _, with_error, _ = _event(entry)
    return valid and with_error and entry.fields["error_code"] >> 16 != 0


def _pic_master(entry: LoadedRecord) -> bool:
    return bool(entry.fields["is_master"])


def _bad_pic(entry: LoadedRecord) -> bool:
    fields = entry.fields
    allowed = 0xF8 | 0x04 if _pic_master(entry) else 0xDE
    return (
        _pic_master(entry) != (entry.instance == 0)
        or bool(fields["int_output"] and fields["init_state"])
        or bool(fields["elcr"] & ~allowed)
    )


def _bad_lapic_base(entry: LoadedRecord) -> bool:
    mode = entry.fields["apic_base_msr"] & (ApicBase.EXTD | ApicBase.EN)
    return bool(mode == ApicBase.EXTD)


def _bad_routes(entry: LoadedRecord) -> bool:
    return any(route > 15 for route in entry.fields["route"])


def _pit_domain(entry: LoadedRecord) -> bool:
    fields = entry.fields
    return fields["speaker_data_on"] > 1 or fields["pad0"] != 0 or _pit_channels(entry) == "EDOM"


def _pit_channels(entry: LoadedRecord) -> str | None:
    """The errno of the first channel that is refused: all its ranges come before its gate."""
    for number, channel in enumerate(entry.fields["channels"]):
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


def _pit_gate(entry: LoadedRecord) -> bool:
    return _pit_channels(entry) == "EINVAL"


def _too_many_ranges(entry: LoadedRecord) -> bool:
    return bool(entry.fields["msr_mtrr_cap"] & 0xFF > x86.MTRR_VCNT)


def _cut_off(entry: LoadedRecord) -> bool:
    return entry.length > entry.space


def _states(entry: LoadedRecord) -> tuple[int, int, int, int]:
    """xcr0, xcr0_accum, xstate_bv, xcomp_bv."""
    header = entry.fields["save_area"]["xsave_hdr"]
    fields = entry.fields
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


def _bad_states(entry: LoadedRecord) -> bool:
    xcr0, accum, present, _ = _states(entry)
    beyond = accum & ~entry.host.xcr0_max if entry.host.release.since("4.17") else 0
    return bool(
        present & ~accum or xcr0 & ~accum or beyond or not _valid_xcr0(xcr0)
        or not _valid_xcr0(accum)
    )  # fmt: skip


def _compacted(entry: LoadedRecord) -> bool:
    accum, compact = _states(entry)[1], _states(entry)[3]
    return bool(accum & ~entry.host.xcr0_max or compact)


def _reserved_xsave(entry: LoadedRecord) -> bool:
    return any(entry.fields["save_area"]["xsave_hdr"]["reserved"])


def _xsave_size(entry: LoadedRecord) -> int:
    return 24 + entry.host.xsave_size(_states(entry)[1])


def _xsave_excess(entry: LoadedRecord) -> bool:
    return any(entry.body[_xsave_size(entry) : entry.length])


def _xsave_short(entry: LoadedRecord) -> bool:
    return entry.length < _xsave_size(entry)


def _msrs(entry: LoadedRecord) -> list[tuple[int, int, int]]:
    """(index, reserved, value) of each element."""
    body = entry.body
    return [
        (
            int.from_bytes(body[at : at + 4], "little"),
            int.from_bytes(body[at + 4 : at + 8], "little"),
            int.from_bytes(body[at + 8 : at + 16], "little"),
        )
        for at in range(8, entry.length, 16)
    ]


def _bad_msr_count(entry: LoadedRecord) -> bool:
    return entry.length != 8 + 16 * int.from_bytes(entry.body[:4], "little")


def _first_msr_errno(entry: LoadedRecord) -> str | None:
    """MSRs are taken one by one: the errno of the first that is refused."""
    for index, _, value in _msrs(entry):
        if not entry.host.takes_msr(index):
            return "ENXIO"
        errno = _msr_refused(entry, index, value)
        if errno:
            return errno
    return None


def _msr_refused(entry: LoadedRecord, index: int, value: int) -> str | None:
    host = entry.host
    if index in (0xC0011027, 0xC0011019, 0xC001101A, 0xC001101B):
        if host.vendor != AMD or not host.has("DBEXT"):
            return "ENXIO"
        return "EDOM" if value >> 32 else None
    needs = {0x48: ("IBRSB", "IBRS"), 0x6E1: ("PKS",), 0xD90: ("MPX",), 0xDA0: ("XSAVES",),
             0xC001011F: ("VIRT_SSBD",)}.get(index)  # fmt: skip
    if needs is not None and not any(host.has(feature) for feature in needs):
        return "ENXIO"
    if index == 0xDA0 and value:
        return "ENXIO"
    if index == 0x140 and value & ~1:
        return "ENXIO"
    return None


def _caps(entry: LoadedRecord) -> bool:
    intel = 0x09000DFF if entry.host.release.since("4.10") else 0x01000DFF
    return bool(entry.fields["caps"] & ~(intel if entry.host.vendor == INTEL else 0x1FF))


def _rows(record: str, *rows: tuple[Any, ...]) -> tuple[Rule, ...]:
    """(id, errno, predicate, text, since, until) -> rules; since and until may be left out."""
    prefix = record.lower().replace("_", "-")
    return tuple(
        Rule(record, f"{prefix}-{identifier}", errno, fires, text, Window(*window))
        for identifier, errno, fires, text, *window in rows
    )


_VCPU = ("vcpu", "EINVAL", _no_vcpu, "the guest has no vcpu of that number")
_LENGTH = ("length", "EINVAL", _by_release, "the length is not one that this release takes")

# fmt: off
RULES: dict[str, tuple[Rule, ...]] = {
    "CPU": _rows("CPU",
        _VCPU,
        ("length", "EINVAL", _cpu_length, "the length is not one that this release takes"),
        ("pad0", "EINVAL", _not_zero("pad0"), "pad0 is not zero", "4.7"),
        ("cr0", "EINVAL", _bad_cr0, "cr0 has an unknown bit, or no ET, or PG without PE"),
        ("cr4", "EINVAL", _bad_cr4, "cr4 has a bit that the guest's CPU policy does not allow"),
        ("efer", "EINVAL", _bad_efer, "EFER has an unknown bit, one that the policy does not allow, or LMA without LME and paging"),
        ("dr", "EINVAL", lambda e: bool(e.fields["dr6"] >> 32 or e.fields["dr7"] >> 32), "dr6 or dr7 has bits above 31", "4.18"),
        ("cr3", "EINVAL", lambda e: bool(e.fields["cr3"] >> e.host.maxphysaddr), "cr3 is beyond the guest's physical addresses", "4.14"),
        ("flags", "EINVAL", _bits_beyond("flags", 1), "flags has an unknown bit", "4.7"),
        ("tsc-aux", "EINVAL", _bits_beyond("msr_tsc_aux", 32), "msr_tsc_aux has bits above 31", "4.12"),
        ("event", "EINVAL", _bad_event, "the pending event has a type that no CPU has, or reserved bits"),
        ("error-code", "EINVAL", _bad_error_code, "the pending event's error code has bits above 15", "4.17"),
    ),
    "PIC": _rows("PIC",
        ("device", "ENODEV", _without("vpic"), "the guest has no PIC", "4.12"),
        ("instance", "ENOENT", lambda e: e.instance >= 2, "there are two PICs"),
        ("length", "EINVAL", _strict, "the length is not that of the record", OLDEST, _SINGLE_PASS),
        ("length", "ENODATA", _strict, "the length is not that of the record", _CHECKED),
        ("int-output", "EDOM", lambda e: e.fields["int_output"] > 1, "int_output is neither 0 nor 1", _CHECKED),
        ("state", "EINVAL", _bad_pic, "is_master does not go with the instance, int_output with init_state, or elcr with the pins", _CHECKED),
    ),
    "IOAPIC": _rows("IOAPIC",
        ("device", "ENODEV", _without("vioapic"), "the guest has no I/O APIC", "4.12"),
        ("length", "ENODATA", _strict, "the length is not that of the record"),
    ),
    "LAPIC": _rows("LAPIC",
        ("device", "ENODEV", _without("vlapic"), "the guest has no LAPIC", "4.12"),
        _VCPU,
        ("length", "EINVAL", _by_release, "the length is not one that this release takes", OLDEST, "4.19"),
        ("length", "ENODATA", _by_release, "the length is not one that this release takes", _LAPIC_CHECKED),
        ("base", "EINVAL", _bad_lapic_base, "apic_base_msr has EXTD without EN"),
    ),
    "LAPIC_REGS": _rows("LAPIC_REGS",
        ("device", "ENODEV", _without("vlapic"), "the guest has no LAPIC", "4.12"),
        _VCPU,
        ("length", "EINVAL", _strict, "the length is not that of the record", OLDEST, "4.19"),
        ("length", "ENODATA", _strict, "the length is not that of the record", _LAPIC_CHECKED),
    ),
    "PCI_IRQ": _rows("PCI_IRQ", _LENGTH),
    "ISA_IRQ": _rows("ISA_IRQ", _LENGTH),
    "PCI_LINK": _rows("PCI_LINK",
        ("length", "EINVAL", _strict, "the length is not that of the record", OLDEST, _SINGLE_PASS),
        ("length", "ENODATA", _strict, "the length is not that of the record", _CHECKED),
        ("pad0", "EINVAL", _not_zero("pad0"), "pad0 is not zero", _CHECKED),
        ("route", "EINVAL", _bad_routes, "a link is routed to an IRQ above 15"),
    ),
    "PIT": _rows("PIT",
        ("device", "ENODEV", _without("vpit"), "the guest has no PIT", "4.12"),
        ("length", "ENODATA", _strict, "the length is not that of the record"),
        ("range", "EDOM", _pit_domain, "a field is beyond its range, or pad0 is not zero", _CHECKED),
        ("gate", "EINVAL", _pit_gate, "the gate of channel 0 or 1 is closed", _CHECKED),
    ),
    "RTC": _rows("RTC",
        ("device", "ENODEV", _without("vrtc"), "the guest has no RTC", "4.12"), _LENGTH,
    ),
    "HPET": _rows("HPET",
        ("device", "ENODEV", _without("vhpet"), "the guest has no HPET", "4.12"), _LENGTH,
    ),
    "PMTIMER": _rows("PMTIMER",
        ("device", "ENODEV", _without("vpm"), "the guest has no PM timer", "4.12"), _LENGTH,
    ),
    "MTRR": _rows("MTRR",
        _VCPU, _LENGTH,
        ("cap", "EINVAL", _too_many_ranges, "msr_mtrr_cap has more than eight variable ranges", "4.12"),
    ),
    "VIRIDIAN_DOMAIN": _rows("VIRIDIAN_DOMAIN", _LENGTH),
    "CPU_XSAVE": _rows("CPU_XSAVE",
        _VCPU,
        ("host", "ENOTSUP", lambda e: not e.host.xsave, "the host has no XSAVE"),
        ("cut", "ENODATA", _cut_off, "the context ends within the record"),
        ("length", "EINVAL", lambda e: e.length < x86.CPU_XSAVE.size, "shorter than its fixed part and a legacy area"),
        ("states", "EINVAL", _bad_states, "xcr0, xcr0_accum or xstate_bv contradict each other, the policy, or the architecture"),
        ("compact", "ENOTSUP", _compacted, "states that the host does not have, or a compacted image"),
        ("reserved", "EIO", _reserved_xsave, "reserved bytes of the xsave header are not zero", "4.17"),
        ("excess", "ENOTSUP", _xsave_excess, "bytes behind the image for xcr0_accum are not zero"),
        ("short", "EINVAL", _xsave_short, "shorter than the image for xcr0_accum", "4.17"),
    ),
    "VIRIDIAN_VCPU": _rows("VIRIDIAN_VCPU",
        _VCPU, _LENGTH,
        ("pad", "EINVAL", _not_zero("_pad"), "padding is not zero", "4.7"),
    ),
    "VMCE_VCPU": _rows("VMCE_VCPU",
        _VCPU,
        ("length", "EPERM", _by_release, "the length is not one that this release takes"),
        ("caps", "EINVAL", _caps, "caps has a bit that the host's kind of CPU does not have"),
    ),
    "TSC_ADJUST": _rows("TSC_ADJUST", _VCPU, _LENGTH),
    "CPU_MSR": _rows("CPU_MSR",
        _VCPU,
        ("cut", "ENODATA", _cut_off, "the context ends within the record"),
        ("length", "EINVAL", lambda e: e.length < 24, "too short for a single MSR"),
        ("count", "ENOTSUP", _bad_msr_count, "length and count contradict"),
        ("reserved", "ENOTSUP", lambda e: any(m[1] for m in _msrs(e)), "an entry's reserved word is not zero"),
        ("index", "ENXIO", lambda e: _first_msr_errno(e) == "ENXIO", "an MSR that is not in the list, or that the guest may not write so"),
        ("mask", "EDOM", lambda e: _first_msr_errno(e) == "EDOM", "an address mask with bits above 31"),
    ),
}
"""Record -> its checks, in order. Errnos as 4.17 and later give them; up to 4.16 every
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
