from __future__ import annotations

import pytest

from hvmctx.abi import x86
from hvmctx.edit.paths import bytes_of, field_of, locate, record_of, split_setting, value_of
from hvmctx.errors import FieldError, UsageError


def test_what_a_path_consists_of() -> None:
    assert field_of("cpu/1.fpu_regs[0:+4]") == ("CPU/1", "fpu_regs[0:+4]")
    assert field_of('vmport.guestinfo["a.b"]') == ("VMPORT", 'guestinfo["a.b"]')
    assert record_of("CPU/1") == (x86.CPU, 1) and record_of("pit") == (x86.PIT, 0)
    for path in ("CPU", "CPU.", "", "CPU/0"):
        with pytest.raises(UsageError, match="expected RECORD"):
            field_of(path)
    with pytest.raises(UsageError, match="'X' is not an instance"):
        record_of("CPU/X")


def test_where_a_field_lies() -> None:
    slot, base = locate(x86.CPU, "rip")
    assert (slot.offset, slot.size, base) == (x86.hvm_hw_cpu.rip.offset, 8, 0)
    slot, base = locate(x86.CPU_MSR, "msr[2].val")
    assert (base + slot.offset, slot.size) == (8 + 2 * 16 + 8, 8)
    slot, base = locate(x86.CPU_XSAVE, "extended[5]")
    assert (base + slot.offset, slot.size) == (x86.CPU_XSAVE.size + 5, 1)


def test_values_in_text() -> None:
    assert value_of("0x10", "CPU/0.rip") == 16 and value_of("-1", "CPU/0.rip") == -1
    assert value_of("msb", "PIT/0.channels[0].rw_mode") == 2
    assert bytes_of("00ff", "x") == b"\0\xff" and bytes_of('"a\\x00"', "x") == b"a\0"
    with pytest.raises(FieldError, match="'x' is not a number"):
        value_of("x", "CPU/0.rip")
    with pytest.raises(FieldError, match="neither hex digits nor text"):
        bytes_of("x", "CPU/0.fpu_regs")


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("CPU/0.rip=0x1", ("CPU/0.rip", "0x1")),
        ('VMPORT.guestinfo["k"]="a=b]=c"', ('VMPORT.guestinfo["k"]', '"a=b]=c"')),
        ('VMPORT.guestinfo["a]=b"]="c"', ('VMPORT.guestinfo["a]=b"]', '"c"')),
        ("VMPORT.guestinfo[a=b]=c", ("VMPORT.guestinfo[a=b]", "c")),
        ('PIT.channels[0].mode="x]=["', ("PIT.channels[0].mode", '"x]=["')),
        ("=", ("", "")),
    ],
)
def test_where_a_setting_is_split(setting: str, parts: tuple[str, str]) -> None:
    assert split_setting(setting) == parts


@pytest.mark.parametrize("setting", ["CPU.rip", "a[b=c", ""])
def test_what_is_no_setting(setting: str) -> None:
    with pytest.raises(UsageError, match="expected PATH=VALUE"):
        split_setting(setting)
