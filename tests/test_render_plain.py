from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hvmctx.abi import x86
from hvmctx.abi.declare import record_types
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.errors import FieldError
from hvmctx.render.plain import (
    context_from_plain,
    context_to_plain,
    record_from_plain,
    record_to_plain,
    widened,
)
from tests.context_samples import streams
from tests.samples import CONTEXTS, context_bytes

bodies = st.sampled_from([k for k in record_types() if k.size]).flatmap(
    lambda known: st.tuples(st.just(known), st.binary(max_size=known.size + 50))
)


def there_and_back(data: bytes) -> bytes:
    plain = context_to_plain(HvmContext.parse(data))
    assert context_from_plain(json.loads(json.dumps(widened(plain)))).to_bytes() == data
    return context_from_plain(json.loads(json.dumps(plain))).to_bytes()


@given(st.binary(max_size=200) | streams)
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
    plain = context_to_plain(HvmContext.parse(context_bytes()))
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
    assert widened(first)["fields"]["changeset"] == "0xffffffffffffffff"
    assert widened({"a": True, "b": [1 << 32, "x"]}) == {"a": True, "b": ["0x100000000", "x"]}


def test_fields_may_be_edited_and_left_out() -> None:
    record = record_from_plain(
        {"name": "TSC_ADJUST", "instance": 1, "fields": {"tsc_adjust": "0x10"}}
    )
    assert (record.typecode, record.instance, record.struct.tsc_adjust) == (19, 1, 16)
    plain = {"name": "CPU_MSR", "fields": {"count": 1, "msr": [{"index": 0x48, "val": 5}]}}
    assert record_from_plain(plain).length == 24
    assert record_from_plain({"typecode": 77, "body": "0102"}).to_bytes()[8:] == b"\1\2"


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        ({}, "name: found NoneType"),
        ({"name": "NOPE"}, "no record type is called 'NOPE'"),
        ({"typecode": 1 << 16}, "typecode is a 16-bit field"),
        ({"typecode": f"0x{'f' * 5000}"}, r"16-bit field: 0xf{22}\.\.\. does not fit"),
        ({"typecode": "9" * 5000}, "found '9+.*, expected a number"),
        ({"typecode": 19, "fields": {}, "length": f"0x{'f' * 5000}"}, "32-bit field"),
        ({"typecode": 19, "fields": {"tsc_adjust": f"0x{'f' * 5000}"}}, "64-bit field"),
        ({"typecode": True}, "found True, expected a number"),
        ({"typecode": "x"}, "found 'x', expected a number"),
        ({"typecode": 19, "instance": -1}, "instance is a 16-bit field"),
        ({"typecode": 19, "fields": 5}, "fields: found int, expected dict"),
        ({"typecode": 19, "fields": {"tsc_adjust": 1 << 64}}, "64-bit field"),
        ({"typecode": 19, "fields": {"tsc_adjust": True}}, "found True"),
        ({"typecode": 19, "fields": {"tsc_adjust": "zz"}}, "hex digits"),
        ({"typecode": 19, "fields": {}, "length": 9}, "length 9 does not go with 8"),
        ({"typecode": 19, "fields": {}, "rest": "0x"}, "rest: found '0x'"),
        ({"typecode": 2, "fields": {"fpu_regs": "00"}}, "exactly 512 bytes"),
        ({"typecode": 20, "fields": {"msr": [{"index": 1, "bogus": 2}]}}, r"msr\[0\].bogus"),
        ({"typecode": 20, "fields": {"msr": {}}}, "msr: found dict, expected list"),
        ({"typecode": 99, "body": 5}, "body: found 5"),
        (5, "record: found int"),
    ],
)
def test_what_is_no_record(plain: Any, reason: str) -> None:
    with pytest.raises(FieldError, match=reason):
        record_from_plain(plain)


def test_what_is_no_context() -> None:
    for plain in ({"records": 5}, {"records": [5]}, {"tail": "x"}):
        with pytest.raises(FieldError):
            context_from_plain(plain)
