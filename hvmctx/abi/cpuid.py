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
    "ARCH_CAPABILITIES", "DEPENDENTS", "EAX", "EBX", "ECX", "EDX", "FEATURES", "LEAF_TEXT",
    "MSR_FEATURES", "MSR_TEXT", "NO_SUBLEAF", "PLATFORM_INFO", "REPEATED", "VENDORS", "WORDS",
]  # fmt: skip

NO_SUBLEAF = 0xFFFFFFFF
"""The subleaf in rows of leaves that have none."""
EAX, EBX, ECX, EDX = 2, 3, 4, 5
"""Where a register stands in a row of a policy."""
LEAF_TEXT, MSR_TEXT = "{:08x}:{:08x} -> {:08x}:{:08x}:{:08x}:{:08x}", "{:08x} -> {:016x}"
"""A row as xen-cpuid prints it, without the flags of an MSR."""
PLATFORM_INFO, ARCH_CAPABILITIES = 0xCE, 0x10A
"""The MSRs of a policy. The second has features too."""


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

REPEATED = 0x0183F3FF
"""The bits of leaf 1's edx that AMD has in edx of leaf 0x80000001, too."""
VENDORS = {b"AuthenticAMD": "amd", b"HygonGenuine": "amd", b"GenuineIntel": "intel"}
"""The name in leaf 0 (ebx, edx, ecx) -> whose kind of CPU it is."""

DEPENDENTS = (
    ("FPU", "MMX", "4.13"),
    ("FPU", "RSTR_FP_ERR_PTRS", "4.14"),
    ("PSE", "PSE36", "4.13"),
    ("PAE", "LM NX", "4.13"),
    ("TSC", "TSC_DEADLINE RDTSCP TSC_ADJUST ITSC", "4.13"),
    ("APIC", "X2APIC TSC_DEADLINE EXTAPIC", "4.13"),
    ("CLFLUSH", "CLZERO", "4.21"),
    ("MMX", "MMXEXT 3DNOW", "4.13"),
    ("FXSR", "FFXSR SSE", "4.13"),
    ("SSE", "SSE2 MISALIGNSSE", "4.13"),
    ("SSE2", "SSE3 LM AESNI PCLMULQDQ SHA GFNI", "4.13"),
    ("SSE3", "SSSE3 SSE4A", "4.13"),
    ("SSSE3", "SSE4_1", "4.13"),
    ("SSE4_1", "SSE4_2", "4.13"),
    ("XSAVE", "XSAVEOPT XSAVEC XGETBV1 XSAVES AVX MPX PKU LWP", "4.13"),
    ("XSAVE", "AMX_TILE", "4.20"),
    ("AVX", "FMA FMA4 F16C AVX2 XOP", "4.13"),
    ("AVX", "AVX_NE_CONVERT", "4.18"),
    ("AVX", "SM3", "4.19"),
    ("NX", "SMAP", "4.13"),
    ("LM", "CX16 PCID LAHF_LM PAGE1GB PKU", "4.13"),
    ("LM", "NO_LMSL", "4.16"),
    ("LM", "AMX_TILE CMPCCXADD", "4.20"),
    ("LM", "LKGS", "4.22"),
    ("LM", "MOVRS", "newest"),
    ("3DNOW", "3DNOWEXT", "4.13"),
    ("AVX2", "AVX512F VAES VPCLMULQDQ", "4.13"),
    ("AVX2", "AVX_VNNI", "4.15"),
    ("AVX2", "AVX_IFMA AVX_VNNI_INT8", "4.18"),
    ("AVX2", "AVX_VNNI_INT16 SHA512 SM4", "4.19"),
    ("AVX512F", "AVX512DQ AVX512_IFMA AVX512PF AVX512ER AVX512CD AVX512BW AVX512VL", "4.13"),
    ("AVX512F", "AVX512_4VNNIW AVX512_4FMAPS AVX512_VNNI AVX512_VPOPCNTDQ", "4.13"),
    ("AVX512F", "AVX512_VP2INTERSECT", "4.15"),
    ("AVX512BW", "AVX512_VBMI AVX512_VBMI2 AVX512_BITALG AVX512_BF16", "4.13"),
    ("AVX512BW", "AVX512_FP16", "4.17"),
    ("AVX512BW", "AVX512_BMM", "4.22"),
    ("PCLMULQDQ", "VPCLMULQDQ", "4.13"),
    ("AESNI", "VAES", "4.13"),
    ("IBRSB", "STIBP SSBD", "4.13"),
    ("IBRSB", "INTEL_PSFD", "4.17 4.16.1 4.15.3 4.14.5"),
    ("IBRSB", "EIBRS", "4.18 4.17.2 4.16.5 4.15.5 4.14.6"),
    ("IBRSB", "IPRED_CTRL RRSBA_CTRL BHI_CTRL", "4.19 4.18.2 4.17.4 4.16.6 4.15.6"),
    ("IBRS", "AMD_STIBP AMD_SSBD PSFD IBRS_ALWAYS IBRS_FAST IBRS_SAME_MODE",
     "4.17 4.16.1 4.15.3 4.14.5"),
    ("IBRS", "AUTO_IBRS", "4.18"),
    ("IBPB", "IBPB_RET SBPB IBPB_BRTYPE", "4.18 4.17.2 4.16.5 4.15.5 4.14.6"),
    ("AMD_STIBP", "STIBP_ALWAYS", "4.17 4.16.1 4.15.3 4.14.5"),
    ("RTM", "TSXLDTRK", "4.14"),
    ("PSFD", "EPSF", "4.19"),
    ("ARCH_CAPS", " ".join(MSR_FEATURES), "4.18 4.17.2 4.16.5 4.15.5 4.14.6"),
    ("EIBRS", "RRSBA", "4.18 4.17.2 4.16.5 4.15.5 4.14.6"),
    ("AMX_TILE", "AMX_BF16 AMX_INT8 AMX_FP16 AMX_COMPLEX", "4.20"),
)  # fmt: skip
"""A feature, those that are nothing without it, and since which releases (as `Release.since`
takes them) Xen takes them away with it. Source: xen/tools/gen-cpuid.py of every tag since
4.13.0."""
