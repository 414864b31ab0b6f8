from __future__ import annotations

from collections.abc import Iterator
from ctypes import Array, Structure, Union, sizeof
from typing import Any

import pytest

from hvmctx.abi import qemu_cpu, streams, x86
from hvmctx.abi.declare import RecordType
from hvmctx.abi.registry import record_types
from hvmctx.errors import FieldError


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


def structures_in(ctype: Any) -> Iterator[Any]:
    if issubclass(ctype, Array):
        yield from structures_in(ctype._type_)
    elif issubclass(ctype, (Structure, Union)):
        yield ctype
        for base in ctype.__mro__:
            for _, member, *_ in vars(base).get("_fields_", ()):
                yield from structures_in(member)


DECLARED: set[Any] = {
    each
    for module in (x86, qemu_cpu, streams)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, (Structure, Union)) and hasattr(each, "_fields_")
} | {type_.struct for type_ in record_types()}


@pytest.mark.parametrize("structure", sorted(
    {each for whole in DECLARED for each in structures_in(whole)}, key=repr
))  # fmt: skip
def test_no_compiler_pads(structure: Any) -> None:
    """So that it is the same where u64 is aligned to 4 bytes: on a 32-bit x86."""
    end = 0
    for base in reversed(structure.__mro__):
        for name, member, *bits in vars(base).get("_fields_", ()):
            offset = getattr(structure, name).offset
            if not bits:
                assert offset == (0 if issubclass(structure, Union) else end), name
            end = max(end, offset + sizeof(member))
    assert end == sizeof(structure)


def test_sized_structures_do_not_pile_up() -> None:
    for count in range(200):
        x86.CPU_XSAVE.struct_for(600 + count)
    assert len(x86.CPU_XSAVE._sized) <= 65


def test_structures_show_their_fields_in_one_line() -> None:
    rtc = x86.hvm_hw_rtc(cmos_index=0x1B, rtc_offset=-3)
    assert repr(rtc) == (
        "<hvm_hw_rtc cmos_data=0000000000000000000000000000 cmos_index=0x1b rtc_offset=-0x3>"
    )
    assert repr(x86.vioapic_redir_entry(bits=0x10000)) == "<vioapic_redir_entry bits=0x10000>"
    assert repr(x86.hvm_hw_vioapic()) == (
        "<hvm_hw_vioapic base_address=0x0 ioregsel=0x0 id=0x0 redirtbl=(48)>"
    )
    assert repr(x86.hvm_hw_cpu()).startswith("<hvm_hw_cpu fpu_regs=(512 bytes) rax=0x0 rbx=0x0 ")
    assert {"rip", "pending_valid", "fpu_regs"} <= set(dir(x86.hvm_hw_cpu()))


@pytest.mark.parametrize("known", list(record_types()), ids=lambda known: known.name)
def test_whatever_a_structure_holds_is_shown_safely(known: RecordType) -> None:
    for length in (0, 1, 3000):
        struct_type = known.struct_for(length)
        shown = repr(struct_type.from_buffer_copy(b"\xff\x1b\n" * sizeof(struct_type)))
        assert shown.isprintable() and shown.isascii() and len(shown) < 300


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_a_number_that_does_not_fit_is_refused(value: int) -> None:
    """Plain ctypes keeps the low bits and says nothing."""
    cpu = x86.hvm_hw_cpu()
    cpu.rip = (1 << 64) - 1
    with pytest.raises(FieldError, match=r"hvm_hw_cpu: rip is a 64-bit field: .* does not fit"):
        cpu.rip = value
    assert cpu.rip == (1 << 64) - 1
    rtc = x86.hvm_hw_rtc()
    rtc.rtc_offset = -1 << 63
    with pytest.raises(FieldError, match="signed 64-bit"):
        rtc.rtc_offset = 1 << 63


def test_unions_can_be_members_on_a_big_endian_machine() -> None:
    """There ctypes of Python 3.11 takes no member that has not this attribute. Tried with the
    Python of Debian's s390x."""
    for union in (x86._pending_event, x86.vioapic_redir_entry):
        assert vars(union)["__ctype_le__"] is union
