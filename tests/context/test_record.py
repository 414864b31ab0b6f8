from __future__ import annotations

import copy
import pickle
import struct
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import x86
from hvmctx.abi.declare import RecordType
from hvmctx.abi.registry import record_types
from hvmctx.context.record import Record, pack_descriptor
from hvmctx.errors import (
    FieldError,
    LengthError,
    TruncatedError,
    UnknownRecordError,
    UsageError,
)

TYPES = [known for known in record_types() if known.size]
lengths = st.sampled_from(TYPES).flatmap(
    lambda known: st.tuples(st.just(known), st.binary(max_size=known.size + 40))
)


def numbered(size: int) -> bytes:
    return bytes((3 * i + 1) % 256 for i in range(size))


@given(lengths)
def test_short_records_read_as_zeros_and_stay_short(case: tuple[RecordType, bytes]) -> None:
    known, body = case
    record = Record(known, 0, body)
    size = known.size
    if known is not x86.CPU:
        assert record.as_read() == body[:size].ljust(size, b"\0")
    assert record.fields() == known.layout.decode(record.as_read())
    bytes(record.struct)  # reading must not change anything
    assert record.to_bytes() == pack_descriptor(known.typecode, 0, len(body)) + body


@given(lengths, st.data())
def test_writing_to_the_structure_writes_to_the_record(
    case: tuple[RecordType, bytes], data: st.DataObject
) -> None:
    known, body = case
    slots = [known.layout.locate(path) for path in known.layout.paths()]
    slots = [s for s in slots if not s.is_bytes and "[" not in s.path and "." not in s.path]
    if not slots:
        return
    slot = data.draw(st.sampled_from(slots))
    record = Record(known, 0, body)
    before = bytes(record.struct)
    old = slot.get(before)
    setattr(record.struct, slot.path, ~old if slot.signed else ~old & (1 << slot.width) - 1)
    try:
        _ = record.body
    except FieldError as error:
        assert "is beyond the record's" in str(error) and len(body) < slot.offset + slot.size
        return
    after = bytes(record.body)
    assert len(after) == len(body)
    if known is x86.CPU and len(body) != x86.CPU.size:
        return  # the parts of old records move: see below
    end = slot.offset + slot.size
    assert after[: slot.offset] == body[: slot.offset]
    assert after[end:] == body[end:]
    if end <= len(body):
        assert slot.get(after) == slot.get(record.struct) != slot.get(before)


def test_cpu_record_of_before_3_4() -> None:
    """1016 bytes: tsc, pending_event and error_code move up past msr_tsc_aux, which is 0,
    and flags is 1 (Xen 4.7+, the compat fix-up of hvm_load_cpu_ctxt)."""
    body = numbered(1016)
    record = Record(x86.CPU, 0, body)
    fields = record.fields()
    assert fields["msr_efer"] == int.from_bytes(body[992:1000], "little")
    assert fields["msr_tsc_aux"] == 0
    assert fields["tsc"] == int.from_bytes(body[1000:1008], "little")
    assert fields["pending_event"] == int.from_bytes(body[1008:1012], "little")
    assert fields["error_code"] == int.from_bytes(body[1012:1016], "little")
    assert (fields["flags"], fields["pad0"]) == (1, 0)
    record.struct.tsc = 0x1122334455667788
    assert (
        bytes(record.body) == body[:1000] + (0x1122334455667788).to_bytes(8, "little") + body[1008:]
    )


@pytest.mark.parametrize("length", [0, 1000, 1015, 1017, 1024, 1027, 1028, 1031])
def test_cpu_records_of_other_lengths_have_their_fpu_initialised(length: int) -> None:
    fields = Record(x86.CPU, 0, numbered(length)).fields()
    assert fields["flags"] == 1
    expected = numbered(length).ljust(1032, b"\0")
    assert fields["rip"] == int.from_bytes(expected[640:648], "little")
    assert fields["pad0"] == int.from_bytes(expected[1028:], "little")


def test_cpu_record_of_4_7_is_taken_as_it_is() -> None:
    assert Record(x86.CPU, 0, bytes(1032)).fields()["flags"] == 0
    assert Record(x86.CPU, 0, bytes(1040)).fields()["flags"] == 0


def test_variable_part() -> None:
    body = struct.pack("<II", 2, 0) + struct.pack("<IIQIIQ", 0x48, 0, 5, 0xDA0, 0, 7) + b"x"
    record = Record(x86.CPU_MSR, 1, body)
    assert [(m.index, m.val) for m in record.struct.msr] == [(0x48, 5), (0xDA0, 7)]
    record.struct.msr[1].val = 9
    assert record.rest == body[8:32] + (9).to_bytes(8, "little") + b"x"


def test_unknown_type() -> None:
    record = Record(999, 3, b"abc")
    assert (record.name, record.type, record.length) == ("type 999", None, 3)
    for read in (lambda: record.struct, record.fields, record.as_read, lambda: record.rest):
        with pytest.raises(UnknownRecordError, match="type 999/3"):
            read()
    assert repr(record) == "<Record type 999/3, 3 bytes>"
    for offset, place in ((None, 0), (40, 40)):
        with pytest.raises(UnknownRecordError) as caught:
            Record(999, 3, b"abc", offset=offset).fields()
        said = f"context: offset {place:#x}: type 999/3: not a declared record type"
        assert str(caught.value) == said


def test_length_may_lie_on_purpose() -> None:
    record = Record(x86.PMTIMER, 0, bytes(8), length=0xFFFFFFF8)
    assert record.to_bytes() == struct.pack("<HHI", 13, 0, 0xFFFFFFF8) + bytes(8)


def test_replacing_the_body_drops_the_structure() -> None:
    record = Record(x86.TSC_ADJUST, 0, bytes(8))
    record.struct.tsc_adjust = 5
    record.body = b"\7" + bytes(7)
    assert record.struct.tsc_adjust == 7


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((1 << 16, 0, 0), "typecode is a 16-bit field: 65536 does not fit"),
        ((0, 1 << 16, 0), "instance is a 16-bit field: 65536 does not fit"),
        ((0, 0, 1 << 32), "length is a 32-bit field: 4294967296 does not fit"),
        ((-1, 0, 0), "typecode is a 16-bit field: -1 does not fit"),
    ],
)
def test_descriptors_that_cannot_be(numbers: tuple[int, int, int], said: str) -> None:
    with pytest.raises(FieldError) as caught:
        pack_descriptor(*numbers)
    assert str(caught.value) == said
    assert pack_descriptor(0xFFFF, 0xFFFF, 0xFFFFFFFF) == b"\xff" * 8


@pytest.mark.parametrize(
    ("known", "size", "field"),
    [(x86.LAPIC, 16, "tdt_msr"), (x86.CPU, 1024, "flags"), (x86.CPU, 1016, "msr_tsc_aux"),
     (x86.RTC, 16, "rtc_offset"), (x86.CPU, 1028, "flags")],
)  # fmt: skip
def test_what_a_short_record_cannot_hold_is_refused(
    known: RecordType, size: int, field: str
) -> None:
    record = Record(known, 0, bytes(size))
    setattr(record.struct, field, 5)
    with pytest.raises(FieldError, match=f"{field} is beyond the record's {size} bytes"):
        record.to_bytes()


@pytest.mark.parametrize("size", [1025, 1028, 1031])
def test_writing_to_an_odd_cpu_record_leaves_its_flags_alone(size: int) -> None:
    body = numbered(size)
    record = Record(x86.CPU, 0, body)
    record.struct.rax = 0x1122
    assert [at for at in range(size) if record.body[at] != body[at]][-1] < 520


@pytest.mark.parametrize("size", [1031, 1032, 1040])
def test_the_fields_follow_the_structure(size: int) -> None:
    """Also before anybody has asked for the body."""
    record = Record(x86.CPU, 0, bytes(size))
    record.struct.rax = 5
    assert record.fields()["rax"] == 5


def test_names_that_are_no_fields_are_refused() -> None:
    record = Record(x86.CPU, 0, bytes(1032))
    with pytest.raises(AttributeError, match="hvm_hw_cpu has no field 'rpi'"):
        record.struct.rpi = 5
    with pytest.raises(AttributeError):
        Record(x86.IOAPIC, 0, bytes(400)).struct.redirtbl[0].bit = 1
    with pytest.raises(AttributeError):
        Record(x86.CPU_MSR, 0, bytes(8 + 16)).struct.msrs = 1


@pytest.mark.parametrize("what", [2, x86.CPU, "cpu", "CPU", x86.hvm_hw_cpu])
def test_a_type_however_it_is_named(what: Any) -> None:
    assert Record(what, 0).typecode == 2


@pytest.mark.parametrize("what", ["XYZ", None, 2.0, int, x86.hvm_save_descriptor])
def test_what_is_no_type(what: Any) -> None:
    with pytest.raises(UsageError, match="record type"):
        Record(what, 0)


def test_bodies_of_other_shapes() -> None:
    words = memoryview(array("I", [1, 2]))
    assert Record(x86.TSC_ADJUST, 0, words).to_bytes() == struct.pack("<HHIII", 19, 0, 8, 1, 2)
    square = memoryview(bytes(range(16))).cast("B", [4, 4])
    record = Record(x86.TSC_ADJUST, 0)
    record.body = square
    assert bytes(record.body) == bytes(range(16)) and record.length == 16


@pytest.mark.parametrize(
    "remade", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))]
)
def test_copies(remade: Callable[[Record], Record]) -> None:
    record = Record(x86.CPU, 3, memoryview(numbered(1032)), offset=40, length=9)
    record.struct.rax = 77
    again = remade(record)
    assert (again.to_bytes(), again.offset, again.length) == (record.to_bytes(), 40, 9)
    again.struct.rax = 1
    assert record.struct.rax == 77


def test_from_bytes_is_the_inverse_of_to_bytes() -> None:
    for record in (Record(x86.PIC, 1, numbered(8)), Record(999, 3, b"abc"), Record(0, 0)):
        again = Record.from_bytes(record.to_bytes())
        assert again.to_bytes() == record.to_bytes()
        assert (again.typecode, again.instance) == (record.typecode, record.instance)
    whole = Record(x86.PIC, 1, numbered(8)).to_bytes()
    assert repr(Record.from_bytes(whole)) == "<Record PIC/1 at 0x0, 8 bytes>"
    for end in [*range(len(whole)), len(whole) + 1]:
        with pytest.raises(TruncatedError if end < len(whole) else LengthError) as caught:
            Record.from_bytes((whole + b"x")[:end])
        assert str(caught.value) == (
            f"context: offset 0x0: not the bytes of one record: found {end} bytes, expected "
            f"a descriptor of 8{'' if end < 8 else ' and a body of 8'}"
        )


def test_a_record_that_holds_the_whole_structure_takes_any() -> None:
    for known in (x86.CPU, x86.TSC_ADJUST):
        record = Record(known, 0, bytes(known.size))
        whole = numbered(known.size)
        assert record.rewritten(whole, b"rest") == whole + b"rest"
