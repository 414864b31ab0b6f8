"""The manual pages are what `man` takes, and say what `--help` does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hvmctx.cli import COMMANDS
from tests.builders.samples import ROOT
from tools import man_pages

PAGES = sorted((ROOT / "share" / "man" / "man1").iterdir())


def shown(page: Path) -> str:
    """As on a wide terminal, without bold and the like."""
    if shutil.which("man") is None:
        pytest.skip("no man")
    script = 'man --warnings --local-file "$1" | col -bx'
    done = subprocess.run(
        ["sh", "-c", script, "sh", page], capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "MANWIDTH": "1000"},
    )  # fmt: skip
    assert done.stderr == ""
    return " ".join(done.stdout.split())


def test_there_is_a_page_for_each_command() -> None:
    assert {path.name for path in PAGES} == {"hvmctx.1", *(f"hvmctx-{x}.1" for x in COMMANDS)}


def test_man_shows_them() -> None:
    folder = ROOT / "share" / "man" / "man1"
    text = shown(folder / "hvmctx.1")
    assert "hvmctx-to-json(1) convert to lossless JSON" in text and "EXIT STATUS 0 All is" in text
    text = shown(folder / "hvmctx-get.1")
    assert "hvmctx get [OPTION...] INPUT PATH..." in text
    assert "--limits NAME=VALUE,... take more" in text
    text = shown(folder / "hvmctx-fuzz.1")
    assert "hvmctx fuzz campaign [OPTION...] --target TARGET --corpus DIR" in text
    assert "hvmctx fuzz run context guest.hvm" in text


def test_lint() -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("no mandoc")
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *PAGES], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if "missing date" not in line] == []


def test_what_troff_would_take_for_its_own() -> None:
    assert man_pages._safe(".a -b\n'c \\d") == "\\&.a \\-b\n\\&'c \\ed"
