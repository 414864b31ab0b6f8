from __future__ import annotations

import pytest

from hvmctx.abi.names import BITS, NAMES, bits_between, names_of
from hvmctx.abi.registry import by_name
from hvmctx.abi.x86_bits import named_bits
from hvmctx.edit.paths import value_of
from hvmctx.errors import FieldError


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_there_and_holds_its_values(name: str) -> None:
    record, _, field = name.partition(".")
    layout = by_name(record).layout
    (path, *_) = [p for p in layout.paths() if names_of(f"{record}/0.{p}") is NAMES[name]] or [
        field.replace("redirtbl", "redirtbl[0]")
    ]
    slot = layout.locate(path)
    assert max(NAMES[name]) < 1 << slot.width
    assert names_of(f"{record.lower()}/3.{path}") is NAMES[name]


@pytest.mark.parametrize("name", BITS)
def test_every_field_with_bits_is_there(name: str) -> None:
    record, _, field = name.partition(".")
    layout = by_name(record).layout
    (path, *_) = [p for p in layout.paths() if p.partition("[")[0] == field]
    bits = list(named_bits(BITS[name]))
    assert max(bits) < 1 << layout.locate(path).width
    assert (
        bits_between(f"{record.lower()}/3.{path}", 0, max(bits))
        == f"+{named_bits(BITS[name])[max(bits)]}"
    )


def test_changed_bits() -> None:
    assert bits_between("CPU/0.cr0", 0x80000011, 0x11) == "-PG"
    assert bits_between("CPU/0.cr0", 0, 1 << 7) == "+bit 7"
    assert bits_between("CPU/0.rip", 0, 1) == ""


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("CPUID[7,0].ecx", 0xC, "+UMIP +PKU"), ("CPUID[0x7,0x0].ecx", 4, "+UMIP"),
        ("CPUID[1].edx", 1 << 13 | 1 << 20, "+PGE +bit 20"), ("CPUID[1].ecx", 1 << 5, "+VMX"),
        ("CPUID[0x80000001].edx", 1 << 29, "+LM"),
        ("CPUID[0xd,0].eax", 0x207, "+X87 +SSE +YMM +PKRU"),
        ("CPUID[0xd,0].edx", 1 << 30, "+LWP"), ("CPUID[0xd,1].eax", 8, "+XSAVES"),
        ("CPUID[2].eax", 1, ""), ("CPUID[7].ecx", 4, ""), ("CPUID[x,0].ecx", 4, ""),
        ("MSR[0xce]", 1 << 31, "+CPUID_FAULTING"), ("MSR[0x10a]", 2, "+EIBRS"),
        ("MSR[0x10]", 1, ""), ("MSR[0xce].flags", 1, ""),
    ],
)  # fmt: skip
def test_bits_of_a_policy(path: str, value: int, text: str) -> None:
    assert bits_between(path, 0, value) == text


def test_names_as_values() -> None:
    assert value_of("sw_exception", "CPU/0.pending_type") == 6
    assert value_of("NMI", "IOAPIC.redirtbl[3].fields.delivery_mode") == 4
    assert value_of("TCLO", "VMPORT.chans[5].proto_num") == 0x4F4C4354
    assert value_of("0x1f", "CPU/0.rip") == 0x1F
    with pytest.raises(FieldError, match="'FOO' is not a number or one of LSB, MSB, WORD"):
        value_of("FOO", "PIT.channels[0].rw_mode")
    with pytest.raises(FieldError, match=r"'FOO' is not a number$"):
        value_of("FOO", "CPU.rip")
