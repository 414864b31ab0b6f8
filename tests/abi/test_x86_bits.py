from __future__ import annotations

import pytest

from hvmctx.abi import x86_bits
from hvmctx.abi.x86_bits import CR0, CR4, EFER, RFLAGS, XCR0, ApicBase, bit_names, bits_of

SETS = [kind for kind in vars(x86_bits).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", SETS, ids=lambda kind: kind.__name__)
def test_no_bit_has_two_names(kind: type) -> None:
    single = [v for k, v in vars(kind).items() if k.isupper() and v.bit_count() == 1]
    assert single and len(single) == len(set(single))


def test_the_manuals_values() -> None:
    assert (CR0.PE, CR0.ET, CR0.WP, CR0.PG, CR0.KNOWN) == (1, 0x10, 0x10000, 1 << 31, 0xE005003F)
    assert (CR4.PAE, CR4.PGE, CR4.PCIDE, CR4.CET) == (0x20, 0x80, 0x20000, 0x800000)
    assert (EFER.SCE, EFER.LME, EFER.LMA, EFER.NXE) == (1, 0x100, 0x400, 0x800)
    assert RFLAGS.KNOWN & (RFLAGS.ONE | RFLAGS.VM) == 0x20002
    assert (ApicBase.BSP, ApicBase.EN) == (0x100, 0x800)
    assert (XCR0.YMM, XCR0.BNDCSR, XCR0.AVX512, XCR0.TILE) == (4, 0x10, 0xE0, 0x60000)


def test_names_of_bits() -> None:
    assert bit_names(CR0, CR0.KNOWN)[::10] == ["PE (bit 0)", "PG (bit 31)"]
    assert bit_names(XCR0, XCR0.AVX512) == ["OPMASK (bit 5)", "ZMM (bit 6)", "HI_ZMM (bit 7)"]
    assert bit_names(CR4, 1 << 63 | 1) == ["VME (bit 0)", "bit 63"]
    assert bit_names(CR4, 0) == [] and list(bits_of(0x82)) == [2, 0x80]
