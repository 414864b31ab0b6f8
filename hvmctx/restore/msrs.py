"""The MSRs that a CPU_MSR record may hold: since when each is loaded, on AMD and on Intel,
and with what values.

Source: hvm_load_cpu_msrs, vmx_load_msr, svm_load_msr and guest_wrmsr of every release tag
from 4.5.0 to 4.22.0, and what Xen 4.5.5 to c447b730 answered when asked (AMD; Intel: 4.17
and 4.20).
"""

from __future__ import annotations

from hvmctx.abi.msrs import msr_name
from hvmctx.abi.releases import Window
from hvmctx.abi.x86_bits import XCR0, SpecCtrl, bit_names, bits_of, named_bits
from hvmctx.restore.machine import AMD, INTEL
from hvmctx.restore.registers import lacking, settable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hvmctx.restore.rules import Seen

    Against = Callable[[Seen, int], str]

__all__ = ["MSRS", "SPEC_CTRL_BITS", "Refusal", "refused"]

_U32 = 0xFFFFFFFF


class Refusal:
    """The errno for an MSR, and what speaks against it in words."""

    __slots__ = ("errno", "why")

    def __init__(self, why: str, errno: str = "ENXIO") -> None:
        self.errno = errno
        self.why = why


class Msr:
    """An MSR that a CPU_MSR record may hold: `since` when it is loaded, on AMD and on Intel
    (as `Release.since` takes it), and what speaks against a value, "" for nothing."""

    __slots__ = ("against", "since")

    def __init__(self, against: Against, amd: str, intel: str) -> None:
        self.against = against
        self.since = {AMD: amd, INTEL: intel}


def _needs(feature: str, mask: int = -1) -> Against:
    """Without the feature, or with a bit that is not in the mask."""

    def against(seen: Seen, value: int) -> str:
        if not seen.guest.has(feature):
            return lacking(seen, seen.guest, (feature,))
        return _outside(value, mask)

    return against


def _outside(value: int, mask: int) -> str:
    return f"{value:#x} has bits outside of {mask:#x}" if value & ~mask else ""


def _spec_ctrl(seen: Seen, value: int) -> str:
    """IBRS and STIBP go with the MSR; each other bit with a feature, in the releases that
    know it."""
    guest, release = seen.policy("4.9"), seen.release
    whole = ("IBRSB", "IBRS") if release.since(_SPEC_CTRL_AMD) else ("IBRSB",)
    if not any(map(guest.has, whole)):
        return lacking(seen, guest, whole)
    for bit in bits_of(value & ~(SpecCtrl.IBRS | SpecCtrl.STIBP)):
        rows = [(features, since) for bits, features, since in SPEC_CTRL_BITS if bits & bit]
        standing = [name for names, since in rows if release.since(since) for name in names]
        if not any(map(guest.has, standing)):
            name = bit_names(SpecCtrl, bit)[0]
            if standing:
                why = lacking(seen, guest, standing, named_bits(SpecCtrl)[bit])
            else:
                why = settable(rows[0][1] if rows else "")
            return f"{value:#x} has {name}, {why}"
    return ""


_SPEC_CTRL_AMD = "4.17 4.16.1 4.15.3 4.14.5"
SPEC_CTRL_BITS = (
    (1 << 2, ("SSBD",), "4.10.2 4.9.4 4.8.5"), (1 << 2, ("AMD_SSBD",), _SPEC_CTRL_AMD),
    (1 << 7, ("INTEL_PSFD", "PSFD"), _SPEC_CTRL_AMD),
    (3 << 3, ("IPRED_CTRL",), "4.19 4.18.2 4.17.4 4.16.6 4.15.6"),
    (3 << 5, ("RRSBA_CTRL",), "4.19 4.18.2 4.17.4 4.16.6 4.15.6"),
    (1 << 10, ("BHI_CTRL",), "4.19 4.18.2 4.17.4 4.16.6 4.15.6"),
)  # fmt: skip
"""Bits of SPEC_CTRL, the features that allow them, and since when."""


def _misc_features(seen: Seen, value: int) -> str:
    """CPUID faulting, where the policy's PLATFORM_INFO offers it. Up to 4.9 any value."""
    if not seen.release.since("4.10") or not value:
        return ""
    if value & ~1:
        return _outside(value, 1)
    if seen.guest.offers(_PLATFORM_INFO, _CPUID_FAULTING):
        return ""
    return (
        f"CPUID_FAULTING (bit 0) needs bit {_CPUID_FAULTING} of {msr_name(_PLATFORM_INFO)}; "
        "the guest's policy lacks it"
    )


def _bndcfgs(seen: Seen, value: int) -> str:
    """Bits 2 to 11 are reserved, and what is above them is an address. Up to 4.12 a host
    without MPX takes 0 (since 4.6.6 and 4.7). A value that enables MPX needs a vcpu whose
    xcr0_accum has one of MPX's states: Xen would add them only for the running vcpu."""
    release, policy = seen.release, seen.policy("4.13")
    if not policy.has("MPX"):
        zero = not value and not release.since("4.13") and release.since("4.7 4.6.6")
        return "" if zero else lacking(seen, policy, ("MPX",))
    if not release.since("4.8 4.7.1 4.6.4 4.5.4"):
        return ""
    if value & _BNDCFGS_RESERVED:
        return f"{value:#x} has reserved bits, which are 2 to 11"
    if value >> 47 not in (0, (1 << 17) - 1):
        return f"{value:#x} is not a canonical address"
    states = seen.loaded.xcr0_accum.get(seen.instance, 0)
    if value & 1 and release.since("4.13 4.7.3 4.6.6") and not states & _BNDCFGS_STATES:
        return (
            f"{value:#x} enables MPX, which needs BNDREGS (bit 3) or BNDCSR (bit 4) in "
            "xcr0_accum of the vcpu's CPU_XSAVE record, loaded before"
        )
    return ""


def _xss(seen: Seen, value: int) -> str:
    """Nothing but 0 since 4.13; before that anything, where there is XSAVES."""
    policy = seen.policy("4.13")
    if not policy.has("XSAVES"):
        return lacking(seen, policy, ("XSAVES",))
    if value and seen.release.since("4.13"):
        return f"it is {value:#x}, and Xen lets no guest enable a state in it"
    return ""


def _address_mask(seen: Seen, value: int) -> str:
    policy = seen.policy("4.12")
    return _outside(value, _U32) if policy.has("DBEXT") else lacking(seen, policy, ("DBEXT",))


_PLATFORM_INFO, _CPUID_FAULTING = 0xCE, 31
_BNDCFGS_RESERVED, _BNDCFGS_STATES = 0xFFC, XCR0.BNDREGS | XCR0.BNDCSR
_MASK = Msr(_address_mask, "4.5", "4.12")
MSRS = {
    0x48: Msr(_spec_ctrl, "4.10.1", "4.10.1 4.9.2 4.8.4 4.7.5"),
    0x140: Msr(_misc_features, "4.10", "4.10 4.9.2 4.8.4"),
    0x6E1: Msr(_needs("PKS", mask=_U32), "4.18", "4.18"),
    0xD90: Msr(_bndcfgs, "4.13", "4.5"),
    0xDA0: Msr(_xss, "4.13", "4.7"),
    0xC001011F: Msr(_needs("VIRT_SSBD"), "4.17", "4.17"),
    0xC0011019: _MASK, 0xC001101A: _MASK, 0xC001101B: _MASK, 0xC0011027: _MASK,
}  # fmt: skip
"""The MSRs that a CPU_MSR record may hold."""


def refused(seen: Seen, vendor: str, index: int, value: int) -> Refusal | None:
    """What speaks against an MSR and its value, on a host of this vendor; None where it is
    loaded."""
    known = MSRS.get(index)
    if known is None:
        return Refusal(f"{msr_name(index)}, which Xen does not load")
    since = known.since[vendor]
    if not seen.release.since(since):
        cpus = "AMD" if vendor == AMD else "Intel"
        return Refusal(f"{msr_name(index)}, which Xen loads in {Window(since)}, on {cpus} CPUs")
    why = known.against(seen, value)
    if not why:
        return None
    wide = known is _MASK and seen.policy("4.12").has("DBEXT") and not seen.release.since("4.12")
    glue = ", " if why.startswith("which ") else ": "
    return Refusal(f"{msr_name(index)}{glue}{why}", "EDOM" if wide else "ENXIO")
