"""Where CPUID says what: features by their names, and the registers of a leaf.

A row of a policy is (leaf, subleaf, eax, ebx, ecx, edx), six 32-bit numbers, as
X86_CPUID_POLICY records hold them. Source: Intel SDM vol. 2, CPUID; AMD APM vol. 3,
appendix E; Xen's public/arch-x86/cpufeatureset.h.
"""

from __future__ import annotations

NO_SUBLEAF = 0xFFFFFFFF
"""The subleaf in rows of leaves that have none."""
EAX, EBX, ECX, EDX = 2, 3, 4, 5
"""Where a register stands in a row of a policy."""

# name -> leaf, subleaf, register, bit
FEATURES: dict[str, tuple[int, int | None, int, int]] = {
    "VME": (1, None, EDX, 1), "DE": (1, None, EDX, 2), "PSE": (1, None, EDX, 3),
    "TSC": (1, None, EDX, 4), "PAE": (1, None, EDX, 6), "MCE": (1, None, EDX, 7),
    "PGE": (1, None, EDX, 13), "MCA": (1, None, EDX, 14), "FXSR": (1, None, EDX, 24),
    "SSE": (1, None, EDX, 25), "VMX": (1, None, ECX, 5), "PCID": (1, None, ECX, 17),
    "XSAVE": (1, None, ECX, 26),
    "FSGSBASE": (7, 0, EBX, 0), "SMEP": (7, 0, EBX, 7), "MPX": (7, 0, EBX, 14),
    "SMAP": (7, 0, EBX, 20), "UMIP": (7, 0, ECX, 2), "PKU": (7, 0, ECX, 3),
    "CET_SS": (7, 0, ECX, 7), "PKS": (7, 0, ECX, 31), "CET_IBT": (7, 0, EDX, 20),
    "IBRSB": (7, 0, EDX, 26), "SSBD": (7, 0, EDX, 31), "LASS": (7, 1, EAX, 6),
    "INTEL_PSFD": (7, 2, EDX, 0), "IPRED_CTRL": (7, 2, EDX, 1), "RRSBA_CTRL": (7, 2, EDX, 2),
    "BHI_CTRL": (7, 2, EDX, 4),
    "XSAVES": (0xD, 1, EAX, 3),
    "SVM": (0x80000001, None, ECX, 2), "DBEXT": (0x80000001, None, ECX, 26),
    "SYSCALL": (0x80000001, None, EDX, 11), "NX": (0x80000001, None, EDX, 20),
    "FFXSR": (0x80000001, None, EDX, 25), "LM": (0x80000001, None, EDX, 29),
    "IBRS": (0x80000008, None, EBX, 14), "AMD_SSBD": (0x80000008, None, EBX, 24),
    "VIRT_SSBD": (0x80000008, None, EBX, 25), "PSFD": (0x80000008, None, EBX, 28),
    "AUTO_IBRS": (0x80000021, None, EAX, 8),
}  # fmt: skip
"""The features that a restore depends on."""

VENDORS = {b"AuthenticAMD": "amd", b"HygonGenuine": "amd", b"GenuineIntel": "intel"}
"""The name in leaf 0 (ebx, edx, ecx) -> whose kind of CPU it is."""

__all__ = ["EAX", "EBX", "ECX", "EDX", "FEATURES", "NO_SUBLEAF", "VENDORS"]
