"""to-json as a user types it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.running import ROOT, bare
from tests.samples import EXAMPLE


def test_json_in_a_pipe() -> None:
    text = subprocess.run(
        [sys.executable, "-m", "hvmctx", "to-json", "-", "-o", "-"], input=EXAMPLE.read_bytes(),
        capture_output=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    back = subprocess.run(
        [sys.executable, "-m", "hvmctx", "from-json", "-", "-o", "-"], input=text,
        capture_output=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    assert back == EXAMPLE.read_bytes()


def test_json_without_dataclasses_json() -> None:
    done = bare("to-json", EXAMPLE, "-o", "-")
    assert done.returncode == 1 and b"need dataclasses-json" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_json_there_and_back(busy_context: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    assert run("to-json", busy_context, "-o", tmp_path / "json")[0] == 0
    assert run("from-json", tmp_path / "json", "-o", tmp_path / "again")[0] == 0
    assert (tmp_path / "again").read_bytes() == busy_context.read_bytes()
