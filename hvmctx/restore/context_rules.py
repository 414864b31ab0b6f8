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
    from collections.abc import Callable
    from typing import Any

    from hvmctx.abi.releases import Release
    from hvmctx.restore.policy import CpuPolicy
    from hvmctx.restore.rules import Answer, Predicate

_SINGLE_PASS = "4.18"
"""The last release that loads in a single pass."""
_CHECKED = "4.19"
"""The first release that checks PIC, PIT and PCI_LINK before it loads anything."""
_LAPIC_CHECKED = "4.20"

_U32, _U64 = 0xFFFFFFFF, (1 << 64) - 1

# feature -> bits of cr4 that it allows, and the first release that lets it
_CR4_FEATURES = (
    ("VME", CR4.VME | CR4.PVI, OLDEST), ("TSC", CR4.TSD, OLDEST),
    ("DE", CR4.DE, OLDEST), ("PSE", CR4.PSE, OLDEST), ("PAE", CR4.PAE, OLDEST),
    ("MCE", CR4.MCE, OLDEST), ("MCA", CR4.MCE, OLDEST), ("PGE", CR4.PGE, OLDEST),
    ("FXSR", CR4.OSFXSR, OLDEST), ("SSE", CR4.OSXMMEXCPT, OLDEST),
    ("UMIP", CR4.UMIP, "4.10"), ("FSGSBASE", CR4.FSGSBASE, OLDEST),
    ("PCID", CR4.PCIDE, OLDEST), ("XSAVE", CR4.OSXSAVE, OLDEST),
    ("SMEP", CR4.SMEP, OLDEST), ("SMAP", CR4.SMAP, OLDEST),
    ("PKU", CR4.PKE, "4.7"), ("CET_SS", CR4.CET, "4.16"),
    ("CET_IBT", CR4.CET, "4.16"), ("PKS", CR4.PKS, "4.18"),
    ("LASS", CR4.LASS, "4.22"),
)  # fmt: skip
_KNOWN_STATES = 0x2FF | XCR0.TILE | 1 << 62


_BY_POLICY = "4.12 4.11.2 4.10.3 4.9.4"
"""Since when cr4 and EFER are checked against the guest's CPU policy, not the host's."""
_XSAVE_HEAD = x86.hvm_hw_cpu_xsave.save_area.offset
_XSAVE_CHECKED = "4.4 4.3.1 4.2.4"
"""Since when the states of a CPU_XSAVE record are checked, and its length."""
_ZEROES_TAKEN = "4.5 4.4.2 4.3.4"
"""Since when zeros after the image for xcr0_accum are let through."""
_FOREIGN_BY_POLICY = "4.12 4.11.1 4.10.2 4.9.3"
"""Since when xcr0_accum is checked against the guest's policy; 4.8.5 checks it against the
host's for a domain that is not running."""
_STATES_BY_POLICY = "4.12 4.11.1 4.10.2 4.9.3 4.8.5"
"""Since when XSAVE states and unknown bits of EFER are."""


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


def _policy(seen: Seen, since: str) -> CpuPolicy:
    """What a check goes by: the guest's policy since a release, before that the host's, for
    which the guest's stands where the machine has none."""
    if seen.release.since(since) or not seen.machine.leaves:
        return seen.guest
    return seen.machine


def cr4_allowed(seen: Seen) -> int:
    """The bits of cr4 that this guest may have set."""
    policy, release = _policy(seen, _BY_POLICY), seen.release
    allowed = CR4.PCE
    for feature, lets, since in _CR4_FEATURES:
        if release.since(since) and policy.has(feature):
            allowed |= lets
    if policy.has("VMX") and (seen.guest.nested or not release.since("4.15")):
        allowed |= CR4.VMXE
    return allowed


def _bad_cr4(seen: Seen) -> bool:
    return bool(seen.fields["cr4"] & ~cr4_allowed(seen))


def _efer_known(seen: Seen) -> int:
    """The bits of EFER that the release takes at all, whatever the CPU has."""
    release = seen.release
    known = EFER.SCE | EFER.LME | EFER.LMA | EFER.NXE | EFER.FFXSE
    if release.since("4.1") and not release.since("4.12"):
        known |= EFER.LMSLE
    if release.since("4.6"):
        known |= EFER.SVME
        if not release.since(_STATES_BY_POLICY):
            return _U64
    elif release.since("4.2") and seen.guest.nested and _policy(seen, _BY_POLICY).has("SVM"):
        known |= EFER.SVME
    if release.since("4.18"):
        known |= EFER.AIBRSE
    return known


def _bad_efer(seen: Seen) -> bool:
    policy, efer, cr0 = _policy(seen, _BY_POLICY), seen.fields["msr_efer"], seen.fields["cr0"]
    old = not seen.release.since("4.6")
    return bool(
        efer & ~_efer_known(seen)
        or (efer & EFER.SCE and not policy.has("SYSCALL"))
        or (not old and efer & (EFER.LME | EFER.LMA) and not policy.has("LM"))
        or (efer & EFER.LMA and (not efer & EFER.LME or (not old and not cr0 & CR0.PG)))
        or (efer & EFER.NXE and not policy.has("NX"))
        or (efer & EFER.SVME and not (policy.has("SVM") and seen.guest.nested))
        or (efer & EFER.LMSLE and not (seen.machine.lmsle or seen.release.since("4.12")))
        or (efer & EFER.FFXSE and not policy.has("FFXSR"))
        or (efer & EFER.AIBRSE and seen.release.since("4.18") and not policy.has("AUTO_IBRS"))
    )


def _vendor(seen: Seen) -> str:
    return seen.machine.vendor or seen.guest.vendor or INTEL


def _event(seen: Seen) -> tuple[bool, int, bool, int]:
    """(valid, type, with an error code, reserved) of the pending event."""
    word = seen.fields["pending_event"]
    return bool(word >> 31), word >> 8 & 7, bool(word >> 11 & 1), word >> 12 & 0x7FFFF


def _bad_event(seen: Seen) -> bool:
    valid, kind, _, reserved = _event(seen)
    highest = 4 if _vendor(seen) == AMD and seen.release.since("4.9") else 6
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


def _valid_xcr0(states: int, release: Release) -> bool:
    if states & ~_KNOWN_STATES or not states & XCR0.X87:
        return False
    if states & XCR0.YMM and not states & XCR0.SSE:
        return False
    if not release.since("4.5"):
        return True
    if states & XCR0.AVX512 and (states & XCR0.AVX512 != XCR0.AVX512 or not states & XCR0.YMM):
        return False
    if states & XCR0.TILE not in (0, XCR0.TILE) and release.since("4.19"):
        return False
    return bool(states & XCR0.BNDREGS) == bool(states & XCR0.BNDCSR)


def _bad_states(seen: Seen) -> bool:
    release = seen.release
    xcr0, accum, present, _ = _states(seen)
    if not release.since(_XSAVE_CHECKED):
        return bool(seen.fields["xfeature_mask"] & ~_host(seen).xcr0_max)
    beyond = 0
    if release.since(_STATES_BY_POLICY):
        beyond = accum & ~_policy(seen, _FOREIGN_BY_POLICY).xcr0_max
    elif not release.since("4.5"):
        beyond = accum & ~seen.fields["xfeature_mask"]
    return bool(
        present & ~accum or xcr0 & ~accum or beyond or not _valid_xcr0(xcr0, release)
        or not _valid_xcr0(accum, release)
    )  # fmt: skip


def _host(seen: Seen) -> CpuPolicy:
    return seen.machine if seen.machine.leaves else seen.guest


def _compacted(seen: Seen) -> bool:
    accum, compact = _states(seen)[1], _states(seen)[3]
    return bool(accum & ~_host(seen).xcr0_max or (compact and seen.release.since("4.7")))


def _reserved_xsave(seen: Seen) -> bool:
    return any(seen.fields["save_area"]["xsave_hdr"]["reserved"])


def _xsave_size(seen: Seen) -> int:
    return _XSAVE_HEAD + _host(seen).xsave_size(_states(seen)[1])


def _xsave_long(seen: Seen) -> Answer:
    """Beyond all states of the host, as the loaders before the zeros did not take it."""
    largest = _XSAVE_HEAD + _host(seen).xsave_size(_host(seen).xcr0_max)
    too_long = seen.length > largest and not seen.release.since(_ZEROES_TAKEN)
    return too_long and _lengths(seen)


def _xsave_excess(seen: Seen) -> bool:
    excess = seen.body()[_xsave_size(seen) :]
    return any(excess) if seen.release.since(_ZEROES_TAKEN) else bool(excess)


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


class _Msr:
    """An MSR that a CPU_MSR record may hold: `since` when it is loaded, on AMD and on Intel
    (None: never; as `Release.since` takes it), and what speaks against a value."""

    __slots__ = ("refused", "since")

    def __init__(
        self, refused: Callable[[Seen, int], str | None], amd: str | None, intel: str | None
    ) -> None:
        self.refused = refused
        self.since = {AMD: amd, INTEL: intel}


def _needs(*features: str, mask: int = _U64) -> Callable[[Seen, int], str | None]:
    """ENXIO without any of the features, or with a bit that is not in the mask."""

    def refused(seen: Seen, value: int) -> str | None:
        there = not features or any(seen.guest.has(feature) for feature in features)
        return None if there and not value & ~mask else "ENXIO"

    return refused


def _spec_ctrl(seen: Seen, value: int) -> str | None:
    """IBRS and STIBP go with the MSR; each other bit with a feature, in the releases that
    know it."""
    guest, release = _policy(seen, "4.9"), seen.release
    if not (guest.has("IBRSB") or (release.since(_SPEC_CTRL_AMD) and guest.has("IBRS"))):
        return "ENXIO"
    allowed = 3
    for bits, features, since in _SPEC_CTRL_BITS:
        if release.since(since) and any(guest.has(feature) for feature in features):
            allowed |= bits
    return "ENXIO" if value & ~allowed else None


_SPEC_CTRL_AMD = "4.17 4.16.1 4.15.3 4.14.5"
_SPEC_CTRL_BITS = (
    (1 << 2, ("SSBD",), "4.10.2 4.9.3 4.8.5"), (1 << 2, ("AMD_SSBD",), _SPEC_CTRL_AMD),
    (1 << 7, ("INTEL_PSFD", "PSFD"), _SPEC_CTRL_AMD),
    (3 << 3, ("IPRED_CTRL",), "4.19 4.18.2 4.17.4 4.16.6 4.15.6"),
    (3 << 5, ("RRSBA_CTRL",), "4.19 4.18.2 4.17.4 4.16.6 4.15.6"),
    (1 << 10, ("BHI_CTRL",), "4.19 4.18.2 4.17.4 4.16.6 4.15.6"),
)  # fmt: skip
"""Bits of SPEC_CTRL, the features that allow them, and since when."""


def _misc_features(seen: Seen, value: int) -> str | None:
    """CPUID faulting, where the policy's PLATFORM_INFO offers it. Up to 4.9 any value."""
    if not seen.release.since("4.10"):
        return None
    return "ENXIO" if value & ~int(seen.guest.offers(_PLATFORM_INFO, _CPUID_FAULTING)) else None


def _bndcfgs(seen: Seen, value: int) -> str | None:
    """Bits 2 to 11 are reserved, and what is above them is an address. Up to 4.12 a host
    without MPX takes 0 (since 4.6.6 and 4.7). A value that enables MPX needs its states."""
    release = seen.release
    mpx = _policy(seen, "4.13").has("MPX")
    if not release.since("4.13") and release.since("4.7 4.6.6") and not mpx:
        return "ENXIO" if value else None
    if not mpx:
        return "ENXIO"
    if not release.since("4.8 4.7.1 4.6.4 4.5.4"):
        return None
    canonical = value >> 47 in (0, (1 << 17) - 1)
    return "ENXIO" if value & _BNDCFGS_RESERVED or not canonical else None


def _xss(seen: Seen, value: int) -> str | None:
    """Nothing but 0 since 4.13; before that anything, where there is XSAVES."""
    if not _policy(seen, "4.13").has("XSAVES"):
        return "ENXIO"
    return "ENXIO" if value and seen.release.since("4.13") else None


def _address_mask(seen: Seen, value: int) -> str | None:
    if not _policy(seen, "4.12").has("DBEXT"):
        return "ENXIO"
    wide = "ENXIO" if seen.release.since("4.12") else "EDOM"
    return wide if value >> 32 else None


_PLATFORM_INFO, _CPUID_FAULTING = 0xCE, 31
_BNDCFGS_RESERVED = 0xFFC
_MASK = _Msr(_address_mask, "4.5", "4.12")
_MSRS = {
    0x48: _Msr(_spec_ctrl, "4.10.1", "4.10.1 4.9.2 4.8.4 4.7.5"),
    0x140: _Msr(_misc_features, "4.10", "4.10 4.9.2 4.8.4"),
    0x6E1: _Msr(_needs("PKS", mask=_U32), "4.18", "4.18"),
    0xD90: _Msr(_bndcfgs, "4.13", "4.5"),
    0xDA0: _Msr(_xss, "4.13", "4.7"),
    0xC001011F: _Msr(_needs("VIRT_SSBD"), "4.17", "4.17"),
    0xC0011019: _MASK, 0xC001101A: _MASK, 0xC001101B: _MASK, 0xC0011027: _MASK,
}  # fmt: skip
"""The MSRs that a CPU_MSR record may hold."""


def _first_msr_errno(seen: Seen) -> str | None:
    """MSRs are taken one by one: the errno of the first that is refused."""
    vendor = _vendor(seen)
    for index, _, value in _msrs(seen):
        known = _MSRS.get(index)
        since = None if known is None else known.since[vendor]
        if known is None or since is None or not seen.release.since(since):
            return "ENXIO"
        errno = known.refused(seen, value)
        if errno:
            return errno
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
        ("error-code", "EINVAL", _shows("error_code", _bad_error_code), "the pending event's error code has bits above 15", "4.9"),
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
        ("range", "EDOM", _pit_domain, "a field is beyond its range, or pad0 is not zero", _CHECKED),
        ("gate", "EINVAL", _pit_gate, "the gate of channel 0 or 1 is closed", _CHECKED),
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
        ("cap", "EINVAL", _shows("msr_mtrr_cap", _too_many_ranges), "msr_mtrr_cap has more than eight variable ranges", "4.12"),
    ),
    *_rows("VIRIDIAN_DOMAIN", _LENGTH),
    *_rows("CPU_XSAVE",
        _VCPU,
        ("host", "ENOTSUP", lambda s: not s.machine.xsave, "the host has no XSAVE"),
        ("cut", "ENODATA", _cut_off, "the context ends within the record"),
        ("length", "EINVAL", _shorter(x86.CPU_XSAVE.size), "shorter than the fixed part and the legacy area", _XSAVE_CHECKED),
        ("long", "ENOTSUP", _xsave_long, "longer than the image for all states of the host", OLDEST, "4.4"),
        ("states", "EINVAL", _bad_states, "xcr0, xcr0_accum and xstate_bv do not match each other, the policy or the architecture"),
        ("compact", "ENOTSUP", _compacted, "states that the host does not have, or a compacted image", _XSAVE_CHECKED),
        ("reserved", "EIO", _reserved_xsave, "reserved bytes of the xsave header are not zero", "4.7"),
        ("excess", "ENOTSUP", _xsave_excess, "bytes after the image for xcr0_accum are not zero", _XSAVE_CHECKED),
        ("short", "EINVAL", _xsave_short, "shorter than the image for xcr0_accum", "4.8 4.7.1"),
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

__all__ = ["CHECKED_SINCE", "RULES", "WALK", "cr4_allowed"]
