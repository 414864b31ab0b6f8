"""Bits of x86's registers by name: `CR0.PG`, `EFER.LMA`; and their names where people are
shown a value (`bit_names`). Which fields of a record have them: `abi.names`.

A module of its own, as a dump needs none of them. Source: Intel SDM vol. 1, 13.1 and vol. 3,
2.5, 2.6, 4.3 to 4.5, 11.4.4, 15.3.1, 17.2; AMD APM vol. 2, 3.1; Microsoft's TLFS for Hyper-V, 12.3;
Xen's asm/x86-defns.h, asm/xstate.h and asm/msr-index.h.
"""

from __future__ import annotations

from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CR0", "CR4", "DR6", "DR7", "EFER", "RFLAGS", "XCR0", "ApicBase", "McgCap",
    "MiscFeatures", "PageEntry", "PlatformInfo", "Pm1", "SpecCtrl", "StimerConfig", "bit_names",
    "bits_of", "dpl", "named", "named_bits", "short_names",
]  # fmt: skip


class CR0:
    """`KNOWN` has all defined bits."""

    PE, MP, EM, TS, ET, NE = (1 << bit for bit in range(6))
    WP, AM, NW, CD, PG = 1 << 16, 1 << 18, 1 << 29, 1 << 30, 1 << 31
    KNOWN = PE | MP | EM | TS | ET | NE | WP | AM | NW | CD | PG


class CR4:
    """All defined bits, those that no release of Xen lets a guest set included."""

    VME, PVI, TSD, DE, PSE, PAE, MCE, PGE = (1 << bit for bit in range(8))
    PCE, OSFXSR, OSXMMEXCPT, UMIP = 1 << 8, 1 << 9, 1 << 10, 1 << 11
    LA57, VMXE, SMXE, FSGSBASE, PCIDE = 1 << 12, 1 << 13, 1 << 14, 1 << 16, 1 << 17
    OSXSAVE, KL, SMEP, SMAP, PKE = 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22
    CET, PKS, UINTR, LASS, LAM_SUP, FRED = 1 << 23, 1 << 24, 1 << 25, 1 << 27, 1 << 28, 1 << 32


class EFER:
    """All defined bits, AMD's included."""

    SCE, LME, LMA, NXE = 1 << 0, 1 << 8, 1 << 10, 1 << 11
    SVME, LMSLE, FFXSE, TCE = 1 << 12, 1 << 13, 1 << 14, 1 << 15
    MCOMMIT, INTWB, UAIE, AIBRSE = 1 << 17, 1 << 18, 1 << 20, 1 << 21


class RFLAGS:
    """`KNOWN` has all defined bits and `ONE`, which is always set."""

    CF, ONE, PF, AF, ZF, SF = 1 << 0, 1 << 1, 1 << 2, 1 << 4, 1 << 6, 1 << 7
    TF, IF, DF, OF, IOPL_LOW, IOPL_HIGH = (1 << bit for bit in range(8, 14))
    NT, RF, VM, AC, VIF, VIP, ID = 1 << 14, *(1 << bit for bit in range(16, 22))
    KNOWN = 0x3F7FD7


class PageEntry:
    """Of an entry of a page table. `PS` says that it maps a large page; in a table of the last
    level that bit is `PAT`."""

    P, RW, US, PWT, PCD, A, D, PS, G = (1 << bit for bit in range(9))
    NX = 1 << 63


class DR6:
    """`BLD` and `RTM` are 0 where the event has happened."""

    B0, B1, B2, B3 = (1 << bit for bit in range(4))
    BLD, BD, BS, BT, RTM = 1 << 11, 1 << 13, 1 << 14, 1 << 15, 1 << 16


class DR7:
    """Without the lengths and kinds of its breakpoints, two bits each from 16 on."""

    L0, G0, L1, G1, L2, G2, L3, G3 = (1 << bit for bit in range(8))
    LE, GE, RTM, GD = 1 << 8, 1 << 9, 1 << 11, 1 << 13


class ApicBase:
    """Of the APIC base MSR: boot processor, x2APIC, enabled. `ADDRESS` is the only address
    that Xen gives an APIC."""

    BSP, EXTD, EN = 1 << 8, 1 << 10, 1 << 11
    RESERVED = 0x2FF
    ADDRESS = 0xFEE00000


class XCR0:
    """States that XSAVE saves, those of the XSS register included. The three of `AVX512`
    (opmasks and two parts of the registers) are enabled together, and so are the two of `TILE`
    (configuration and data)."""

    X87, SSE, YMM, BNDREGS, BNDCSR, OPMASK, ZMM, HI_ZMM = (1 << bit for bit in range(8))
    PT, PKRU, PASID, CET_U, CET_S, HDC, UINTR, LBR = (1 << bit for bit in range(8, 16))
    HWP, TILECFG, TILEDATA, APX, LWP = 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 62
    AVX512 = OPMASK | ZMM | HI_ZMM
    TILE = TILECFG | TILEDATA


class McgCap:
    """Of the capabilities of machine checks, above the number of banks (bits 0 to 7)."""

    CTL_P, EXT_P, CMCI_P, TES_P = 1 << 8, 1 << 9, 1 << 10, 1 << 11
    SER_P, EMC_P, ELOG_P, LMCE_P = 1 << 24, 1 << 25, 1 << 26, 1 << 27


class SpecCtrl:
    """Of the MSR SPEC_CTRL."""

    IBRS, STIBP, SSBD = 1 << 0, 1 << 1, 1 << 2
    IPRED_DIS_U, IPRED_DIS_S, RRSBA_DIS_U, RRSBA_DIS_S = (1 << bit for bit in range(3, 7))
    PSFD, DDP_DIS_U, BHI_DIS_S = 1 << 7, 1 << 8, 1 << 10


class MiscFeatures:
    """Of the MSR MISC_FEATURES_ENABLES."""

    CPUID_FAULTING = 1 << 0


class PlatformInfo:
    """Of the MSR PLATFORM_INFO."""

    CPUID_FAULTING = 1 << 31


class StimerConfig:
    """Of a synthetic timer's configuration. Bits 4 to 11 are an APIC vector, 16 to 19 the
    number of an interrupt source."""

    ENABLE, PERIODIC, LAZY, AUTO_ENABLE, DIRECT_MODE = *(1 << bit for bit in range(4)), 1 << 12


class Pm1:
    """Of the ACPI PM1a status and enable registers."""

    TMR, BM, GBL, PWRBTN, SLPBTN, RTC = 1 << 0, 1 << 4, 1 << 5, 1 << 8, 1 << 9, 1 << 10
    PCIEXP_WAKE, WAK = 1 << 14, 1 << 15


def dpl(attributes: int) -> int:
    """The privilege level in a segment's attributes: 0 is the kernel's, 3 that of programs.

    >>> dpl(0xC93), dpl(0xCF3)
    (0, 3)
    """
    return attributes >> 5 & 3


def bits_of(value: int) -> Iterator[int]:
    """The bits that are set in a value, from the lowest, each as a mask."""
    while value:
        yield value & -value
        value &= value - 1


@cache
def named_bits(register: type) -> dict[int, str]:
    """Mask -> name of the single bits of one of these classes."""
    return {
        value: name
        for name, value in vars(register).items()
        if name.isupper() and value.bit_count() == 1
    }


def named(names: dict[int, str], value: int) -> list[str]:
    """The bits that are set in a value, from the lowest, by names such as `named_bits` gives, or
    `bit 40`."""
    return [names.get(bit) or f"bit {bit.bit_length() - 1}" for bit in bits_of(value)]


def short_names(register: type, value: int) -> list[str]:
    """The same of one of these classes."""
    return named(named_bits(register), value)


def bit_names(register: type, value: int) -> list[str]:
    """The bits that are set in a value, from the lowest, by name and number.

    >>> bit_names(CR4, 0x820), bit_names(CR4, 1 << 40)
    (['PAE (bit 5)', 'UMIP (bit 11)'], ['bit 40'])
    """
    names = named_bits(register)
    found = ((names.get(bit), bit.bit_length() - 1) for bit in bits_of(value))
    return [f"{name} (bit {number})" if name else f"bit {number}" for name, number in found]
