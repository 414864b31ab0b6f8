"""x as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.kernels import STACK, kernel, kernel_image
from tests.builders.running import Run
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.streams import pv


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    path = tmp_path / "guest"
    path.write_bytes(kernel_image())
    return path


def test_at_a_register(run: Run, guest: Path) -> None:
    result = run("x", guest, "rsp+8:0x14")
    assert result.status == 0 and result.out == (
        "0xffffc90000003f88  +0x00000   00 00 00 00 00 00 00 00 20 10 00 81 ff ff ff ff  "
        "........ .......\n"
        "0xffffc90000003f98  +0x00010   05 00 00 00                                      ....\n"
    )
    assert run("x", guest, "rip", "--vcpu", "0").out.count("\n") == 16
    assert run("x", guest, "0x9f80:8", "--physical").out == (
        "0x00009f80  +0x00000   15 10 00 81 ff ff ff ff                          ........\n"
    )
    assert run("x", guest, "cr3:8", "--physical").status == 0


def test_the_way_there(run: Run, guest: Path) -> None:
    result = run("x", guest, "rip-16:8", "-v")
    assert result.out == (
        "0xffffffff81000ff0: 4-level paging, tables from 0x100000\n"
        "  PML4  0x100000[511] at 0x100ff8           0x0000000000101027  P RW US A\n"
        "  PDPT  0x101000[510] at 0x101ff0           0x0000000000102027  P RW US A\n"
        "  PD    0x102000[8] at 0x102040             0x00000000002000a7  P RW US A PS\n"
        "  page of 2 MiB, gpa 0x200ff0\n"
        "0xffffffff81000ff0  +0x00000   90 90 90 90 90 90 90 90                          ........\n"
    )
    result = run("x", guest, "rsp:256", "--verbose")
    assert result.status == 1 and result.out.splitlines()[-2:] == [
        "  PD    0x104000[0] at 0x104000             0x0000000000105027  P RW US A",
        "  PT    0x105000[4] at 0x105020             0x0000000000000000",
    ]
    assert result.err == (
        "hvmctx: virtual address 0xffffc90000004000: not present: PT entry 4 at gpa 0x105020 is "
        "0x0\n"
    )


def test_raw(run: Run, guest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("x", guest, "rsp:128", "--format", "raw", "-o", out).status == 0
    assert out.read_bytes() == bytes(kernel()[0].memory[9][0xF80:])
    assert run("x", guest, "0x9f98:3", "--physical", "--format", "raw").out == "\5\0\0"
    refused = run("x", guest, "rsp:129", "--format", "raw", "-o", out, "--force")
    assert refused.status == 1 and len(out.read_bytes()) == 128
    assert run("x", guest, "rsp:1", "-o", out).status == 1  # it is there
    assert run("x", guest, "rsp:1", "-o", out, "--force").status == 0
    assert out.read_text().startswith(f"{STACK:#x}  +0x00000   15  ")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("0x9000:5000", "--physical"), 1, "no memory at pfn 0xa: the image does not mention it"),
        (("0x7000000000000000",), 1, "virtual address 0x7000000000000000: not canonical"),
        (("rip", "--vcpu", "1"), 1, "the context has no vcpu 1; it has 0"),
        (("0x1000", "--vcpu", "-1"), 1, "the context has no vcpu -1"),
        (("eip",), 2, "no register is called 'eip'"),
        (("",), 2, "'' is not an address"),
        (("rip:",), 0, ""),
        (("rip:0",), 0, ""),
        (("rip:x",), 2, "x: LENGTH: found 'x', expected a number such as"),
        (("rip:0x",), 2, "found '0x', expected a number"),
        (("rip:1:2",), 2, "found '1:2', expected a number"),
        (("rip:65M",), 1, "more than 64 MiB of memory at once: --max-size N allows more"),
        (("0:99999T", "--physical"), 1, "no memory at pfn 0x0: the image does not mention it"),
        (("rip", "-v", "--physical"), 2, "x: -v is about virtual addresses"),
        (("rip", "-v", "--format", "raw"), 2, "x: -v is about virtual addresses"),
    ],
)
def test_refusals(
    run: Run, guest: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    result = run("x", guest, *arguments)
    assert result.status == status and said in result.err, result.err
    assert result.err.count("\n") == int(status != 0)


def test_too_much_is_refused_before_any_walk(run: Run, guest: Path) -> None:
    result = run("x", guest, "rip:12K", "-v", "--max-size", "8K")
    assert (result.status, result.out) == (1, "")
    assert "more than 8192 bytes of memory at once: --max-size N allows more" in result.err


def test_other_inputs(run: Run, tmp_path: Path) -> None:
    context, other = tmp_path / "context", tmp_path / "pv"
    context.write_bytes(context_bytes())
    other.write_bytes(pv())
    assert "the image has no page data" in run("x", context, "rip").err
    assert "PV guest" in run("x", other, "0x1000").err
    assert run("x", EXAMPLE, "cs_base+rip:16").out.startswith("0x000fb7b9  +0x00000   00 00")
    assert run("x", tmp_path, "rip").status == 1
