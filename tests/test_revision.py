"""The commit of --version, in all forms that git keeps it in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hvmctx.revision import HOME, revision
from tests.builders.samples import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write(root: Path, **files: str) -> str:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


@pytest.mark.parametrize(
    "files",
    [
        {"DOTgit__HEAD": f"{COMMIT}\n"},
        {"DOTgit__HEAD": "ref: refs/heads/main\n", "DOTgit__refs__heads__main": f"{COMMIT}\n"},
        {
            "DOTgit__HEAD": "ref: refs/heads/main\n",
            "DOTgit__packed-refs": f"# a\n{'0' * 40} refs/heads/a\n{COMMIT} refs/heads/main\n",
        },
        {  # a worktree
            "DOTgit": "gitdir: other/worktrees/a\n",
            "other__worktrees__a__HEAD": "ref: refs/heads/b\n",
            "other__worktrees__a__commondir": "../..\n",
            "other__refs__heads__b": f"{COMMIT}\n",
        },
    ],
)  # fmt: skip
def test_of_a_checkout(tmp_path: Path, files: dict[str, str]) -> None:
    assert revision(write(tmp_path, **files)) == COMMIT[:12]


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"DOTgit": "gitdir: gone\n"},
        {"DOTgit": "\n"},
        {"DOTgit__HEAD": ""},
        {"DOTgit__HEAD": "\x1b[31m" + COMMIT[5:]},
        {"DOTgit__HEAD": "é" * 40},
        {"DOTgit__HEAD": f"-{COMMIT[1:]}"},
        {"DOTgit__HEAD": "ref: refs/heads/.invalid\n"},  # of git's newer way to keep references
        {"DOTgit__HEAD": "ref: refs/heads/main\n", "DOTgit__packed-refs": "# nothing\n"},
        {"DOTgit__HEAD": "ref: ../../secret\n", "secret": "a password\n"},
        {"DOTgit__HEAD": "ref: \0\n"},
        {"DOTgit__HEAD": "ref: \n"},
    ],
)
def test_of_anything_else(tmp_path: Path, files: dict[str, str]) -> None:
    assert revision(write(tmp_path, **files)) == ""


def test_the_repository_is_that_of_the_metadata() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert set(re.findall(r'^Homepage = "(.*)"$', text, re.MULTILINE)) <= {HOME}
