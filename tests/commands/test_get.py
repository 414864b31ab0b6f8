"""get as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.running import TOOL, Run
from tests.builders.samples import DATA, EXAMPLE
from tests.builders.streams import in_xl


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


def test_several_values_are_printed_as_set_takes_them(run: Run, tmp_path: Path) -> None:
    result = run("get", EXAMPLE, "cpu.cr*", "PIT.channels[1].mode", "config.c_info")
    lines = result.out.splitlines()
    assert result.status == 0 and lines[:2] == ["CPU/0.cr0=0x10", "CPU/0.cr2=0x0"]
    assert lines[4] == "0xff" and "config.c_info.name=hvm1" in lines
    settings = [line for line in lines if "=" in line]
    assert run("set", EXAMPLE, *settings, "-o", tmp_path / "same").status == 0
    assert (tmp_path / "same").read_bytes() == EXAMPLE.read_bytes()


def test_lists_and_json(run: Run) -> None:
    result = run("get", EXAMPLE, "--list", "CPUID[7,*]", "CPU/0.rip")
    assert result.out == "".join(f"CPUID[7,0].e{n}x\n" for n in "abcd") + "CPU/0.rip\n"
    result = run("get", EXAMPLE, "CPU/0.rip", "CPUID[7,0]", "config.c_info.name", "MSR[0xce]",
                 "PCI_LINK.route", "--format", "json")  # fmt: skip
    assert json.loads(result.out) == {
        "CPU/0.rip": 0xB7B9, "CPUID[7,0]": "00000000 018803a9 0000020c 00000000",
        "config.c_info.name": "hvm1", "MSR[0xce]": 0x80000000, "PCI_LINK.route": "050a0b05",
    }  # fmt: skip
    assert json.loads(run("get", EXAMPLE, "X86_TSC_INFO", "--list", "--format", "json").out) == [
        f"X86_TSC_INFO/0.{name}" for name in ("mode", "khz", "nsec", "incarnation")
    ]


@pytest.mark.parametrize(
    ("path", "guess"),
    [
        ("CPU.ripp", "did you mean rip?"), ("CPUU.rip", "did you mean CPU?"),
        ("HVM_PARAMS.STORE_PN", "did you mean STORE_PFN?"),
        ("X86_TSC_INFO.kzh", "did you mean khz?"),
        ("config.c_inf.name", "did you mean c_info?"), ("CPUID[7].ebx", "it has CPUID[7,0]"),
        ("libxc.domain_header.xen_mnor", "did you mean libxc.domain_header.xen_minor?"),
    ],
)  # fmt: skip
def test_suggestions(path: str, guess: str, run: Run) -> None:
    result = run("get", EXAMPLE, path)
    assert result.status and guess in result.err and result.err.count("\n") == 1


def test_wildcards_of_nothing(run: Run) -> None:
    result = run("get", EXAMPLE, "CPU/7.*")
    assert result == (1, ("", "hvmctx: CPU/7.*: the image has no such values\n"))


def test_a_path_imports_nothing_heavy() -> None:
    """As a dump, it starts in the time of the interpreter."""
    python = [sys.executable, "-I", "-S", "-X", "importtime"]
    command = [*python, TOOL, "get", str(EXAMPLE), "CPU/0.rip"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hvmctx.edit.places" in imported
    assert not imported & {"dataclasses", "inspect", "typing", "argparse", "json", "difflib"}


def test_why_a_configuration_has_no_values(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "in.save"
    for config, reason in (
        (b"name = 1", "Expecting value: line 1 column 1 (char 0)"),
        (b'{"a\x80": 1}', "not UTF-8 at byte 3"),
        (b'{"a":' * 200_000, "values are nested too deep"),
        (b'{"a": %s}' % (b"9" * 6000), "a number has too many digits"),
    ):
        path.write_bytes(in_xl(config))
        for pattern in ("config.*", "config", *(["config.a"] if b"\x80" not in config else [])):
            result = run("get", path, pattern)
            assert result.status == 1 and not result.out
            assert f"the configuration is not JSON: {reason}" in result.err, pattern
    path.write_bytes(in_xl(b"{}"))
    assert "config.x*: the image has no such values" in run("get", path, "config.x*").err
