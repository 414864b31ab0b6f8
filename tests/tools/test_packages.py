"""The scripts that try packages, with programs in place of the real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.builders.samples import ROOT

TOOLS = ROOT / "tools" / "packages"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="scripts of a shell")


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    path = tmp_path / "a place"
    path.mkdir()
    return path


def test_an_interrupted_trial_leaves_nothing(tmp_path: Path, temporary: Path) -> None:
    started = tmp_path / "started"
    hvmctx = program(tmp_path / "hvmctx", f"touch {started}; exec sleep 60")
    trial = subprocess.Popen(
        ["sh", TOOLS / "use.sh", hvmctx, "python3"],
        env={**os.environ, "TMPDIR": str(temporary)}, start_new_session=True,
    )  # fmt: skip
    while not started.exists() and trial.poll() is None:
        time.sleep(0.01)
    os.killpg(trial.pid, signal.SIGTERM)
    assert trial.wait(30) and not list(temporary.iterdir())


def test_a_trial_in_a_folder_with_a_blank(tmp_path: Path, temporary: Path) -> None:
    pip = program(tmp_path / "pip", f'echo "$#: $*" > {tmp_path}/said; exit 9')
    python = program(tmp_path / "python", f'mkdir "$3/bin"; cp {pip} "$3/bin/"')
    trial = subprocess.run(
        ["sh", TOOLS / "try.sh", python, "one wheel.whl"],
        env={**os.environ, "TMPDIR": str(temporary)}, check=False,
    )  # fmt: skip
    assert trial.returncode == 9 and not list(temporary.iterdir())
    said = (tmp_path / "said").read_text()
    assert said == "5: --disable-pip-version-check --quiet install --no-deps one wheel.whl\n"
