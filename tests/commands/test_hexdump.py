"""hexdump as a user types it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.builders.running import Run
from tests.builders.samples import EXAMPLE
from tests.builders.streams import in_xl


def test_a_record(run: Run) -> None:
    result = run("hexdump", EXAMPLE, "pmtimer/0")
    assert result.status == 0 and result.out.splitlines() == [
        "context: PMTIMER/0 at 0xd9f5, 16 bytes",
        "0x0000d9f5  +0x00000   0d 00                                  "
        "          PMTIMER/0.descriptor.typecode",
        "0x0000d9f7  +0x00002   00 00                                  "
        "          PMTIMER/0.descriptor.instance",
        "0x0000d9f9  +0x00004   08 00 00 00                            "
        "          PMTIMER/0.descriptor.length",
        "0x0000d9fd  +0x00008   a0 08 88 0e                                      PMTIMER/0.tmr_val",
        "0x0000da01  +0x0000c   00 00                                  "
        "          PMTIMER/0.pm1a_sts",
        "0x0000da03  +0x0000e   00 00                                            PMTIMER/0.pm1a_en",
    ]


def test_all_of_it(run: Run) -> None:
    out = run("hexdump", EXAMPLE).out
    for name in ("xl: header", "libxc: HVM_PARAMS", "context: PIC/1", "EMULATOR_CONTEXT"):
        assert name in out
    assert "... 879 more bytes" in out and "PAGE_DATA" not in out
    assert "more bytes" not in run("hexdump", EXAMPLE, "EMULATOR_CONTEXT").out


def test_what_is_not_there(run: Run) -> None:
    result = run("hexdump", EXAMPLE, "CPU/7")
    assert (result.status, result.err) == (2, "hvmctx: hexdump: the image has no CPU/7\n")


def test_differences(run: Run, tmp_path: Path) -> None:
    new = tmp_path / "new"
    run("set", EXAMPLE, "CPU/0.rip=0x1234", "-o", new)
    result = run("hexdump", EXAMPLE, "--diff", new)
    assert result.status == 1 and [line[:56].rstrip() for line in result.out.splitlines()] == [
        "context: CPU/0 at 0xcb4d, 1040 bytes",
        "- 0x0000cdd5  +0x00288   b9 b7 00 00 00 00 00 00",
        "+ 0x0000cdd5  +0x00288   34 12 00 00 00 00 00 00",
        "                         ^^ ^^",
    ]
    assert run("hexdump", EXAMPLE, "--diff", EXAMPLE).out == ""


@pytest.mark.parametrize("one_first", [True, False])
def test_a_record_that_only_one_has(run: Run, tmp_path: Path, one_first: bool) -> None:
    context, less = tmp_path / "context", tmp_path / "less"
    run("extract", EXAMPLE, "-o", context)
    run("set", context, "--remove", "TSC_ADJUST/0", "-o", less)
    pair = (context, less) if one_first else (less, context)
    result = run("hexdump", pair[0], "--diff", pair[1])
    sign = "-" if one_first else "+"
    assert result.status == 1
    assert f"{sign} context: TSC_ADJUST/0 at 0xff8, 16 bytes: only in {context}\n" in result.out


def test_an_end_that_claims_more_than_there_is(run: Run, tmp_path: Path) -> None:
    """It takes no time for what is not there; nor does a key that is not UTF-8 disturb."""
    data = EXAMPLE.read_bytes()
    place = tmp_path / "image"
    at = data.index(struct.pack("<II", 0, 0), 0xDC00)  # END of the libxc stream
    place.write_bytes(data[:at] + struct.pack("<II", 0, 0xFFFFFFFF))
    assert len(run("hexdump", place, "--diff", EXAMPLE).out) < 1 << 20
    place.write_bytes(data.replace(b'"max_vcpus"', b'"max_vcpu\x80"'))
    assert "xl: header" in run("hexdump", place).out


def test_names_without_utf8(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "image"
    place.write_bytes(EXAMPLE.read_bytes().replace(b'"hvm1"', b'"\\ud8"', 1))
    for layer in ("libvirt", "xapi"):
        result = run("convert", place, "--to", layer, "-o", tmp_path / layer)
        assert result.status in (0, 1) and "Traceback" not in result.err


def test_a_configuration_that_is_not_json(run: Run, tmp_path: Path) -> None:
    """Its bytes are shown, all as one, and what is wrong is said; not where a record is named."""
    path = tmp_path / "in.save"
    path.write_bytes(in_xl(b"name = 1"))
    result = run("hexdump", path)
    assert result.status == 1 and "6e 61 6d 65 20 3d 20 31 00 " in result.out
    assert "xl: offset 0x34: optional data: the configuration is not JSON: Expecting" in result.err
    assert run("hexdump", path, "PMTIMER/0").status == 0
    assert run("hexdump", path, "--diff", path).status == 1
    path.write_bytes(in_xl(b"{}").replace(b"\3\0\0\0{}", b"\xff\0\0\0{}", 1))
    result = run("hexdump", path)
    assert result.status == 1 and "the configuration is truncated" in result.err
    assert "the data after the header" in result.out
