"""Names of MSRs and of their bits."""

from __future__ import annotations

from hvmctx.abi.msrs import MSR_BITS, MSRS, msr_name
from hvmctx.abi.x86_bits import bit_names
from hvmctx.restore import msrs


def test_every_msr_of_a_record_has_a_name() -> None:
    assert set(msrs.MSRS) <= set(MSRS) and {0xCE, 0x10A} <= set(MSRS)
    assert len(set(MSRS.values())) == len(MSRS) and set(MSR_BITS) <= set(MSRS)


def test_names() -> None:
    assert (msr_name(0xDA0), msr_name(0x123)) == ("XSS (0xda0)", "MSR 0x123")
    assert bit_names(MSR_BITS[0x48], 0x401) == ["IBRS (bit 0)", "BHI_DIS_S (bit 10)"]
    assert bit_names(MSR_BITS[0xCE], 1 << 31) == ["CPUID_FAULTING (bit 31)"]
