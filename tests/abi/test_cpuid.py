"""Bits of CPUID, as the manuals have them."""

from __future__ import annotations

from hvmctx.abi.cpuid import (
    EAX,
    EBX,
    ECX,
    EDX,
    FEATURES,
    MSR_FEATURES,
    VENDORS,
    WORDS,
)


def test_bits_of_the_manuals() -> None:
    """A few, as Intel's and AMD's manuals have them."""
    assert FEATURES["PAE"] == (1, None, EDX, 6) and FEATURES["VMX"] == (1, None, ECX, 5)
    assert FEATURES["SMEP"] == (7, 0, EBX, 7) and FEATURES["LASS"] == (7, 1, EAX, 6)
    assert FEATURES["SVM"] == (0x80000001, None, ECX, 2)
    assert FEATURES["NX"] == (0x80000001, None, EDX, 20)
    assert FEATURES["AVX512VL"] == (7, 0, EBX, 31) and FEATURES["UMIP"] == (7, 0, ECX, 2)
    assert FEATURES["IBRSB"] == (7, 0, EDX, 26) and FEATURES["BHI_CTRL"] == (7, 2, EDX, 4)
    assert FEATURES["HYPERVISOR"] == (1, None, ECX, 31) and FEATURES["3DNOW"][3] == 31
    assert FEATURES["TSA_L1_NO"] == (0x80000021, None, ECX, 2)
    assert FEATURES["XFD"] == (0xD, 1, EAX, 4) and FEATURES["ITSC"] == (0x80000007, None, EDX, 8)
    assert MSR_FEATURES["EIBRS"] == (0x10A, 1) and MSR_FEATURES["ITS_NO"] == (0x10A, 62)
    assert len(set(FEATURES.values())) == len(FEATURES) == sum(map(len, WORDS.values()))
    assert max(bit for names in WORDS.values() for bit in names) == 31
    assert not set(FEATURES) & set(MSR_FEATURES)


def test_vendors() -> None:
    assert {len(name) for name in VENDORS} == {12}
    assert VENDORS[b"HygonGenuine"] == VENDORS[b"AuthenticAMD"] != VENDORS[b"GenuineIntel"]
