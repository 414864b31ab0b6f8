"""The files for other engines: the build of ClusterFuzzLite, with stand-ins for its image."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hvmctx.fuzz import NAMES
from tests.builders.running import ROOT

STAND_INS = {
    "pip3": "exit 0",
    "python3": f'exec "{sys.executable}" "$@"',
    "compile_python_fuzzer": 'cp "$1" "$OUT"',
    "zip": f'shift; exec "{sys.executable}" -m zipfile -c "$@"',
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_build(tmp_path: Path) -> None:
    out, stand_ins = tmp_path / "out", tmp_path / "bin"
    for folder in (out, stand_ins, tmp_path / "work", tmp_path / "src"):
        folder.mkdir()
    (tmp_path / "src" / "hvmctx").symlink_to(ROOT)
    for name, code in STAND_INS.items():
        (stand_ins / name).write_text(f"#!/bin/sh\n{code}\n")
        (stand_ins / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-eu", ROOT / ".clusterfuzzlite" / "build.sh"], capture_output=True, text=True,
        check=False,
        env={"PATH": f"{stand_ins}:{os.environ['PATH']}", "SRC": str(tmp_path / "src"),
             "OUT": str(out), "WORK": str(tmp_path / "work")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    suffixes = (".py", ".dict", "_seed_corpus.zip")
    assert {path.name for path in out.iterdir()} == {
        f"fuzz_{name}{suffix}" for name in NAMES for suffix in suffixes
    }
    with zipfile.ZipFile(out / "fuzz_context_seed_corpus.zip") as seeds:
        names = seeds.namelist()
        assert len(names) > 3 and names == [f"seed-{number}" for number in range(len(names))]


def test_a_program_is_named_after_its_target() -> None:
    """As a Python file, and as the package that pyinstaller makes of it."""
    text = (ROOT / "fuzz" / "fuzz_target.py").read_text()
    line = next(line for line in text.splitlines() if line.startswith("_NAME = "))
    for program in ("fuzz_context.py", "/out/fuzz_context.pkg", "fuzz_context"):
        found: dict[str, str] = {}
        exec(line, {"os": os, "sys": type("sys", (), {"argv": [program]})}, found)
        assert found["_NAME"] == "context"
