"""locate as a user types it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from tests.builders.running import Run
from tests.builders.samples import DATA, EXAMPLE


def test_both_ways(run: Run) -> None:
    result = run("locate", EXAMPLE, "CPU/0.rbx", "config.c_info.name", "PIT.channels[0]")
    assert result == (
        0,
        (
            "CPU/0.rbx: offset 0xcd5d, 8 bytes\n"
            "config.c_info.name: offset 0x6d, 6 bytes\n"
            "PIT.channels[0]: offset 0xd57d, 16 bytes\n",
            "",
        ),
    )
    result = run("locate", EXAMPLE, "0xcd5e", "40", "0xcb25", "0xdc1d")
    assert result.out == (
        "offset 0xcd5e: context: CPU/0 at 0xcb4d: CPU/0.rbx, byte 1 of 8\n"
        "offset 0x28: xl: header at 0x0: xl.header.optional_flags, byte 0 of 4\n"
        "offset 0xcb25: libxc: HVM_CONTEXT at 0xcb25: the record's header, byte 0 of 8\n"
        "offset 0xdc1d: libxl: EMULATOR_CONTEXT at 0xdc15: EMULATOR_CONTEXT/0.emulator_id, "
        "byte 0 of 4\n"
    )


def test_json(run: Run) -> None:
    context = DATA / "images" / "hvm1.hvmctx.bin"
    found = json.loads(run("locate", context, "LAPIC/0", "0x28", "--format", "json").out)
    assert found[0] == {
        "offset": 0x5F0, "length": 24, "byte": None, "paths": ["LAPIC/0"], "what": "",
        "layer": "", "record": "", "record_offset": None,
    }  # fmt: skip
    assert found[1]["paths"] == ["CPU/0.fpu_regs"] and found[1]["record_offset"] == 0x20


def test_of_a_compressed_image_it_is_what_is_in_it(run: Run, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(EXAMPLE.read_bytes()))
    assert run("locate", packed, "CPU/0.rbx").out == run("locate", EXAMPLE, "CPU/0.rbx").out


def test_what_is_not_there(run: Run) -> None:
    for place, status, reason in (
        ("CPU/9.rip", 1, "no CPU/9 record"), ("CPU/0.ripp", 2, "did you mean rip?"),
        ("0xffffffff", 2, "not within the image"), ("12x", 2, "'12x' is not an offset"),
        ("format", 2, "not bytes of the input"),
    ):  # fmt: skip
        result = run("locate", EXAMPLE, place)
        assert result.status == status and reason in result.err and result.err.count("\n") == 1
