from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import x86
from hvmctx.edit.paths import (
    Path,
    bytes_of,
    is_pattern,
    json_of,
    locate,
    matcher,
    naming,
    split_setting,
    step_text,
    steps_of,
    value_of,
    window_of,
    without_window,
)
from hvmctx.errors import FieldError, UsageError


def test_what_a_path_consists_of() -> None:
    for text, parts in (
        ("cpu/1.fpu_regs[0:+4]", ("CPU", 1, None, ".fpu_regs[0:+4]")),
        ('vmport.guestinfo["a/b#c.d"]', ("VMPORT", None, None, '.guestinfo["a/b#c.d"]')),
        ("CPU", ("CPU", None, None, "")),
        ("TSC_ADJUST/0#2", ("TSC_ADJUST", 0, 2, "")),
        ("libxc:0x20/1[0:+4]", ("LIBXC:0X20", 1, None, "[0:+4]")),
        ("CPUID[7,0].ebx", ("CPUID", None, None, "[7,0].ebx")),
    ):
        path = Path(text)
        assert (path.name, path.instance, path.number, path.rest) == parts
        assert path.head + path.rest == text
    for text, reason in (
        ("", "expected RECORD.FIELD"), (".rip", "expected RECORD.FIELD"),
        ("CPU/x", "'x' is not an instance"), ("CPU#", "'' is not a number"),
        ("CPU/0#0", "'0' is not a number"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=reason):
            Path(text)


def test_where_a_field_lies() -> None:
    slot, base = locate(x86.CPU, "rip", 1032)
    assert (slot.offset, slot.size, base) == (x86.hvm_hw_cpu.rip.offset, 8, 0)
    slot, base = locate(x86.CPU_MSR, "msr[2].val", 100)
    assert (base + slot.offset, slot.size) == (8 + 2 * 16 + 8, 8)
    slot, base = locate(x86.CPU_XSAVE, "extended[5]", 700)
    assert (base + slot.offset, slot.size) == (x86.CPU_XSAVE.size + 5, 1)
    slot, base = locate(x86.CPU_XSAVE, "extended[5:+40]", 700)
    assert (base + slot.offset, slot.size, slot.is_bytes) == (x86.CPU_XSAVE.size + 5, 40, True)
    slot, base = locate(x86.CPU, "fpu_regs[0x20:+16]", 1032)
    assert (base + slot.offset, slot.size, slot.is_bytes) == (0x20, 16, True)
    with pytest.raises(UsageError, match="beyond the 512 bytes"):
        locate(x86.CPU, "fpu_regs[0x1ff:+3]", 1032)


@given(st.lists(st.text(max_size=8) | st.integers(0, 10**9 - 1), max_size=5))
def test_steps_are_read_as_they_are_written(steps: list[str | int]) -> None:
    text = "".join(map(step_text, steps))
    assert steps_of(text, "config") == steps


@pytest.mark.parametrize("rest", ["c_info", ".a..b", "[x]", '["a]', ".", "[-1]", '["\\x"]'])
def test_no_steps(rest: str) -> None:
    with pytest.raises(UsageError):
        steps_of(rest, f"config{rest}")


def test_windows() -> None:
    slot = window_of("CPU/0[0x10:+4]", 100)
    assert slot is not None and (slot.offset, slot.size, slot.is_bytes) == (16, 4, False)
    assert window_of("CPU/0.rip", 8) is None and without_window("A.b[1][0x2:+3]") == "A.b[1]"
    for path in ("x[0:+0]", "x[0:+101]", "x[100:+1]", "x[z:+1]"):
        with pytest.raises(UsageError):
            window_of(path, 100)


def test_patterns() -> None:
    assert is_pattern("CPU/*.rip") and is_pattern("CPU/0.r?p")
    assert not is_pattern('VMPORT.guestinfo["a*?"]') and not is_pattern("CPU/0.fpu_regs[0:+4]")
    fits = matcher("cpu.cr*")
    assert fits("CPU/0.cr0") and not fits("CPU/1.cr0") and not fits("CPU/0.rip")
    assert matcher("CPUID[7,*]")("CPUID[7,0].eax") and matcher("CPU/*")("CPU/1.cr0")
    assert matcher("CPU/?.cr0")("CPU/1.cr0") and matcher("CPUID[*].eax")("CPUID[0x7,0x0].eax")


def test_values_in_text() -> None:
    assert value_of("0x10", "CPU/0.rip") == 16 and value_of("-1", "CPU/0.rip") == -1
    assert value_of("msb", "PIT/0.channels[0].rw_mode") == 2
    assert bytes_of("00ff", "x") == b"\0\xff" and bytes_of('"a\\x00"', "x") == b"a\0"
    with pytest.raises(FieldError, match="'x' is not a number"):
        value_of("x", "CPU/0.rip")
    with pytest.raises(FieldError, match="neither hex digits nor text"):
        bytes_of("x", "CPU/0.fpu_regs")


def test_values_as_json() -> None:
    """Of the kind of what was there."""
    for text, before, value in (
        ("5", 1, 5), ("0x10", 1, 16), ("true", False, True), ("1.5", 0.5, 1.5), ("5", "a", "5"),
        ('"5"', "a", "5"), ("{}", None, {}), ("[1]", [], [1]),
    ):  # fmt: skip
        assert json_of(text, before, "config.x") == value
    for text, before in (("x", 1), ("0y", True), ("x", None), ('"', "a")):
        with pytest.raises(FieldError):
            json_of(text, before, "config.x")


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


@pytest.mark.parametrize(
    ("given", "yes", "no"),
    [
        (["tsc,TMR_VAL"], ["CPU/0.tsc", "CPU/3.tsc", "PMTIMER/0.tmr_val"],
         ["CPU/0.rip", "TSC_ADJUST/0.tsc_adjust", "X86_TSC_INFO.tsc_mode", "tail"]),
        (["tail", "lapic_regs"],
         ["tail", "tail[0x0:+4]", "LAPIC_REGS/7", "LAPIC_REGS/0.data[1:+2]"], ["LAPIC/0"]),
        (["cpu/1.*", "TSC_ADJUST.tsc_adjust"], ["CPU/1.rip", "TSC_ADJUST/0.tsc_adjust"],
         ["CPU/0.rip", "CPU/1", "TSC_ADJUST/1.tsc_adjust"]),
        (["CPUID[7,0].ebx,config.c_info"], ["CPUID[7,0].ebx", "config.c_info.name"],
         ["CPUID[7,1].ebx", "config.b_info"]),
        (['VMPORT.guestinfo["a,b"],ip'], ['VMPORT/0.guestinfo["a,b"]'],
         ['VMPORT/0.guestinfo["a"]', 'VMPORT/0.guestinfo["ip"]']),
        (["pfn,EMULATOR_CONTEXT.timer"], ["pfn[0x1:+0x2]", "EMULATOR_CONTEXT/0.timer[0x3:+5]"],
         ["EMULATOR_CONTEXT/0.cpu"]),
        ([",", ""], [], ["CPU/0.rip"]),
    ],
)  # fmt: skip
def test_names_of_what_is_left_out(given: list[str], yes: list[str], no: list[str]) -> None:
    named = naming(given)
    assert [path for path in (*yes, *no) if named(path)] == yes
