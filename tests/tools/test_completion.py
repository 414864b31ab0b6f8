"""Completion, asked for as a user does: in a shell, with the Tab key where it has no other way."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hvmctx.cli import COMMANDS
from hvmctx.verify.registry import rules
from tests.builders.running import ROOT, TOOL

SHARE = ROOT / "share"
ASKED = {
    "hvmctx inf": {"info"},
    "hvmctx gue": {"guest.save"},
    "hvmctx info gue": {"guest.save"},
    "hvmctx info --form": {"--format"},
    "hvmctx info --format j": {"json"},
    "hvmctx dump guest.save --record CPU_": {"CPU_XSAVE", "CPU_MSR"},
    "hvmctx restore --release 4.20": {"4.20"},
    "hvmctx restore guest.save --explain cpu-cr": {
        rule.id for rule in rules() if rule.id.startswith("cpu-cr")
    },
    "hvmctx fuzz ge": {"generate"},
    "hvmctx fuzz run vm": {"vmport"},
    "hvmctx fuzz run vmport gue": {"guest.save"},
    "hvmctx fuzz campaign --corpus co": {"corpus/"},
    "hvmctx to-json guest.save -o gue": {"guest.save"},
    "hvmctx help ver": {"verify"},
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file, a folder, and hvmctx: completion is loaded for programs there are."""
    (tmp_path / "guest.save").touch()
    (tmp_path / "corpus").mkdir()
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "hvmctx"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{TOOL}" "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_DATA_DIRS", str(SHARE))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def shell(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name}")
    return path


def typed(line: str, *words: str, folder: Path, before: str, until: str) -> str:
    """What an interactive shell shows for a line and Tab, as soon as `until` is there; it is
    waited for."""
    child, leader = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execve(words[0], words, {**os.environ, "PS1": "> ", "PS2": "", "TERM": "dumb"})
    shown = b""
    for text, awaited in (("", "> "), (f"{before}; echo read''y\n", "ready\r\n"), (line, until)):
        os.write(leader, text.encode())
        end, shown = time.monotonic() + 60, b""
        while awaited.encode() not in shown and time.monotonic() < end:
            if select.select([leader], [], [], 1)[0]:
                shown += os.read(leader, 1 << 16)
    os.close(leader)
    os.waitpid(child, 0)
    return shown.decode()


_OF_BASH = """
while IFS= read -r line; do
    read -ra COMP_WORDS <<< "$line"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
    _shtab_hvmctx 2>/dev/null; echo "${COMPREPLY[@]}"
done
"""


def test_bash(place: Path) -> None:
    script = f". {SHARE / 'bash-completion/completions/hvmctx'}\n{_OF_BASH}"
    done = subprocess.run(
        [shell("bash"), "-c", script], input="\n".join(ASKED) + "\n", cwd=place,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = dict(zip(ASKED, (set(line.split()) for line in done.stdout.splitlines()), strict=True))
    # bash itself adds the slash, and names files where a function has found nothing
    bash_does = {"hvmctx fuzz campaign --corpus co": {"corpus"}, "hvmctx gue": set[str]()}
    assert found == {**ASKED, **bash_does} and done.stderr == ""


def test_bash_with_the_tab_key(place: Path) -> None:
    before = f". {SHARE / 'bash-completion/completions/hvmctx'}"
    words = (shell("bash"), "--norc", "--noprofile", "-i")
    for line, until in (("hvmctx gue\t", "guest.save "), ("hvmctx fuzz ge\t", "generate ")):
        assert until in typed(line, *words, folder=place, before=before, until=until)


def test_zsh_with_the_tab_key(place: Path) -> None:
    before = f"fpath=({SHARE / 'zsh/site-functions'} $fpath); autoload -Uz compinit; compinit -uD"
    words = (shell("zsh"), "-f", "-i")
    for line, until in (
        ("hvmctx gue\t", "guest.save "),
        ("hvmctx verify --fail-on w\t", "warning"),
    ):
        assert until in typed(line, *words, folder=place, before=before, until=until)


def test_fish(place: Path) -> None:
    script = "\n".join(f"complete -C '{line}'; echo" for line in ASKED)
    done = subprocess.run(
        [shell("fish"), "--private", "-c", script], cwd=place, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    parts = done.stdout.split("\n\n")[: len(ASKED)]
    found = [{line.partition("\t")[0] for line in part.splitlines() if line} for part in parts]
    assert dict(zip(ASKED, found, strict=True)) == ASKED and done.stderr == ""


@pytest.mark.parametrize(
    "path",
    sorted(path for path in SHARE.rglob("*hvmctx*") if path.is_file() and path.suffix != ".h"),
)
def test_every_command_is_there(path: Path) -> None:
    if "man1" not in path.parts:
        text = path.read_text()
        assert all(name in text for name in (*COMMANDS, "help"))
