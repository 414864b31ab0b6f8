"""What all commands have in common, as a user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.running import TOOL, Run
from tests.samples import EXAMPLE

INPUTS = {
    "a directory": ("/", "is a directory"),
    "absent": ("/no/such/file", "No such file or directory"),
    "a NUL": ("a\0b", "null"),
    "no image": (TOOL, "nothing that Xen saves: found 23 21"),
}


@pytest.mark.parametrize("command", ["dump", "info", "extract", "strip", "to-json"])
@pytest.mark.parametrize("case", INPUTS)
def test_inputs_that_are_none(command: str, case: str, run: Run, tmp_path: Path) -> None:
    target, reason = INPUTS[case]
    output = ["-o", tmp_path / "out"] if command in ("extract", "strip", "to-json") else []
    result = run(command, target, *output)
    assert result.status == 1 and not result.out
    assert result.err.startswith("hvmctx: ") and result.err.count("\n") == 1
    if (command, case) == ("strip", "no image"):
        reason = "only images of Xen 4.6 and newer can be stripped"
    assert reason in result.err
    assert not list(tmp_path.iterdir())


def test_a_cut_image_is_told_of_by_those_who_keep_it(run: Run, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(EXAMPLE.read_bytes()[:62_000])
    result = run("get", cut, "CPU/0.rip")
    assert (result.status, result.out) == (1, "0xb7b9\n") and "EMULATOR_CONTEXT" in result.err
    result = run("set", cut, "CPU/0.rip=1", "-o", tmp_path / "out")
    assert result.status == 0 and result.err.startswith("hvmctx: warning: libxl: ")
    cut.write_bytes(EXAMPLE.read_bytes()[:54_000])
    result = run("set", cut, "CPU/0.rip=1", "-o", tmp_path / "other")
    assert result.status == 1 and "HVM_CONTEXT: the input ends within the body" in result.err
    assert not (tmp_path / "other").exists()
