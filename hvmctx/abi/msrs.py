"""MSRs by name, as far as saved state and CPU policies have them: `msr_name`, and the bits of
those that have some.

Source: Intel SDM vol. 4; AMD APM vol. 2, appendix A; Xen's asm/msr-index.h.
"""

from __future__ import annotations

from hvmctx.abi.x86_bits import EFER, XCR0, ApicBase, MiscFeatures, PlatformInfo, SpecCtrl

__all__ = ["MSRS", "MSR_BITS", "msr_name"]

MSRS = {
    0x10: "TSC", 0x1B: "APIC_BASE", 0x3A: "FEATURE_CONTROL", 0x3B: "TSC_ADJUST",
    0x48: "SPEC_CTRL", 0x49: "PRED_CMD", 0xCE: "PLATFORM_INFO", 0xFE: "MTRR_CAP",
    0x10A: "ARCH_CAPABILITIES", 0x10B: "FLUSH_CMD", 0x122: "TSX_CTRL",
    0x140: "MISC_FEATURES_ENABLES", 0x174: "SYSENTER_CS", 0x175: "SYSENTER_ESP",
    0x176: "SYSENTER_EIP", 0x179: "MCG_CAP", 0x1A0: "MISC_ENABLE", 0x1D9: "DEBUGCTL",
    0x277: "PAT", 0x2FF: "MTRR_DEF_TYPE", 0x6A0: "U_CET", 0x6A2: "S_CET", 0x6A4: "PL0_SSP",
    0x6A5: "PL1_SSP", 0x6A6: "PL2_SSP", 0x6A7: "PL3_SSP", 0x6A8: "INTERRUPT_SSP_TABLE",
    0x6E0: "TSC_DEADLINE", 0x6E1: "PKRS", 0xD90: "BNDCFGS", 0xDA0: "XSS",
    0xC0000080: "EFER", 0xC0000081: "STAR", 0xC0000082: "LSTAR", 0xC0000083: "CSTAR",
    0xC0000084: "SYSCALL_MASK", 0xC0000100: "FS_BASE", 0xC0000101: "GS_BASE",
    0xC0000102: "SHADOW_GS_BASE", 0xC0000103: "TSC_AUX", 0xC001011F: "VIRT_SPEC_CTRL",
    0xC0011019: "DR1_ADDRESS_MASK", 0xC001101A: "DR2_ADDRESS_MASK",
    0xC001101B: "DR3_ADDRESS_MASK", 0xC0011027: "DR0_ADDRESS_MASK",
}  # fmt: skip
"""Index -> name, as Xen's headers and the manuals have it."""

MSR_BITS: dict[int, type] = {
    0x1B: ApicBase, 0x48: SpecCtrl, 0xCE: PlatformInfo, 0x140: MiscFeatures, 0xDA0: XCR0,
    0xC0000080: EFER, 0xC001011F: SpecCtrl,
}  # fmt: skip
"""Index -> the class of `abi.x86_bits` that names its bits. Those of ARCH_CAPABILITIES are
features, in `abi.cpuid`."""


def msr_name(index: int) -> str:
    """Name and index, or the index alone.

    >>> msr_name(0x48), msr_name(0x99)
    ('SPEC_CTRL (0x48)', 'MSR 0x99')
    """
    name = MSRS.get(index)
    return f"{name} ({index:#x})" if name else f"MSR {index:#x}"
