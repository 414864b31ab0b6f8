"""What all commands have in common, as a user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.running import TOOL, Run

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
