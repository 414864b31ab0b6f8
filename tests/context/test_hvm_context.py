from __future__ import annotations

import copy
import pickle
import struct
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hvmctx.abi import x86
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.errors import LimitError, MissingRecordError, TruncatedError, UsageError
from hvmctx.json_form.document import dumps_json, loads_json
from hvmctx.limits import Limits
from tests.builders.contexts import any_contexts
from tests.builders.samples import CONTEXTS, context_bytes


@given(st.binary(max_size=200) | any_contexts)
@example(b"")
@example(struct.pack("<HHI", 0, 7, 4) + b"body" + b"after")
@example(struct.pack("<HHI", 99, 5, 0xFFFFFFF0) + b"abc")
def test_any_bytes_round_trip(data: bytes) -> None:
    context = HvmContext.from_bytes(data, damaged=True)
    assert context.to_bytes() == data
    assert context.size + len(context.tail) == len(data)
    for vcpu in context.vcpus:
        for record in vcpu.records():
            record.fields()
            bytes(record.struct)
    assert context.to_bytes() == data


@pytest.mark.parametrize("path", CONTEXTS, ids=lambda path: "/".join(path.parts[-3:]))
def test_samples_round_trip(path: Path) -> None:
    data = path.read_bytes()
    context = HvmContext.from_bytes(data, damaged=True)
    assert context.to_bytes() == data
    for record in context.entries:
        if record.type is not None:
            bytes(record.struct)
    assert context.to_bytes() == data


def test_records_are_the_same_however_they_are_reached() -> None:
    context = HvmContext.from_bytes(context_bytes())
    context.vcpus[0].cpu.rip = 5
    assert context.records(x86.CPU)[0] is context.record(x86.CPU)
    assert context.records(x86.CPU)[0].struct.rip == 5
    assert context[1].fields()["rip"] == 5
    context.entries = context.entries[:2]
    assert len(HvmContext.from_bytes(context.to_bytes(), damaged=True).entries) == 2


def test_typed_access() -> None:
    context = HvmContext.from_bytes(context_bytes())
    (vcpu,) = context.vcpus
    assert context.vcpus.ids == [vcpu.id] == [0]
    assert vcpu.cpu.rip == context.record(x86.CPU, 0).fields()["rip"]
    assert vcpu.cpu.cr0 & 1 == 0, "SeaBIOS waits in real mode"
    assert vcpu.lapic.apic_base_msr == 0xFEE00900
    assert [r.instance for r in context.records(x86.LAPIC_REGS)] == [0]
    assert [r.name for r in vcpu.records()] == [
        "CPU", "LAPIC", "LAPIC_REGS", "MTRR", "VMCE_VCPU", "TSC_ADJUST",
    ]  # fmt: skip
    assert context.header.magic == x86.HVM_FILE_MAGIC
    assert len(context.records(x86.PIC)) == 2
    assert context.records(3, instance=1)[0].struct.is_master == 0
    assert repr(vcpu) == "<vcpu 0>"
    assert repr(context) == "<HvmContext: 18 records, vcpus 0>"


def test_missing_records() -> None:
    context = HvmContext.from_bytes(context_bytes())
    with pytest.raises(MissingRecordError, match="no VIRIDIAN_DOMAIN/0"):
        context.record(x86.VIRIDIAN_DOMAIN)
    assert not hasattr(context, "viridian_domain")
    assert not hasattr(context.vcpus[0], "cpu_xsave")
    for name in ("no_such_record", "RTC", "_rtc"):
        with pytest.raises(AttributeError, match=name):
            getattr(context, name)
    with pytest.raises(AttributeError, match=r"context.vcpus\[n\].cpu"):
        _ = context.cpu  # type: ignore[attr-defined]
    with pytest.raises(MissingRecordError, match="no type 77/1"):
        context.record(77, 1)


def test_the_last_of_repeated_records_counts() -> None:
    context = HvmContext([Record(x86.TSC_ADJUST, 0, bytes([n]) + bytes(7)) for n in (1, 2, 3)])
    assert context.vcpus[0].tsc_adjust.tsc_adjust == 3


def test_changes_through_the_structures_are_written() -> None:
    data = context_bytes()
    context = HvmContext.from_bytes(data)
    context.vcpus[0].cpu.rip = 0x1234
    changed = context.to_bytes()
    offset = 32 + 8 + 640
    assert changed == data[:offset] + (0x1234).to_bytes(8, "little") + data[offset + 8 :]


def test_records_may_be_added_and_dropped() -> None:
    context = HvmContext.from_bytes(context_bytes())
    context.entries.insert(-1, Record(x86.TSC_ADJUST, 1, (5).to_bytes(8, "little")))
    del context.entries[1]
    again = HvmContext.from_bytes(context.to_bytes())
    assert again.vcpus[1].tsc_adjust.tsc_adjust == 5
    assert not again.records(x86.CPU)


def test_parsing_does_not_copy() -> None:
    data = bytearray(context_bytes())
    record = HvmContext.from_bytes(data, damaged=True).record(x86.TSC_ADJUST)
    data[record.offset + 8 : record.offset + 16] = b"\1" * 8  # type: ignore[operator]
    assert bytes(record.body) == b"\1" * 8


@pytest.mark.parametrize("first", range(0, 4112, 257))
def test_every_truncation(first: int) -> None:
    for cut in range(first, first + 257):
        data = context_bytes()[:cut]
        context = HvmContext.from_bytes(data, damaged=True)
        assert context.to_bytes() == data
        damage = context.damage
        assert isinstance(damage, TruncatedError), cut
        assert damage.layer == "context"
        assert 0 <= damage.offset <= cut
        assert damage.found and damage.expected
        assert str(damage).count("\n") == 0
        if len(context.tail):
            with pytest.raises(TruncatedError):
                HvmContext.from_bytes(data)
        else:
            assert "no END record" in str(damage) or "empty" in str(damage), cut
            assert not HvmContext.from_bytes(data).has_end


@pytest.mark.parametrize("length", [1, 0x7FFFFFFF, 0xFFFFFFF8, 0xFFFFFFFF])
def test_lengths_beyond_the_end(length: int) -> None:
    data = struct.pack("<HHI", 2, 1, length)
    context = HvmContext.from_bytes(data, damaged=True)
    assert context.cut_descriptor is not None
    cut = context.cut_descriptor
    assert (cut.typecode, cut.instance, cut.length, cut.offset) == (2, 1, length, 0)
    assert str(context.damage) == (
        f"context: offset 0x8: entry 0, CPU/1: the body is cut off: "
        f"found 0 bytes, expected {length}"
    )


def test_end_with_instance_body_and_more_behind() -> None:
    data = struct.pack("<HHI", 0, 7, 4) + b"body" + b"after"
    context = HvmContext.from_bytes(data)
    assert context.has_end and context.damage is None
    assert (bytes(context.entries[0].body), bytes(context.tail)) == (b"body", b"after")


def test_buffers_of_any_shape() -> None:
    data = context_bytes()
    wide = memoryview(bytearray(data)).cast("I")
    assert HvmContext.from_bytes(wide, damaged=True).to_bytes() == data
    reversed_view = memoryview(data[::-1])[::-1]
    assert HvmContext.from_bytes(reversed_view, damaged=True).to_bytes() == data


@pytest.mark.parametrize("length", [0, 1, 0x7FFFFFFF, 0xFFFFFFF8, 0xFFFFFFFF])
def test_every_length_field(length: int) -> None:
    data = context_bytes()
    for record in HvmContext.from_bytes(data, damaged=True).entries:
        assert record.offset is not None
        at = record.offset + 4
        lying = data[:at] + struct.pack("<I", length) + data[at + 4 :]
        context = HvmContext.from_bytes(lying, damaged=True)
        assert context.to_bytes() == lying
        for found in context.entries:
            if found.type is not None:
                found.fields()
        if length > len(data) and record.typecode:
            assert context.damage is not None
            assert context.damage.offset == record.offset + 8


@pytest.mark.parametrize("length", [1, 5, 0xFFFFFFFF])
def test_an_end_is_one_whatever_its_length(length: int) -> None:
    """Xen does not look at it, and neither does xen-hvmctx."""
    for behind in (b"", b"abc"):
        data = context_bytes()[:-8] + struct.pack("<HHI", 0, 0, length) + behind
        context = HvmContext.from_bytes(data)
        assert context.has_end and context.damage is None
        assert context.entries[-1].length == length
        assert bytes(context.entries[-1].body) + bytes(context.tail) == behind
        assert context.to_bytes() == data
        assert loads_json(dumps_json(context)) == data


def test_each_record_has_its_place() -> None:
    context = HvmContext.from_bytes(context_bytes())
    with pytest.raises(AttributeError, match=r"ioapic belongs to the domain: context\.ioapic"):
        _ = context.vcpus[0].ioapic  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"cpu belongs to a vcpu: context\.vcpus\[n\]\.cpu"):
        _ = context.cpu  # type: ignore[attr-defined]
    for thing, name in ((context, "rtc"), (context.vcpus[0], "cpu"), (context.vcpus[0], "rip")):
        with pytest.raises(AttributeError):
            setattr(thing, name, 7)


def test_records_however_their_type_is_named() -> None:
    context = HvmContext.from_bytes(context_bytes())
    for what in (2, x86.CPU, "cpu", x86.hvm_hw_cpu):
        assert context.records(what) == [context.record(what)]
    with pytest.raises(UsageError, match="unknown record type 'cpus'"):
        context.records("cpus")


@pytest.mark.parametrize("touch_entries", [True, False])
def test_look_ups_follow_what_is_changed(touch_entries: bool) -> None:
    context = HvmContext.from_bytes(context_bytes())
    if touch_entries:
        assert context.entries
    context.record(x86.CPU).instance = 9
    assert context.record(x86.CPU, 9).instance == 9
    with pytest.raises(MissingRecordError):
        context.record(x86.CPU, 0)
    assert context.vcpus.ids == [0, 9]  # the other records stay vcpu 0's


def test_views_of_other_shapes() -> None:
    data = context_bytes()
    assert len(data) % 8 == 0
    for view in (memoryview(data).cast("B", [len(data) // 8, 8]), memoryview(data).cast("Q")):
        assert HvmContext.from_bytes(view).to_bytes() == data


def test_adding_records() -> None:
    context = HvmContext.from_bytes(context_bytes())
    context.add(Record(x86.CPU, 1, bytes(1032)))
    context.add(Record(x86.CPU_MSR, 0, bytes(8)))
    names = [(record.name, record.instance) for record in context.entries]
    assert names[:4] == [("HEADER", 0), ("CPU", 0), ("CPU", 1), ("PIC", 0)]
    assert names[-2:] == [("CPU_MSR", 0), ("END", 0)]
    assert HvmContext.from_bytes(context.to_bytes()).vcpus[0].cpu_msr.count == 0
    later = Record(x86.TSC_ADJUST, 0, bytes(8))
    context.add(later)
    assert context.records(x86.TSC_ADJUST)[1:] == [later] == [context["TSC_ADJUST"]], "the last"
    empty = HvmContext()
    empty.add(Record(x86.END, 0))
    empty.add(Record(x86.HEADER, 0, bytes(24)))
    assert [record.name for record in empty.entries] == ["HEADER", "END"]


def test_an_empty_variable_part_is_there() -> None:
    context = HvmContext([Record(x86.CPU_XSAVE, 0, bytes(600)), Record(x86.CPU_MSR, 0, bytes(8))])
    assert len(context.vcpus[0].cpu_xsave.extended) == len(context.vcpus[0].cpu_msr.msr) == 0


def test_copies() -> None:
    for data in (context_bytes(), context_bytes()[:-9]):
        context = HvmContext.from_bytes(data, damaged=True)
        context.rtc.rtc_offset = 5
        for again in (copy.deepcopy(context), pickle.loads(pickle.dumps(context))):
            assert again.to_bytes() == context.to_bytes() != data
            assert str(again.damage) == str(context.damage)


def two_vcpus() -> HvmContext:
    context = HvmContext.from_bytes(context_bytes())
    context.add(Record(x86.TSC_ADJUST, 7, bytes(8)))
    return context


def test_vcpus() -> None:
    vcpus = two_vcpus().vcpus
    assert [vcpu.id for vcpu in vcpus] == vcpus.ids == [0, 7]
    assert len(vcpus) == 2 and 7 in vcpus and 1 not in vcpus and "cpu" not in vcpus
    assert vcpus[7].id == 7 and vcpus[7].tsc_adjust.tsc_adjust == 0
    assert repr(vcpus) == "<vcpus 0, 7>"
    assert {"cpu", "lapic", "id", "records"} <= set(dir(vcpus[0]))
    assert "tsc_adjust" in dir(vcpus[7]) and "cpu" not in dir(vcpus[7])
    for error in (KeyError, LookupError, MissingRecordError):
        with pytest.raises(error) as caught:
            _ = vcpus[1]
        assert str(caught.value) == "the context has no vcpu 1; it has 0, 7"
    with pytest.raises(MissingRecordError, match="no CPU/7 record"):
        _ = vcpus[7].cpu
    many = HvmContext(Record(x86.TSC_ADJUST, 3 * n, bytes(8)) for n in range(500))
    assert repr(many.vcpus) == "<vcpus 0, 3, 6, 9, 12, 15, 18, 21 and 492 more>"
    few = HvmContext(Record(x86.TSC_ADJUST, n, bytes(8)) for n in range(8))
    assert repr(few.vcpus) == "<vcpus 0, 1, 2, 3, 4, 5, 6, 7>"
    assert repr(HvmContext().vcpus) == "<vcpus none>"


def test_a_context_is_a_collection_of_records() -> None:
    context = two_vcpus()
    assert list(context) == context.entries and len(context) == 19
    assert context[0] is context["HEADER"] is context["header", 0] is context[x86.HEADER]
    assert context[-1].name == "END" and context["PIC", 1].instance == 1
    assert context["TSC_ADJUST", 7] is context.record("TSC_ADJUST", 7)
    assert "IOAPIC" in context and ("CPU", 0) in context and context[3] in context
    assert ("CPU", 1) not in context and x86.CPU_XSAVE not in context
    assert Record(x86.CPU, 0) not in context
    for missing, named in (
        (19, "record 19; it has 19, counted from 0"),
        (-20, "record -20; it has 19, counted from 0"),
        (("CPU", 1), "CPU/1 record"),
        ("CPU_XSAVE", "CPU_XSAVE/0 record"),
        (77, "record 77; it has 19, counted from 0"),
    ):
        with pytest.raises(KeyError) as caught:
            _ = context[missing]
        assert str(caught.value) == f"the context has no {named}"
    with pytest.raises(UsageError, match="unknown record type 'CPUS'"):
        _ = context["CPUS", 0]
    assert {"rtc", "ioapic", "header", "vcpus"} <= set(dir(context))
    assert not {"cpu", "viridian_domain"} & set(dir(context))
    assert all(hasattr(context, name) for name in dir(context))


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (0, "offset 0x0: entry 0: the context is empty: found 0 bytes, expected a descriptor of 8"),
        (35, "offset 0x20: entry 1: the descriptor is cut off: found 3 bytes, expected a descriptor of 8"),
        (40, "offset 0x28: entry 1, CPU/0: the body is cut off: found 0 bytes, expected 1032"),
        (-9, "offset 0x1000: entry 16, TSC_ADJUST/0: the body is cut off: found 7 bytes, expected 8"),
        (-8, "offset 0x1008: entry 17: there is no END record: found the end of the context, expected a descriptor of 8"),
        (-3, "offset 0x1008: entry 17: the descriptor is cut off: found 5 bytes, expected a descriptor of 8"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_context_in_words(end: int, said: str) -> None:
    damage = HvmContext.from_bytes(context_bytes()[:end], damaged=True).damage
    assert str(damage) == f"context: {said}"


def test_more_records_than_are_taken() -> None:
    data = context_bytes()
    assert len(HvmContext.from_bytes(data, limits=Limits(context_records=18))) == 18
    with pytest.raises(LimitError) as caught:
        HvmContext.from_bytes(data, damaged=True, limits=Limits(context_records=17))
    assert str(caught.value) == (
        "context: offset 0x1008: more than 17 records: --limits context_records=N allows more"
    )
    assert len(HvmContext.from_bytes(data[:-8], limits=Limits(context_records=17))) == 17


def test_a_damaged_context_says_so() -> None:
    cut = HvmContext.from_bytes(context_bytes()[:-9], damaged=True)
    assert repr(cut) == "<HvmContext: 16 records, vcpus 0, damaged>"


def test_a_copy_is_a_context_of_its_own() -> None:
    data = context_bytes()
    for buffer in (data, data[:-9], data + b"tail", b"", data[:900]):
        context = HvmContext.from_bytes(buffer, damaged=True)
        other = context.copy()
        assert other.to_bytes() == buffer and other.damage is context.damage
        assert other.cut_descriptor is context.cut_descriptor
    context = HvmContext.from_bytes(data, damaged=True)
    other = context.copy()
    other.vcpus[0].cpu.rip = 1
    other.entries.pop()
    assert context.to_bytes() == data and context.vcpus[0].cpu.rip != 1


@pytest.mark.parametrize("key", [None, ("CPU", 0, 0), ("CPU",), ()])
def test_what_names_no_record(key: object) -> None:
    context = HvmContext.from_bytes(context_bytes())
    with pytest.raises(UsageError):
        _ = key in context  # type: ignore[operator]
    with pytest.raises(UsageError):
        _ = context[key]  # type: ignore[call-overload]


def test_a_copy_has_as_many_records_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    context = HvmContext(Record(99, number) for number in range(5))
    monkeypatch.setattr(Limits, "context_records", 3)
    assert copy.deepcopy(context).to_bytes() == context.to_bytes()


def test_records_of_any_type() -> None:
    context = two_vcpus()
    assert context.records() == context.entries and HvmContext().to_bytes() == b""
    assert {record.instance for record in context.records(instance=7)} == {7}


@given(st.permutations([(2, 0), (2, 5), (2, 6), (3, 0), (3, 1), (9, 2)]))
def test_records_are_added_in_order(keys: list[tuple[int, int]]) -> None:
    context = HvmContext([Record("END", 0)])
    for typecode, number in keys:
        context.add(Record(typecode, number))
    found = [(record.typecode, record.instance) for record in context.entries]
    assert found == [*sorted(keys), (x86.END.typecode, 0)]


def test_hidden_names_are_no_records() -> None:
    for name in ("_cpu", "CPU", "_repr_html_"):
        with pytest.raises(AttributeError, match=f"^{name}$"):
            getattr(two_vcpus(), name)
