"""The recipes of CONTRIBUTING.md, tried as they are written, in a copy of the repository.

A block of code is an edit; the paragraph before it says of what: "As `FILE`:", "At the end of
`FILE`:", "After `TEXT` in `FILE`:", "In `FILE`, replace `TEXT`:". The first paragraph of a recipe
says how many files that takes.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.builders.documents import RECIPES, Block, command_lines, make_files
from tests.builders.samples import ROOT
from tools import generate

EDIT = re.compile(
    r"(?:As|At the end of|After `(?P<after>.+)` in|In) `(?P<file>[\w./-]+)`"
    r"(?:, replace `(?P<old>.+)`)?:$"
)
MAKING = [script for script in generate.SCRIPTS if script != generate.LAST]
"""All but what runs the sessions in pages, which would take most of a recipe's time."""
PAGE = re.compile(r"docs/commands/\w+\.md")
"""What is made for a command that only the copy has."""
SECTIONS = list(dict.fromkeys(block.section for block in RECIPES))


def _apply(block: Block, tree: Path) -> str:
    """Edits a file, and returns its name."""
    found = EDIT.search(block.said)
    assert found is not None, f"{block.place}: {block.said}"
    path = tree / found["file"]
    if found[0].startswith("As "):
        assert not path.exists()
        path.write_text(block.code)
        return found["file"]
    text = path.read_text()
    if found["old"] is not None:
        assert text.count(found["old"]) == 1, block.place
        path.write_text(text.replace(found["old"], block.code.rstrip("\n")))
    elif found["after"] is not None:
        lines = text.splitlines(keepends=True)
        (at,) = [number for number, line in enumerate(lines) if found["after"] in line]
        path.write_text("".join([*lines[: at + 1], block.code, *lines[at + 1 :]]))
    else:
        path.write_text(f"{text}\n\n{block.code}")
    return found["file"]


def _run(line: Block, tree: Path, folder: Path) -> str:
    words = shlex.split(line.code)
    make_files(words, folder)
    python = [sys.executable, "-I", "-W", "error"]
    match words:
        case ["make", "generate"]:
            command = [*python, "tools/generate.py", *MAKING]
        case ["hvmctx", *arguments]:
            command = [*python, str(tree / "tools" / "xen-hvmctx.py"), *arguments]
        case [".venv/bin/python", *arguments]:
            command = [sys.executable, *arguments, "-q", "-p", "no:cacheprovider"]
        case _:
            raise AssertionError(f"{line.place}: {line.code}")
    where = tree if words[0] != "hvmctx" else folder
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (line.place, done.stdout, done.stderr)
    return done.stdout


def _files_of(tree: Path) -> dict[str, bytes]:
    return {
        path.relative_to(tree).as_posix(): path.read_bytes()
        for folder in ("hvmctx", "docs", "tests", "tools")
        for path in (tree / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    } | {"README.md": (tree / "README.md").read_bytes()}


@cache
def _generated() -> set[str]:
    return {name for script in MAKING for name in generate.generated(script)}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the repository, whose samples are links; with what is compiled of its modules,
    which is most of what a recipe would take."""
    made = tmp_path / "tree"
    ignored = shutil.ignore_patterns("data")
    shutil.copytree(ROOT / "tests", made / "tests", ignore=ignored)
    (made / "tests" / "data").symlink_to(ROOT / "tests" / "data")
    for name in ("hvmctx", "tools", "docs"):
        shutil.copytree(ROOT / name, made / name)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, made)
    for name in ("examples", "fuzz", "benchmarks"):
        (made / name).symlink_to(ROOT / name)
    return made


TOLD = {
    "Add a release": ["accept: Xen 4.23 would restore this image"],
    "Add a record type": ["second 0xf0e0d0c0b0a0908", "0x3020100\n"],
    "Add a rule": ["pm1a_sts has bits above 14", " passed"],
    "Add a stream record": ["0x13  EXAMPLE", '"first": 50462976,'],
    "Add a format": [
        "example file, version 1",
        "Entry 1: type 2 instance 0",
        '"format": "example"',
        "accept: Xen 4.17 would restore",
    ],
    "Add a command": ["CPU              1\n", " passed"],
}
"""What the lines of a recipe print, among other things."""


@pytest.mark.parametrize("section", SECTIONS)
def test_recipe(section: str, tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    before = _files_of(tree)
    steps = [block for block in RECIPES if block.section == section]
    written = {_apply(block, tree) for block in steps if block.language}
    said = "".join(
        _run(line, tree, folder) for block in steps for line in command_lines(block)
        if not block.language
    )  # fmt: skip
    for text in TOLD[section]:
        assert text in said, said
    after = _files_of(tree)
    changed = {name for name in after if after[name] != before.get(name)}
    made = changed - written
    assert all(name in _generated() or PAGE.fullmatch(name) for name in made)
    text = (ROOT / "CONTRIBUTING.md").read_text()
    counted = re.search(rf"^## {section}\n\nFiles: (\d+)(, and the generated ones)?\.$", text, re.M)
    assert counted is not None and int(counted[1]) == len(written)
    assert bool(counted[2]) == bool(made)


def test_all_recipes_are_there() -> None:
    assert sorted(SECTIONS) == sorted(TOLD)
