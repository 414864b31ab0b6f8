"""Bits of x86's control registers, EFER, rflags, APIC base and XCR0: `CR0.PG`, `EFER.LMA`.

A module of its own, as a dump needs none of them. Source: Intel SDM vol. 3, 2.5, 2.6
and 11.4.4; AMD APM vol. 2, 3.1.
"""

from __future__ import annotations

__all__ = ["CR0", "CR4", "EFER", "RFLAGS", "XCR0", "ApicBase"]


class CR0:
    """`KNOWN` has all defined bits."""

    PE, MP, EM, TS, ET, NE = (1 << bit for bit in range(6))
    WP, AM, NW, CD, PG = 1 << 16, 1 << 18, 1 << 29, 1 << 30, 1 << 31
    KNOWN = PE | MP | EM | TS | ET | NE | WP | AM | NW | CD | PG


class CR4:
    """Bits that some release of Xen lets a guest set, and LA57."""

    VME, PVI, TSD, DE, PSE, PAE, MCE, PGE = (1 << bit for bit in range(8))
    PCE, OSFXSR, OSXMMEXCPT, UMIP = 1 << 8, 1 << 9, 1 << 10, 1 << 11
    LA57, VMXE, FSGSBASE, PCIDE = 1 << 12, 1 << 13, 1 << 16, 1 << 17
    OSXSAVE, SMEP, SMAP, PKE = 1 << 18, 1 << 20, 1 << 21, 1 << 22
    CET, PKS, LASS = 1 << 23, 1 << 24, 1 << 27


class EFER:
    """All defined bits, AMD's included."""

    SCE, LME, LMA, NXE = 1 << 0, 1 << 8, 1 << 10, 1 << 11
    SVME, LMSLE, FFXSE, AIBRSE = 1 << 12, 1 << 13, 1 << 14, 1 << 21


class RFLAGS:
    """`KNOWN` has all defined bits and `ONE`, which is always set."""

    ONE, VM = 1 << 1, 1 << 17
    KNOWN = 0x3F7FD7


class ApicBase:
    """Of the APIC base MSR: boot processor, x2APIC, enabled. `ADDRESS` is the only address
    that Xen gives an APIC."""

    BSP, EXTD, EN = 1 << 8, 1 << 10, 1 << 11
    RESERVED = 0x2FF
    ADDRESS = 0xFEE00000


class XCR0:
    """States that XSAVE saves. The three of `AVX512` (opmasks and two parts of the registers)
    are enabled together, and so are the two of `TILE` (configuration and data)."""

    X87, SSE, YMM, BNDREGS, BNDCSR = (1 << bit for bit in range(5))
    AVX512 = 0b111 << 5
    TILE = 0b11 << 17
