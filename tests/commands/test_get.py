"""get as a user types it."""

from __future__ import annotations

from pathlib import Path

from tests.builders.running import Run
from tests.builders.samples import DATA, EXAMPLE


def test_get(run: Run) -> None:
    status, said = run("get", EXAMPLE, "CPU/0.rip", "HVM_PARAMS.17", "PCI_LINK.route")
    assert (status, said.out) == (0, "0xb7b9\n0xfefff\n050a0b05\n")
    status, said = run("get", EXAMPLE, "CPU.nope")
    assert status == 2 and said.err.count("\n") == 1


def test_a_key_of_any_bytes(run: Run, vmport: Path) -> None:
    status, said = run("get", vmport, "VMPORT.guestinfo[\udcff]", r"VMPORT.guestinfo[\xff]")
    assert (status, said.out) == (0, b"bytes".hex() + "\n" + b"bytes".hex() + "\n")
    status, said = run("get", vmport, "VMPORT.guestinfo[\ud800]")
    assert status == 2 and "not text" in said.err


def test_one_that_is_not_there_and_nothing_is_printed(run: Run) -> None:
    result = run("get", EXAMPLE, "CPU/0.rip", "CPU/9.rip")
    assert result == (1, ("", "hvmctx: the context has no CPU/9 record\n"))


def test_parameters_by_name_and_number(run: Run) -> None:
    result = run("get", EXAMPLE, "HVM_PARAMS.CONSOLE_PFN", "hvm_params.17", "cpu.fpu_regs[0:+2]")
    one, other, word = result.out.splitlines()
    assert one == other == "0xfefff" and int(word, 16) < 1 << 16


def test_a_bare_context_has_no_parameters(run: Run) -> None:
    context = DATA / "images" / "hvm1.hvmctx.bin"
    assert run("get", context, "CPU/0.rip").out == "0xb7b9\n"
    result = run("get", context, "HVM_PARAMS.17")
    assert result.status == 1 and result.err.count("\n") == 1 and not result.out
