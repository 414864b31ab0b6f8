"""strip as a user types it."""

from __future__ import annotations

from pathlib import Path

from tests.running import Run, bare
from tests.samples import EXAMPLE


def test_strip(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("strip", EXAMPLE, "-o", out)
    assert result.status == 0 and out.read_bytes() == EXAMPLE.read_bytes()
    assert result.err == "hvmctx: 0 pages emptied, 0 records of 0 absent pages left out\n"
    result = run("strip", "7", "-o", out)
    assert result.status == 2
    done = bare("strip", "-", "-o", "-", stdin=EXAMPLE.read_bytes())
    assert done.returncode == 0 and done.stdout == EXAMPLE.read_bytes()
