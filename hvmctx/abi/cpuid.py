"""Where CPUID says what: features by their names, and the registers of a leaf.

A row of a policy is (leaf, subleaf, eax, ebx, ecx, edx), six 32-bit numbers, as
X86_CPUID_POLICY records hold them. Source: Intel SDM vol. 2, CPUID; AMD APM vol. 3,
appendix E; names and bits as in Xen's public/arch-x86/cpufeatureset.h (after 4.22.0).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ARCH_CAPABILITIES", "EAX", "EBX", "ECX", "EDX", "FEATURES", "MSR_FEATURES", "NO_SUBLEAF",
    "VENDORS", "WORDS",
]  # fmt: skip

NO_SUBLEAF = 0xFFFFFFFF
"""The subleaf in rows of leaves that have none."""
EAX, EBX, ECX, EDX = 2, 3, 4, 5
"""Where a register stands in a row of a policy."""
ARCH_CAPABILITIES = 0x10A
"""The MSR that has features too."""


def _bits(names: str) -> Iterator[tuple[int, str]]:
    """A number says which bit the next name has, where it is not the next bit."""
    bit = 0
    for name in names.split():
        if name.isdigit():
            bit = int(name)
        else:
            yield bit, name
            bit += 1


WORDS: dict[tuple[int, int | None, int], dict[int, str]] = {
    place: dict(_bits(names))
    for place, names in {
        (1, None, EDX):
            "FPU VME DE PSE TSC MSR PAE MCE CX8 APIC 11 SEP MTRR PGE MCA CMOV PAT PSE36 19 "
            "CLFLUSH 21 DS ACPI MMX FXSR SSE SSE2 SS HTT TM1 31 PBE",
        (1, None, ECX):
            "SSE3 PCLMULQDQ DTES64 MONITOR DSCPL VMX SMX EIST TM2 SSSE3 11 SDBG FMA CX16 XTPR "
            "PDCM 17 PCID DCA SSE4_1 SSE4_2 X2APIC MOVBE POPCNT TSC_DEADLINE AESNI XSAVE OSXSAVE "
            "AVX F16C RDRAND HYPERVISOR",
        (0x80000001, None, EDX):
            "11 SYSCALL 20 NX 22 MMXEXT 25 FFXSR PAGE1GB RDTSCP 29 LM 3DNOWEXT 3DNOW",
        (0x80000001, None, ECX):
            "LAHF_LM CMP_LEGACY SVM EXTAPIC CR8_LEGACY ABM SSE4A MISALIGNSSE 3DNOWPREFETCH OSVW "
            "IBS XOP SKINIT WDT 15 LWP FMA4 19 NODEID_MSR 21 TBM TOPOEXT 26 DBEXT 29 MONITORX "
            "ADDR_MSK_EXT",
        (0xD, 1, EAX): "XSAVEOPT XSAVEC XGETBV1 XSAVES XFD",
        (7, 0, EBX):
            "FSGSBASE TSC_ADJUST SGX BMI1 HLE AVX2 FDP_EXCP_ONLY SMEP BMI2 ERMS INVPCID RTM PQM "
            "NO_FPU_SEL MPX PQE AVX512F AVX512DQ RDSEED ADX SMAP AVX512_IFMA 23 CLFLUSHOPT CLWB "
            "PROC_TRACE AVX512PF AVX512ER AVX512CD SHA AVX512BW AVX512VL",
        (7, 0, ECX):
            "PREFETCHWT1 AVX512_VBMI UMIP PKU OSPKE WAITPKG AVX512_VBMI2 CET_SS GFNI VAES "
            "VPCLMULQDQ AVX512_VNNI AVX512_BITALG TME AVX512_VPOPCNTDQ 16 LA57 22 RDPID 24 BLD "
            "CLDEMOTE 27 MOVDIRI MOVDIR64B ENQCMD SGX_LC PKS",
        (0x80000007, None, EDX): "7 HW_PSTATE ITSC CPB EFRO",
        (0x80000008, None, EBX):
            "CLZERO 2 RSTR_FP_ERR_PTRS 9 WBNOINVD 12 IBPB 14 IBRS AMD_STIBP IBRS_ALWAYS "
            "STIBP_ALWAYS IBRS_FAST IBRS_SAME_MODE NO_LMSL 23 AMD_PPIN AMD_SSBD VIRT_SSBD SSB_NO "
            "CPPC PSFD BTC_NO IBPB_RET",
        (7, 0, EDX):
            "1 SGX_KEYS AVX512_4VNNIW AVX512_4FMAPS FSRM UINTR 8 AVX512_VP2INTERSECT SRBDS_CTRL "
            "MD_CLEAR RTM_ALWAYS_ABORT 13 TSX_FORCE_ABORT SERIALIZE HYBRID TSXLDTRK 18 PCONFIG "
            "ARCH_LBR CET_IBT 22 AMX_BF16 AVX512_FP16 AMX_TILE AMX_INT8 IBRSB STIBP L1D_FLUSH "
            "ARCH_CAPS CORE_CAPS SSBD",
        (7, 1, EAX):
            "SHA512 SM3 SM4 4 AVX_VNNI AVX512_BF16 LASS CMPCCXADD ARCH_PERF_MON 10 FZRM FSRS "
            "FSRCS 17 FRED LKGS WRMSRNS NMI_SRC AMX_FP16 23 AVX_IFMA 26 LAM MSRLIST 30 NO_INVD "
            "MOVRS",
        (0x80000021, None, EAX):
            "NO_NEST_BP FS_GS_NS LFENCE_DISPATCH 5 VERW_CLEAR NSCB 8 AUTO_IBRS 10 AMD_FSRS "
            "AMD_FSRC 17 CPUID_USER_DIS EPSF FSRSC AMD_PREFETCHI 23 AVX512_BMM 27 SBPB "
            "IBPB_BRTYPE SRSO_NO SRSO_US_NO SRSO_MSR_FIX",
        (7, 1, EBX): "INTEL_PPIN",
        (7, 2, EDX):
            "INTEL_PSFD IPRED_CTRL RRSBA_CTRL DDP_CTRL BHI_CTRL MCDT_NO UC_LOCK_DIS",
        (7, 1, ECX): "",
        (7, 1, EDX):
            "4 AVX_VNNI_INT8 AVX_NE_CONVERT 8 AMX_COMPLEX 10 AVX_VNNI_INT16 14 PREFETCHI 17 "
            "UIRET_UIF CET_SSS 24 SLSM",
        (0x80000021, None, ECX): "1 TSA_SQ_NO TSA_L1_NO",
    }.items()
}  # fmt: skip
"""Leaf, subleaf, register -> bit -> feature, in the order of the words of Xen's featuresets."""
MSR_FEATURES: dict[str, tuple[int, int]] = {
    name: (ARCH_CAPABILITIES, bit)
    for bit, name in _bits(
        "RDCL_NO EIBRS RSBA SKIP_L1DFL INTEL_SSB_NO MDS_NO IF_PSCHANGE_MC_NO TSX_CTRL TAA_NO "
        "MCU_CTRL MISC_PKG_CTRL ENERGY_FILTERING DOITM SBDR_SSDP_NO FBSDP_NO PSDP_NO MCU_EXT "
        "FB_CLEAR FB_CLEAR_CTRL RRSBA BHI_NO XAPIC_STATUS 23 OVRCLK_STATUS PBRSB_NO GDS_CTRL "
        "GDS_NO RFDS_NO RFDS_CLEAR IGN_UMONITOR MON_UMON_MITG 32 PB_OPT_CTRL 62 ITS_NO"
    )
}  # fmt: skip
"""Features that an MSR enumerates, not CPUID: name -> MSR, bit."""
FEATURES: dict[str, tuple[int, int | None, int, int]] = {
    name: (*place, bit) for place, names in WORDS.items() for bit, name in names.items()
}
"""Name -> leaf, subleaf, register, bit."""

VENDORS = {b"AuthenticAMD": "amd", b"HygonGenuine": "amd", b"GenuineIntel": "intel"}
"""The name in leaf 0 (ebx, edx, ecx) -> whose kind of CPU it is."""
