"""What CR0, CR4, EFER and XCR0 of a vcpu may hold when its record is loaded: predicates of
`context_rules` that say which bit is wrong, and what would allow it.

Source: hvm_cr4_guest_valid_bits, hvm_efer_valid, valid_xcr0 and validate_xstate of every
release tag, and what hypervisors answered (see `context_rules`).
"""

from __future__ import annotations

from hvmctx.abi.cpuid import FEATURES
from hvmctx.abi.releases import OLDEST, Window
from hvmctx.abi.x86_bits import CR0, CR4, EFER, XCR0, bit_names, bits_of, named_bits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hvmctx.restore.policy import CpuPolicy
    from hvmctx.restore.rules import Seen

__all__ = [
    "CR4_FEATURES", "EFER_FEATURES", "bad_cr0", "bad_cr4", "bad_efer", "bad_states", "beyond_the_host", "compacted",
    "cr4_allowed", "lacking", "place_of", "settable", "states_of", "wrong_xcr0",
]  # fmt: skip

# feature -> bits of cr4 that it allows, and the first release in which it does
CR4_FEATURES = (
    ("VME", CR4.VME | CR4.PVI, OLDEST), ("TSC", CR4.TSD, OLDEST),
    ("DE", CR4.DE, OLDEST), ("PSE", CR4.PSE, OLDEST), ("PAE", CR4.PAE, OLDEST),
    ("MCE", CR4.MCE, OLDEST), ("MCA", CR4.MCE, OLDEST), ("PGE", CR4.PGE, OLDEST),
    ("FXSR", CR4.OSFXSR, OLDEST), ("SSE", CR4.OSXMMEXCPT, OLDEST),
    ("UMIP", CR4.UMIP, "4.10"), ("FSGSBASE", CR4.FSGSBASE, "4.1.2"),
    ("PCID", CR4.PCIDE, "4.2"), ("XSAVE", CR4.OSXSAVE, OLDEST),
    ("SMEP", CR4.SMEP, "4.1.2"), ("SMAP", CR4.SMAP, "4.5"),
    ("PKU", CR4.PKE, "4.7"), ("CET_SS", CR4.CET, "4.16"),
    ("CET_IBT", CR4.CET, "4.16"), ("PKS", CR4.PKS, "4.18"),
    ("LASS", CR4.LASS, "4.22"),
)  # fmt: skip
_CR4_OF_ALL = (
    CR4.VME | CR4.PVI | CR4.TSD | CR4.DE | CR4.PSE | CR4.PAE | CR4.MCE | CR4.PGE | CR4.OSFXSR
    | CR4.OSXMMEXCPT
)  # fmt: skip
"""The bits of cr4 that releases before 4.5 allow on every host."""
_VMX_SINCE, _VMX_BY_HOST, _VMX_BY_NESTED = "4.2", "4.5", "4.15"
_KNOWN_STATES = 0x2FF | XCR0.TILE | XCR0.LWP
_U64 = (1 << 64) - 1

_BY_POLICY = "4.12 4.11.2 4.10.3 4.9.4"
"""Since when cr4 and EFER are checked against the guest's CPU policy, not the host's."""
_FOREIGN_BY_POLICY = "4.12 4.11.1 4.10.2 4.9.3"
"""Since when xcr0_accum is checked against the guest's policy; 4.8.5 checks it against the
host's for a domain that is not running."""
_STATES_BY_POLICY = "4.12 4.11.1 4.10.2 4.9.3 4.8.5"
"""Since when XSAVE states and unknown bits of EFER are."""


def place_of(feature: str) -> str:
    """Where CPUID has a feature, as the manuals write it: `CPUID 7,0:ecx[2]`."""
    leaf, subleaf, register, bit = FEATURES[feature]
    number = f"{leaf:#x}" if leaf > 9 else str(leaf)
    at = number if subleaf is None else f"{number},{subleaf}"
    return f"CPUID {at}:{('eax', 'ebx', 'ecx', 'edx')[register - 2]}[{bit}]"


def _feature(feature: str, bit: str = "") -> str:
    """Its place, with its name if that is not the bit's."""
    return place_of(feature) + ("" if feature == bit else f" ({feature})")


def lacking(seen: Seen, policy: CpuPolicy, features: Iterable[str], bit: str = "") -> str:
    """`which needs CPUID 7,0:ecx[2]; the guest's policy lacks it`, for a bit that any of these
    features would allow."""
    needed = " or ".join(_feature(feature, bit) for feature in features)
    return f"which needs {needed}; {_whose(seen, policy)} lacks it"


def _whose(seen: Seen, policy: CpuPolicy) -> str:
    return "the host" if policy is seen.machine else "the guest's policy"


def _nested(seen: Seen, policy: CpuPolicy, feature: str, bit: str) -> str:
    """Of a bit that only a guest with guests of its own may have."""
    if policy.has(feature):
        return "which needs nested virtualisation; the guest has none"
    needed = f"which needs {_feature(feature, bit)} and nested virtualisation"
    return f"{needed}; {_whose(seen, policy)} lacks the first"


def _and(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _reasons(register: type, why: Iterable[tuple[int, str]]) -> str:
    """Bits with the same reason stand together: `VME (bit 0) and PVI (bit 1), which ...`."""
    bits: dict[str, int] = {}
    for bit, reason in why:
        bits[reason] = bits.get(reason, 0) | bit
    return "; ".join(f"{_and(bit_names(register, mask))}, {why}" for why, mask in bits.items())


def bad_cr0(seen: Seen) -> str:
    cr0 = seen.fields["cr0"]
    wrong = [f"unknown {name}" for name in bit_names(CR0, cr0 & ~CR0.KNOWN)]
    if not cr0 & CR0.ET:
        wrong.append("no ET (bit 4)")
    if cr0 & CR0.PG and not cr0 & CR0.PE:
        wrong.append("PG (bit 31), but not PE (bit 0), which it needs")
    return f"cr0 has {', '.join(wrong)}" if wrong else ""


def cr4_allowed(seen: Seen) -> int:
    """The bits of cr4 that this guest may have set."""
    policy, release = seen.policy(_BY_POLICY), seen.release
    allowed = CR4.PCE
    for feature, lets, since in CR4_FEATURES:
        if release.since(since) and policy.has(feature):
            allowed |= lets
    if not release.since("4.5"):
        allowed |= _CR4_OF_ALL
    by_vmx = release.since(_VMX_BY_HOST) and not release.since(_VMX_BY_NESTED)
    if policy.has("VMX") and release.since(_VMX_SINCE) and (by_vmx or seen.guest.nested):
        allowed |= CR4.VMXE
    return allowed


def bad_cr4(seen: Seen) -> str:
    refused = seen.fields["cr4"] & ~cr4_allowed(seen)
    if not refused:
        return ""
    policy = seen.policy(_BY_POLICY)
    why = ((bit, _why_not_in_cr4(seen, policy, bit)) for bit in bits_of(refused))
    return f"cr4 has {_reasons(CR4, why)}"


def _why_not_in_cr4(seen: Seen, policy: CpuPolicy, bit: int) -> str:
    rows = [row for row in CR4_FEATURES if row[1] & bit]
    standing = [feature for feature, _, since in rows if seen.release.since(since)]
    if standing:
        return lacking(seen, policy, standing, named_bits(CR4).get(rows[0][1], ""))
    if bit == CR4.VMXE and seen.release.since(_VMX_SINCE):
        return _nested(seen, policy, "VMX", "VMXE")
    since = _VMX_SINCE if bit == CR4.VMXE else rows[0][2] if rows else ""
    return settable(since)


def settable(since: str = "") -> str:
    """Of a bit that guests may set since a release, as `Release.since` takes it, or never."""
    return f"which guests may set in Xen {Window(since)}" if since else "which no guest may set"


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
    elif release.since("4.2") and seen.guest.nested and seen.policy(_BY_POLICY).has("SVM"):
        known |= EFER.SVME
    if release.since("4.18"):
        known |= EFER.AIBRSE
    return known


EFER_FEATURES = (
    ("SYSCALL", EFER.SCE, OLDEST), ("LM", EFER.LME | EFER.LMA, "4.6"),
    ("NX", EFER.NXE, OLDEST), ("FFXSR", EFER.FFXSE, OLDEST),
    ("AUTO_IBRS", EFER.AIBRSE, "4.18"),
)  # fmt: skip
"""Feature, the bits that need it, and since when."""


def bad_efer(seen: Seen) -> str:
    why = list(_efer_reasons(seen))
    return f"EFER has {_reasons(EFER, why)}" if why else ""


def _efer_reasons(seen: Seen) -> Iterator[tuple[int, str]]:
    release, policy = seen.release, seen.policy(_BY_POLICY)
    efer, cr0 = seen.fields["msr_efer"], seen.fields["cr0"]
    known = _efer_known(seen)
    for bit in bits_of(efer & ~known):
        yield bit, _unknown_in_efer(seen, policy, bit)
    for feature, bits, since in EFER_FEATURES:
        if release.since(since) and not policy.has(feature):
            for bit in bits_of(efer & bits & known):
                yield bit, lacking(seen, policy, (feature,), named_bits(EFER)[bit])
    if efer & EFER.LMA:
        paging = not release.since("4.6") or cr0 & CR0.PG
        missing = [
            name for name, there in (("LME", efer & EFER.LME), ("CR0.PG", paging)) if not there
        ]
        if missing:
            yield EFER.LMA, f"but not {_and(missing)}, which it needs"
    if efer & EFER.SVME & known and not (policy.has("SVM") and seen.guest.nested):
        yield EFER.SVME, _nested(seen, policy, "SVM", "SVME")
    if efer & EFER.LMSLE & known and not (seen.machine.lmsle or release.since("4.12")):
        yield EFER.LMSLE, "which needs a CPU with segment limits in long mode; the host lacks it"


def _unknown_in_efer(seen: Seen, policy: CpuPolicy, bit: int) -> str:
    if bit == EFER.SVME and seen.release.since("4.2"):
        return _nested(seen, policy, "SVM", "SVME")
    if bit == EFER.LMSLE and seen.release.since("4.12"):
        return "which guests may set up to Xen 4.11 only"
    return settable({EFER.SVME: "4.2", EFER.AIBRSE: "4.18"}.get(bit, ""))


def states_of(seen: Seen) -> tuple[int, int, int, int]:
    """xcr0, xcr0_accum, xstate_bv, xcomp_bv of a CPU_XSAVE record."""
    header = seen.fields["save_area"]["xsave_hdr"]
    fields = seen.fields
    return fields["xcr0"], fields["xcr0_accum"], header["xstate_bv"], header["xcomp_bv"]


def wrong_xcr0(states: int, seen: Seen) -> Iterator[str]:
    """What the architecture has against these states in XCR0, as far as the release knows it."""
    unknown = states & ~_KNOWN_STATES
    if unknown:
        yield f"has {_and(bit_names(XCR0, unknown))}, which Xen does not know"
    if not states & XCR0.X87:
        yield "lacks X87 (bit 0)"
    if states & XCR0.YMM and not states & XCR0.SSE:
        yield "has YMM (bit 2), but not SSE (bit 1), which it needs"
    if not seen.release.since("4.5"):
        return
    wide = states & XCR0.AVX512
    if wide and wide != XCR0.AVX512:
        missing = _and(bit_names(XCR0, XCR0.AVX512 & ~wide))
        yield f"has {_and(bit_names(XCR0, wide))}, but not {missing}, which go together"
    elif wide and not states & XCR0.YMM:
        yield f"has {_and(bit_names(XCR0, wide))}, but not YMM (bit 2), which they need"
    pairs = [XCR0.BNDREGS | XCR0.BNDCSR]
    if seen.release.since("4.19"):
        pairs.append(XCR0.TILE)
    for pair in pairs:
        if states & pair not in (0, pair):
            missing = _and(bit_names(XCR0, pair & ~states))
            yield f"has {_and(bit_names(XCR0, states & pair))}, but not {missing}, which go together"


def bad_states(seen: Seen) -> str:
    """xcr0 and xstate_bv within xcr0_accum, that within what the guest may have, and both
    masks as the architecture has them."""
    return "; ".join(_state_reasons(seen))


def _state_reasons(seen: Seen) -> Iterator[str]:
    release = seen.release
    xcr0, accum, present, _ = states_of(seen)
    for name, states in (("xstate_bv", present), ("xcr0", xcr0)):
        if states & ~accum:
            yield f"{name} has {_and(bit_names(XCR0, states & ~accum))}, which xcr0_accum lacks"
    if release.since(_STATES_BY_POLICY):
        policy = seen.policy(_FOREIGN_BY_POLICY)
        beyond, needs = accum & ~policy.xcr0_max, f"CPUID 0xd,0; {_whose(seen, policy)} lacks it"
    elif not release.since("4.5"):
        beyond, needs = accum & ~seen.fields["xfeature_mask"], "xfeature_mask, which lacks it"
    else:
        beyond, needs = 0, ""
    if beyond:
        yield f"xcr0_accum has {_and(bit_names(XCR0, beyond))}, which must be in {needs}"
    for name, states in (("xcr0", xcr0), ("xcr0_accum", accum)):
        for wrong in wrong_xcr0(states, seen):
            yield f"{name} {wrong}"


def beyond_the_host(seen: Seen, name: str, states: int, policy: CpuPolicy) -> str:
    """States of a mask that the host lacks, in words."""
    beyond = states & ~policy.xcr0_max
    return f"{name} has {_and(bit_names(XCR0, beyond))}, which the host lacks" if beyond else ""


def compacted(seen: Seen, policy: CpuPolicy) -> str:
    """The same of xcr0_accum, or that the image is compacted."""
    _, accum, _, compact = states_of(seen)
    wrong = beyond_the_host(seen, "xcr0_accum", accum, policy)
    if compact and seen.release.since("4.7"):
        return wrong or f"xcomp_bv is {compact:#x}: the image is compacted"
    return wrong
