from __future__ import annotations

from ctypes import sizeof

from hvmctx.abi import x86


def test_struct_for() -> None:
    assert x86.CPU.struct_for(2000) is x86.hvm_hw_cpu
    for length in (0, 8, 23):  # where the array has no element it is still there
        assert sizeof(x86.CPU_MSR.struct_for(length)) == 8
        assert len(x86.CPU_MSR.struct_for(length)().msr) == 0
    three = x86.CPU_MSR.struct_for(8 + 3 * 16 + 5)
    assert sizeof(three) == 8 + 3 * 16
    assert len(three().msr) == 3
    assert x86.CPU_MSR.struct_for(8 + 3 * 16) is three
    assert sizeof(x86.CPU_XSAVE.struct_for(832)) == 832
    assert x86.CPU.struct_for(5000) is x86.hvm_hw_cpu


def test_sized_structures_do_not_pile_up() -> None:
    for count in range(200):
        x86.CPU_XSAVE.struct_for(600 + count)
    assert len(x86.CPU_XSAVE._sized) <= 65
