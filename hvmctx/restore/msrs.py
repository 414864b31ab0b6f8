"""The MSRs that a CPU_MSR record may hold: since when each is loaded, on AMD and on Intel,
and with what values.

Source: hvm_load_cpu_msrs, vmx_load_msr, svm_load_msr and guest_wrmsr of every release tag
from 4.5.0 to 4.22.0, and what Xen 4.5.5 to c447b730 answered when asked (AMD; Intel: 4.17
and 4.20).
"""

from __future__ import annotations

from hvmctx.abi.x86_bits import XCR0
from hvmctx.restore.machine import AMD, INTEL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hvmctx.restore.rules import Seen

__all__ = ["MSRS", "refused"]

_U32 = 0xFFFFFFFF


class Msr:
    """An MSR that a CPU_MSR record may hold: `since` when it is loaded, on AMD and on Intel
    (as `Release.since` takes it), and what speaks against a value."""

    __slots__ = ("refused", "since")

    def __init__(self, refused: Callable[[Seen, int], str | None], amd: str, intel: str) -> None:
        self.refused = refused
        self.since = {AMD: amd, INTEL: intel}


def _needs(*features: str, mask: int = -1) -> Callable[[Seen, int], str | None]:
    """ENXIO without any of the features, or with a bit that is not in the mask."""

    def refused(seen: Seen, value: int) -> str | None:
        there = not features or any(seen.guest.has(feature) for feature in features)
        return None if there and not value & ~mask else "ENXIO"

    return refused


def _spec_ctrl(seen: Seen, value: int) -> str | None:
    """IBRS and STIBP go with the MSR; each other bit with a feature, in the releases that
    know it."""
    guest, release = seen.policy("4.9"), seen.release
    if not (guest.has("IBRSB") or (release.since(_SPEC_CTRL_AMD) and guest.has("IBRS"))):
        return "ENXIO"
    allowed = 3
    for bits, features, since in _SPEC_CTRL_BITS:
        if release.since(since) and any(guest.has(feature) for feature in features):
            allowed |= bits
    return "ENXIO" if value & ~allowed else None


_SPEC_CTRL_AMD = "4.17 4.16.1 4.15.3 4.14.5"
_SPEC_CTRL_BITS = (
    (1 << 2, ("SSBD",), "4.10.2 4.9.4 4.8.5"), (1 << 2, ("AMD_SSBD",), _SPEC_CTRL_AMD),
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
    without MPX takes 0 (since 4.6.6 and 4.7). A value that enables MPX needs a vcpu whose
    xcr0_accum has one of MPX's states: Xen would add them only for the running vcpu."""
    release = seen.release
    mpx = seen.policy("4.13").has("MPX")
    if not release.since("4.13") and release.since("4.7 4.6.6") and not mpx:
        return "ENXIO" if value else None
    if not mpx:
        return "ENXIO"
    if not release.since("4.8 4.7.1 4.6.4 4.5.4"):
        return None
    if value & _BNDCFGS_RESERVED or value >> 47 not in (0, (1 << 17) - 1):
        return "ENXIO"
    states = seen.loaded.xcr0_accum.get(seen.instance, 0)
    enables = value & 1 and release.since("4.13 4.7.3 4.6.6")
    return "ENXIO" if enables and not states & _BNDCFGS_STATES else None


def _xss(seen: Seen, value: int) -> str | None:
    """Nothing but 0 since 4.13; before that anything, where there is XSAVES."""
    if not seen.policy("4.13").has("XSAVES"):
        return "ENXIO"
    return "ENXIO" if value and seen.release.since("4.13") else None


def _address_mask(seen: Seen, value: int) -> str | None:
    if not seen.policy("4.12").has("DBEXT"):
        return "ENXIO"
    wide = "ENXIO" if seen.release.since("4.12") else "EDOM"
    return wide if value >> 32 else None


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


def refused(seen: Seen, vendor: str, index: int, value: int) -> str | None:
    """The errno for an MSR and its value, on a host of this vendor; None where it is loaded."""
    known = MSRS.get(index)
    if known is None or not seen.release.since(known.since[vendor]):
        return "ENXIO"
    return known.refused(seen, value)
