"""Bits of CPUID, as the manuals have them."""

from __future__ import annotations

from hvmctx.abi.cpuid import EAX, EBX, ECX, EDX, FEATURES, VENDORS


def test_bits_of_the_manuals() -> None:
    """A few, as Intel's and AMD's manuals have them."""
    assert FEATURES["PAE"] == (1, None, EDX, 6) and FEATURES["VMX"] == (1, None, ECX, 5)
    assert FEATURES["SMEP"] == (7, 0, EBX, 7) and FEATURES["LASS"] == (7, 1, EAX, 6)
    assert FEATURES["SVM"] == (0x80000001, None, ECX, 2)
    assert FEATURES["NX"] == (0x80000001, None, EDX, 20)
    assert {name: place[2:] for name, place in FEATURES.items() if place[:2] == (7, 0)} == {
        "FSGSBASE": (EBX, 0), "SMEP": (EBX, 7), "MPX": (EBX, 14), "SMAP": (EBX, 20),
        "UMIP": (ECX, 2), "PKU": (ECX, 3), "CET_SS": (ECX, 7), "PKS": (ECX, 31),
        "CET_IBT": (EDX, 20), "IBRSB": (EDX, 26), "SSBD": (EDX, 31),
    }  # fmt: skip
    assert len(set(FEATURES.values())) == len(FEATURES)


def test_vendors() -> None:
    assert {len(name) for name in VENDORS} == {12}
    assert VENDORS[b"HygonGenuine"] == VENDORS[b"AuthenticAMD"] != VENDORS[b"GenuineIntel"]
