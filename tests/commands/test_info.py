"""info as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.builders.running import Run, bare
from tests.builders.samples import DATA, EXAMPLE


def test_info(run: Run) -> None:
    result = run("info", EXAMPLE)
    assert result.status == 0 and "device model: qemu-upstream" in result.out
    plain = json.loads(run("info", EXAMPLE, "--format", "json").out)
    assert plain["memory"]["populated"] == 4092 * 4096
    assert "CPUID 7:0.ecx: UMIP, PKU, VAES" in run("info", EXAMPLE, "--policy").out
    plain = json.loads(run("info", EXAMPLE, "--policy", "--format", "json").out)
    assert "UMIP" in plain["policy"]["features"] and plain["policy"]["xstate"][-1] == "PKRU"
    result = run("info", DATA / "streams" / "handbuilt" / "truncated.bin")
    assert result.status == 1 and "problem: libxc: offset 0x2130" in result.out


def test_standard_input_tells_as_much(tmp_path: Path) -> None:
    """But for its name."""
    done = bare("info", "-", stdin=EXAMPLE.read_bytes())
    named = bare("info", EXAMPLE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (
        done.stdout.replace(b"<stdin>", str(EXAMPLE).encode()).splitlines()[1:]
        == (named.stdout.splitlines()[1:])
    )


def test_problems_are_the_exit_status_in_both_forms(run: Run, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(EXAMPLE.read_bytes()[:-9])
    result = run("info", cut)
    assert (result.status, result.err) == (1, "") and result.out.count("problem: ") == 1
    result = run("info", cut, "--format", "json")
    plain = json.loads(result.out)
    assert result.status == 1 and len(plain["problems"]) == 1 and not plain["complete"]


def test_a_layer_may_be_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(bytes(16))
    assert "context" in run("info", path).out.splitlines()[0]
    result = run("info", path, "--layer", "libxl")
    assert result.status == 1 and "wrong ident" in result.out + result.err
