"""stack as a user types it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hvmctx.context.hvm_context import HvmContext
from tests.builders.kernels import SYMBOLS, kernel, kernel_image
from tests.builders.running import Run
from tests.builders.samples import EXAMPLE, context_bytes


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    path = tmp_path / "guest"
    path.write_bytes(kernel_image(0x18200000))
    (tmp_path / "System.map").write_bytes(SYMBOLS)
    return path


def test_with_symbols(run: Run, guest: Path) -> None:
    pytest.importorskip("capstone")
    result = run("stack", guest, "--symbols", guest.parent / "System.map")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[:3] == [
        "symbols moved by 0x18200000, to where system calls enter",
        "vcpu 0: 64-bit code in ring 0, 4-level paging",
        "  rip     0010:ffffffff99201000 first",
    ]
    assert "  ffffffff99201000  e8 0b 00 00 00           call 0xffffffff99201010  ; second" in lines
    assert lines[-2:] == [
        "  ffffc90000003f80: ffffffff99201015  second+0x5",
        "  ffffc90000003f90: ffffffff99201020  second+0x10",
    ]


def test_moved_by_hand(run: Run, guest: Path) -> None:
    with_map = ("stack", guest, "--symbols", guest.parent / "System.map", "--kaslr-offset")
    for offset in ("0x18200000", "msr_lstar-0xffffffff81c00080"):
        assert ":ffffffff99201000 first\n" in run(*with_map, offset).out
    assert ":ffffffff99201000\n" in run(*with_map, "0").out
    linked = guest.parent / "linked.map"
    linked.write_bytes(b"ffffffffa0000000 T higher\n")
    down = "0xffffffff99201000-0xffffffffa0000000"
    result = run("stack", guest, "--symbols", linked, "--kaslr-offset", down)
    assert ":ffffffff99201000 higher\n" in result.out
    assert run("stack", guest, "--kaslr-offset", "0").status == 2


def test_no_vcpu(run: Run, guest: Path) -> None:
    entries = HvmContext.from_bytes(context_bytes()).entries
    other = guest.parent / "none"
    other.write_bytes(HvmContext((entries[0], entries[-1])).to_bytes())
    symbols = guest.parent / "System.map"
    for options in ((), ("--symbols", symbols, "--kaslr-offset", "rip")):
        result = run("stack", other, *options)
        assert (result.status, result.err) == (1, "hvmctx: the context has no vcpu\n")


def test_symbols_of_another_kernel(run: Run, guest: Path) -> None:
    other = guest.parent / "other.map"
    other.write_bytes(b"ffffffff81000000 T here\n")
    result = run("stack", guest, "--symbols", other)
    assert (
        result.status == 0
        and "hvmctx: warning: cannot tell whether these symbols are those of" in result.err
    )
    other.write_bytes(b"ffffffff81000000 T " + b"\x1b[31m\xff" + "\u202e".encode() + b"\n")
    shown = run("stack", guest, "--symbols", other, "--kaslr-offset", "0x18200000").out
    assert "  rip     0010:ffffffff99201000 \\x1b[31m\\xff\\u202e+0x1000\n" in shown


@pytest.mark.parametrize("data", [b"", b"\0" * 5000, b"\x7fELF", None])
def test_files_without_symbols(run: Run, guest: Path, data: bytes | None) -> None:
    other = guest.parent / "other"
    if data is not None:
        other.write_bytes(data)
    result = run("stack", guest, "--symbols", other)
    assert result.status == 2 and result.err.startswith("hvmctx: --symbols: ")
    assert run("stack", guest, "--symbols", guest.parent).status == 2
    empty = run("stack", guest, "--symbols", "").err
    assert empty == "hvmctx: --symbols: the name of the input file is empty\n"
    assert run("stack", "-", "--symbols", "-").status == 2


def test_without_capstone(run: Run, guest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    result = run("stack", guest)
    assert result.status == 0 and "call" not in result.out
    assert result.err == (
        "hvmctx: note: no instructions, which need `pip install hvmctx[disassembly]`\n"
    )


def test_vcpus(run: Run, tmp_path: Path) -> None:
    """All, or one; and one that is offline has no CPU record, though it has others."""
    tables, registers = kernel()
    path = tmp_path / "guest"
    path.write_bytes(tables.image({}, {"rip": 0x1000}, **registers))
    heads = [line for line in run("stack", path).out.splitlines() if line.startswith("vcpu")]
    assert heads == [f"vcpu {n}: 64-bit code in ring 0, 4-level paging" for n in (0, 1)]
    only = run("stack", path, "--vcpu", "1").out
    assert only.startswith("vcpu 1:") and "vcpu 0" not in only
    assert run("stack", path, "--vcpu", "2").status == 1
    smaller = tmp_path / "smaller"
    assert run("set", EXAMPLE, "--remove", "CPU/0", "-o", smaller).status == 0
    assert run("stack", smaller).out == "vcpu 0: offline, it has no CPU record\n"


def test_pages_of_stack(run: Run, guest: Path) -> None:
    for pages in ("0", "-1", "1025"):
        assert run("stack", guest, "--pages", pages).status == 2
    assert "among 16 words" in run("stack", guest, "--pages", "1024").out


def test_without_memory(run: Run, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.write_bytes(context_bytes())
    result = run("stack", context)
    assert result.status == 1 and "code at 0xfb7b9:\n  virtual address 0xfb7b9 is at" in result.out
    assert "hvmctx: registers only: the image has no page data\n" in result.err


def test_an_image_that_ends_before_its_context(run: Run, guest: Path) -> None:
    """Every command says why there is none."""
    guest.write_bytes(guest.read_bytes()[:20000])
    for command in (
        ("stack", guest),
        ("x", guest, "rip"),
        ("dump", guest),
        ("get", guest, "CPU/0"),
    ):
        result = run(*command)
        assert result.status == 1 and result.err.startswith(
            "hvmctx: no HVM_CONTEXT record in this image: libxc: offset "
        )
