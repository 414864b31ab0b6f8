from __future__ import annotations

import json
import random
from collections.abc import Iterator
from ctypes import c_uint32, c_uint64, sizeof
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from hvmctx.abi import x86
from hvmctx.abi.declare import VCPU, RecordType, SaveStructure, declare, declared
from hvmctx.abi.registry import record_types
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.errors import FieldError
from hvmctx.fuzz.contexts import any_record, mutate_context
from hvmctx.json_form import schema
from hvmctx.json_form.document import dumps_json, loads_json
from tests.builders.running import Run
from tests.builders.samples import context_bytes


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


class hvm_hw_example(SaveStructure):
    _fields_ = [("first", c_uint32), ("_pad", c_uint32), ("second", c_uint64)]  # noqa: RUF012


@pytest.fixture
def example() -> Iterator[RecordType]:
    yield declare("EXAMPLE", 22, hvm_hw_example, VCPU)
    del declared[22]


def test_a_record_that_is_declared_is_everywhere(
    example: RecordType, run: Run, tmp_path: Path
) -> None:
    """As no number of types is written down anywhere."""
    path, other = tmp_path / "one", tmp_path / "other"
    body = bytes(range(16))
    context = HvmContext.from_bytes(context_bytes())
    context.entries.insert(-1, Record(example, 0, body))
    path.write_bytes(context.to_bytes())
    assert context.vcpus[0].example.second == 0x0F0E0D0C0B0A0908  # type: ignore[attr-defined]

    only = ("--record", "EXAMPLE")
    assert "second 0xf0e0d0c0b0a0908\n" in run("dump", path, "--all", *only).out
    assert "  22  EXAMPLE         0      16" in run("dump", path, "--format", "table", *only).out
    shown = json.loads(run("dump", path, "--format", "json", *only).out)
    assert shown["context"]["records"][0]["fields"]["first"] == 0x03020100
    assert run("get", path, "EXAMPLE/0.first").out == "0x3020100\n"
    assert run("set", path, "EXAMPLE/0.first=5", "-o", other).status == 0
    assert run("diff", path, other).out == "EXAMPLE/0.first: 0x3020100 -> 0x5\n"

    document = schema.schema()
    validator = Draft202012Validator(document)
    assert "EXAMPLE" in document["$defs"] and validator.is_valid(shown)
    shown["context"]["records"][0]["fields"]["first"] = "five"
    assert not validator.is_valid(shown)
    assert loads_json(dumps_json(path)) == path.read_bytes()

    rng = random.Random(1)
    told = [mutate_context(path.read_bytes(), rng)[1] for _ in range(300)]
    assert any(what.startswith("EXAMPLE") for what in told)
    assert any_record(rng, example).typecode == 22
