"""What the fields of records mean, in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi.registry import by_name
from hvmctx.abi.x86 import CPU
from hvmctx.context.record import Record
from hvmctx.image.image import open_image
from hvmctx.render.decode import _OF_RECORDS, decoded
from tests.builders.samples import EXAMPLE


def words(record: Record) -> dict[str, str]:
    return {row.path: row.words for row in decoded(record)}


@given(st.sampled_from([*_OF_RECORDS]), st.binary(max_size=1100), st.sampled_from(b"\0\xff\x55"))
def test_any_body(name: str, body: bytes, fill: int) -> None:
    """Whatever is in it, and however long it is."""
    known = by_name(name)
    for each in (body, body.ljust(known.size, bytes((fill,)))[: known.size]):
        record = Record(known.typecode, 0, each)
        assert all(row.path and isinstance(row.words, str) for row in decoded(record))


def test_unknown() -> None:
    assert decoded(Record(99, 0, b"abc")) == [] == decoded(Record(0, 0))


def test_the_example() -> None:
    with open_image(EXAMPLE) as image:
        context = image.context
        cpu = words(context["CPU", 0])
        assert cpu["cr0"] == "ET (real mode)" and cpu["rflags"] == "PF ZF IF IOPL=0"
        assert cpu["cs_sel"] == (
            "base 0xf0000, limit 0xffff; 0x9b: code, execute and read, 16-bit, accessed, DPL 0"
        )
        assert "cs_base" not in cpu
        assert words(context["PIC", 1])["imr"] == "masked: 9 to 11, 15"
        assert words(context["PIT", 0])["channels[0].count"] == "every 54.9254 ms, 18.2065 Hz"
        assert words(context["MTRR", 0])["msr_mtrr_fixed[2]"] == "WC 0xa0000 to 0xbffff"
        assert words(context["LAPIC_REGS", 0])["data[0xf0:+4]"] == "SVR: on, spurious vector 0xff"


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        ({"pending_event": 0x80000B0E, "error_code": 2}, "pending_event",
         "HW_EXCEPTION, vector 0xe, error code 0x2"),
        ({"pending_event": 0x0E}, "pending_event", "none"),
        ({"cr0": 0x80000011, "cr4": 0x20, "msr_efer": 0x500, "cs_arbytes": 0xA9B}, "cr0",
         "PE ET PG (64-bit mode)"),
        ({"cs_arbytes": 0xA9B}, "cs_sel",
         "base 0x0, limit 0x0; 0xa9b: code, execute and read, 64-bit, accessed, DPL 0, pages"),
        ({"dr7": 0x000D0402}, "dr7", "G0; 0: write, 4 bytes"),
        ({"dr6": 0xFFFF0FF1}, "dr6", "B0"),
    ],
)  # fmt: skip
def test_cpu(fields: dict[str, int], path: str, expected: str) -> None:
    body = bytearray(CPU.size)
    for name, value in fields.items():
        CPU.layout.locate(name).put(body, value)
    assert words(Record(CPU.typecode, 0, bytes(body)))[path] == expected
