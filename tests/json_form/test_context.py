from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hvmctx.abi import x86
from hvmctx.abi.registry import record_types
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.errors import FieldError
from hvmctx.json_form.context import context_to_plain, record_to_plain
from hvmctx.json_form.document import Document
from hvmctx.json_form.models import ContextModel, RecordModel
from tests.builders.contexts import any_contexts
from tests.builders.samples import CONTEXTS, context_bytes

bodies = st.sampled_from([k for k in record_types() if k.size]).flatmap(
    lambda known: st.tuples(st.just(known), st.binary(max_size=known.size + 50))
)


def context_from_plain(plain: Any) -> HvmContext:
    return ContextModel.from_dict(plain).to_context()


def record_from_plain(plain: Any) -> Record:
    return RecordModel.from_dict(plain).to_record()


def there_and_back(data: bytes) -> bytes:
    context = HvmContext.from_bytes(data, damaged=True)
    document = Document(context=ContextModel.of(context))
    assert Document.from_text(document.to_text(hex_wide=True)).to_bytes() == data
    return context_from_plain(json.loads(json.dumps(context_to_plain(context)))).to_bytes()


@given(st.binary(max_size=200) | any_contexts)
@example(b"")
def test_any_bytes(data: bytes) -> None:
    assert there_and_back(data) == data


@pytest.mark.parametrize("path", CONTEXTS, ids=lambda path: "/".join(path.parts[-3:]))
def test_samples(path: Path) -> None:
    data = path.read_bytes()
    assert there_and_back(data) == data


@given(bodies)
def test_records_of_any_length(case: tuple[Any, bytes]) -> None:
    known, body = case
    plain = json.loads(json.dumps(record_to_plain(Record(known, 3, body))))
    assert record_from_plain(plain).to_bytes() == Record(known, 3, body).to_bytes()


@pytest.mark.parametrize("length", [0, 1000, 1016, 1024, 1028, 1031, 1032, 1040])
def test_cpu_records_of_all_releases(length: int) -> None:
    body = bytes((3 * i + 1) % 256 for i in range(length))
    plain = record_to_plain(Record(x86.CPU, 0, body))
    assert bytes(record_from_plain(plain).body) == body
    assert ("fields" in plain) == (length not in (1028, 1031)), "flags would be lost"


def test_form() -> None:
    plain = context_to_plain(HvmContext.from_bytes(context_bytes()))
    first, cpu = plain["records"][:2]
    assert first == {
        "name": "HEADER", "typecode": 1, "instance": 0, "length": 24, "offset": 0,
        "fields": {
            "magic": x86.HVM_FILE_MAGIC, "version": 1, "changeset": (1 << 64) - 1,
            "cpuid": 0x60FB1, "gtsc_khz": first["fields"]["gtsc_khz"],
        },
    }  # fmt: skip
    assert len(cpu["fields"]["fpu_regs"]) == 1024
    assert plain["tail"] == "" and plain["damage"] is None


def deep(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_fields_may_be_edited_and_left_out() -> None:
    record = record_from_plain(
        {"name": "TSC_ADJUST", "instance": 1, "fields": {"tsc_adjust": "0x10"}}
    )
    assert (record.typecode, record.instance, record.struct.tsc_adjust) == (19, 1, 16)
    plain = {"name": "CPU_MSR", "fields": {"count": 1, "msr": [{"index": 0x48, "val": 5}]}}
    assert record_from_plain(plain).length == 24
    assert record_from_plain({"typecode": 77, "body": "0102"}).to_bytes()[8:] == b"\1\2"


def test_typecode_or_name() -> None:
    fields = {"tsc_adjust": 1}
    for plain in (
        {"typecode": 19, "fields": fields},
        {"name": "tsc_adjust", "fields": fields},
        {"typecode": 19, "name": "TSC_ADJUST", "fields": fields},
        {"typecode": 19, "name": "type 19", "fields": fields},
    ):
        assert record_from_plain(plain).to_bytes() == Record(19, 0, b"\1" + bytes(7)).to_bytes()


def test_what_may_be_left_out() -> None:
    """What is only told, what is null, reserved fields, and those beyond a given length."""
    (whole,) = (r for r in HvmContext.from_bytes(context_bytes()).entries if r.name == "CPU")
    plain = record_to_plain(whole)
    for key in ("name", "length", "offset"):
        assert record_from_plain({**plain, key: None}).to_bytes() == whole.to_bytes()
        plain.pop(key)
        assert record_from_plain(plain).to_bytes() == whole.to_bytes()
    msr = {"name": "CPU_MSR", "fields": {"count": 0, "msr": [{"index": 1, "val": 2}]}}
    assert bytes(record_from_plain(msr).body) == bytes(8) + b"\1" + bytes(7) + b"\2" + bytes(7)
    cut = record_to_plain(Record(x86.MTRR, 0, bytes(range(16))))
    assert cut["length"] == 16
    few = {name: cut["fields"][name] for name in ("msr_pat_cr", "msr_mtrr_var")}
    made = record_from_plain({"name": "MTRR", "length": 16, "fields": few})
    assert bytes(made.body) == bytes(range(16))
    assert record_from_plain({"name": "END"}).to_bytes() == bytes(8)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda cpu: cpu.update(feilds=cpu.pop("fields")),
            "unknown key 'feilds'; expected name, typecode, instance, ",
        ),
        (lambda cpu: cpu.pop("fields"), "found neither fields nor body"),
        (lambda cpu: cpu.update(fields=None), "found neither fields nor body"),
        (lambda cpu: cpu.update(body="00"), "found both fields and body, expected one of them"),
        (lambda cpu: cpu["fields"].pop("rip"), "rip is missing"),
        (
            lambda cpu: cpu["fields"].update(ripp=1),
            "unknown key 'ripp'; expected one of 81 such as rip, ",
        ),
        (
            lambda cpu: cpu["fields"].update({"\n" * 99: 1}),
            r"unknown key '(\\n)+\\?\.\.\.; expected one of 81",
        ),
        (
            lambda cpu: cpu["fields"].update(pending_type=1),
            "unknown key 'pending_type'; expected one of 81 such as pending_e",
        ),
        (lambda cpu: cpu["fields"].update(rip="zz"), "rip: found 'zz', expected a number"),
        (lambda cpu: cpu["fields"].update(rip=1.0), "rip: found 1.0, expected a number"),
        (lambda cpu: cpu["fields"].update(rip=None), "rip: found null, expected a number"),
        (lambda cpu: cpu["fields"].update(rip=False), "rip: found false, expected a number"),
        (lambda cpu: cpu["fields"].update(rip={}), "rip: found an object, expected a number"),
        (lambda cpu: cpu["fields"].update(rip=-1), "rip is a 64-bit field: -1 does not fit"),
        (lambda cpu: cpu["fields"].update(rip="0x" + "f" * 9999), r"0xf+\.\.\. does not fit"),
        (lambda cpu: cpu["fields"].update(rip=deep(100)), "rip: found a list of 1, expected a"),
        (lambda cpu: cpu["fields"].update(fpu_regs=[deep(9)]), "fpu_regs: found a list of 1, exp"),
        (lambda cpu: cpu["fields"].update(fpu_regs="00"), "fpu_regs: found 1 bytes, expected 512"),
        (lambda cpu: cpu["fields"].update(fpu_regs="x" * 9999), "fpu_regs: found 'x{39}"),
        (lambda cpu: cpu.update(length=1040), "length 1040 does not match 1032 bytes of fields;"),
        (lambda cpu: cpu.update(length=100), "is beyond the record's 100 bytes"),
        (lambda cpu: cpu.update(length="1032"), "length: found '1032', expected a number"),
        (lambda cpu: cpu.update(rest=5), "rest: found 5, expected a string of hex digits"),
        (lambda cpu: cpu.update(name=5), "name: found 5, expected a string"),
        (lambda cpu: cpu.update(instance=None), "instance: found null, expected a number"),
        (lambda cpu: cpu.update(instance=1.9), "instance: found 1.9, expected a number"),
    ],
)
def test_a_spoilt_record_says_where(change: Callable[[Any], None], reason: str) -> None:
    plain = context_to_plain(HvmContext.from_bytes(context_bytes()))
    change(plain["records"][1])
    with pytest.raises(
        FieldError, match=rf"^records\[1\] (CPU|type 2)(/[^:]*)?: .*{reason}"
    ) as caught:
        context_from_plain(plain)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        ({}, "found neither typecode nor name"),
        ({"name": "NOPE"}, "unknown record type 'NOPE'"),
        ({"name": "PIC", "typecode": 2}, "name 'PIC' does not match typecode 2; leave it out"),
        ({"name": "PIC", "typecode": 99}, "name 'PIC' does not match typecode 99"),
        ({"name": "NOPE", "typecode": 2}, "unknown record type 'NOPE'"),
        ({"typecode": 1 << 16}, "typecode is a 16-bit field"),
        ({"typecode": True}, "found true, expected a number"),
        ({"typecode": 1.5}, "found 1.5, expected a number"),
        ({"typecode": f"0x{'f' * 5000}"}, r"typecode: found '0xf+\.\.\., expected a number"),
        ({"typecode": "9" * 5000}, r"found '9+\.\.\., expected a number"),
        ({"typecode": 19, "body": "", "length": 16**5000}, "length is a 32-bit field"),
        ({"typecode": 19, "fields": {"tsc_adjust": f"0x{'f' * 5000}"}}, "64-bit field"),
        (
            {"typecode": 19, "fields": {"tsc_adjust": "9" * 5000}},
            r"found '9+\.\.\., expected a number",
        ),
        ({"typecode": "x"}, "found 'x', expected a number"),
        ({"typecode": 19, "instance": -1}, "instance is a 16-bit field"),
        ({"typecode": 19, "fields": 5}, "fields: found 5, expected an object"),
        ({"typecode": 19, "fields": {}}, "tsc_adjust is missing"),
        ({"typecode": 19, "fields": {"tsc_adjust": 1 << 64}}, "64-bit field"),
        ({"typecode": 19, "fields": {"tsc_adjust": 1}, "length": 9}, "9 does not match 8"),
        ({"typecode": 19, "fields": {"tsc_adjust": 1}, "rest": "0x"}, "rest: found '0x'"),
        (
            {"typecode": 19, "body": "00", "rest": "00"},
            "found both rest and body, expected one of them",
        ),
        ({"typecode": 19, "body": "00", "length": 8}, "length 8 .* 1 bytes of body; leave it out"),
        (
            {"typecode": 20, "fields": {"msr": [{"index": 1, "bogus": 2}]}},
            r"msr\[0\]: unknown key 'bogus'; expected index, ",
        ),
        ({"typecode": 20, "fields": {"msr": [{"index": 1}]}}, r"msr\[0\].val is missing"),
        ({"typecode": 20, "fields": {"msr": {}}}, "msr: found an object, expected a list"),
        ({"typecode": 20, "fields": {"count": 0}}, "msr is missing"),
        ({"typecode": 99, "body": 5}, "body: found 5"),
        ({"typecode": 99}, "body is missing"),
        ({"typecode": 99, "fields": {"x": 1}}, "fields in a record that has none"),
        ({"typecode": 0, "fields": {}}, "fields in a record that has none"),
        ({"typecode": 0, "body": "00", "length": 0}, "length 0 does not match 1 bytes"),
        (5, "found 5, expected an object"),
    ],
)
def test_what_is_no_record(plain: Any, reason: str) -> None:
    with pytest.raises(FieldError, match=rf"^records\[0\][^:]*: .*{reason}"):
        context_from_plain({"records": [plain]})


def test_signed_fields() -> None:
    (rtc,) = (r for r in HvmContext.from_bytes(context_bytes()).entries if r.name == "RTC")
    plain = record_to_plain(rtc)
    plain["fields"]["rtc_offset"] = "-0x1"
    assert record_from_plain(plain).struct.rtc_offset == -1
    plain["fields"]["rtc_offset"] = 1 << 63
    with pytest.raises(FieldError, match="rtc_offset is a signed 64-bit field"):
        record_from_plain(plain)


@pytest.mark.parametrize("depth", [5, 480, 900, 100_000])
def test_depth(depth: int) -> None:
    for value in (deep(depth), {"a": deep(depth)}):
        for plain in (
            {"records": value},
            {"records": [value]},
            {"records": [{"typecode": 19, "fields": value}]},
            {"records": [{"typecode": 19, "fields": {"tsc_adjust": value}}]},
            {"records": [{"typecode": 3, "fields": {"elcr": value}}]},
            {"records": [{"typecode": 20, "fields": {"msr": value}}]},
            {"records": [{"typecode": 99, "body": value}]},
        ):
            with pytest.raises(FieldError):
                context_from_plain(plain)


def test_what_is_no_context() -> None:
    empty: Any = {"records": []}
    wrong: list[Any] = [
        5, {}, {"records": None}, {"records": 5}, {"records": ""}, {"records": {}},
        {"records": [5]}, {**empty, "tail": "x"}, {**empty, "tail": 12}, {**empty, "tail": None},
        {**empty, "tial": ""},
    ]  # fmt: skip
    for plain in wrong:
        with pytest.raises(FieldError):
            context_from_plain(plain)
    assert context_from_plain({**empty, "damage": "what was found"}).to_bytes() == b""
