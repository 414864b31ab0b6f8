"""What the stories share: a folder of the user's own, and a shell in it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders.running import Result, Run
from tests.builders.samples import EXAMPLE

Shell = Callable[[str], Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user works; `guest.save` is there, which a Xen 4.17 wrote."""
    (tmp_path / "guest.save").write_bytes(EXAMPLE.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hvmctx(run: Run, folder: Path) -> Shell:
    """`hvmctx("get guest.save CPU/0.rip")`: a command as the user types it, in that folder."""
    return lambda line: run(*shlex.split(line))
