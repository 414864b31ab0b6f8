"""Bits of x86's control registers, EFER, rflags, APIC base and XCR0: `CR0.PG`, `EFER.LMA`.

Apart from `abi.x86`, as a plain dump needs none of them. Source: Intel SDM vol. 3, 2.5, 2.6
and 11.4.4; AMD APM vol. 2, 3.1.
"""

from __future__ import annotations


class CR0:
    """`KNOWN` are all that there are."""

    PE, MP, EM, TS, ET, NE = (1 << bit for bit in range(6))
    WP, AM, NW, CD, PG = 1 << 16, 1 << 18, 1 << 29, 1 << 30, 1 << 31
    KNOWN = PE | MP | EM | TS | ET | NE | WP | AM | NW | CD | PG


class CR4:
    """Those that some release of Xen lets a guest set, and LA57."""

    VME, PVI, TSD, DE, PSE, PAE, MCE, PGE = (1 << bit for bit in range(8))
    PCE, OSFXSR, OSXMMEXCPT, UMIP = 1 << 8, 1 << 9, 1 << 10, 1 << 11
    LA57, VMXE, FSGSBASE, PCIDE = 1 << 12, 1 << 13, 1 << 16, 1 << 17
    OSXSAVE, SMEP, SMAP, PKE = 1 << 18, 1 << 20, 1 << 21, 1 << 22
    CET, PKS, LASS = 1 << 23, 1 << 24, 1 << 27


class EFER:
    """All that there are, AMD's too."""

    SCE, LME, LMA, NXE = 1 << 0, 1 << 8, 1 << 10, 1 << 11
    SVME, LMSLE, FFXSE, AIBRSE = 1 << 12, 1 << 13, 1 << 14, 1 << 21


class RFLAGS:
    """`ONE` is always set; `KNOWN` are all that there are, and it."""

    ONE, VM = 1 << 1, 1 << 17
    KNOWN = 0x3F7FD7


class ApicBase:
    """Of the MSR: boot processor, x2APIC, enabled. `ADDRESS` is the only one that Xen
    gives."""

    BSP, EXTD, EN = 1 << 8, 1 << 10, 1 << 11
    RESERVED = 0x2FF
    ADDRESS = 0xFEE00000


class XCR0:
    """States that XSAVE saves. Those of `AVX512` (opmasks, and two halves of registers) go
    together, and so do those of `TILE` (configuration and data)."""

    X87, SSE, YMM, BNDREGS, BNDCSR = (1 << bit for bit in range(5))
    AVX512 = 0b111 << 5
    TILE = 0b11 << 17
