"""Terminal sessions in pages: what stands after `$ ` in a `console` block is run, in a folder
of the page's own and one line after the other, and what it says is put below it."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from hvmctx.cli import main
from tests.builders.documents import make_files
from tests.builders.running import TOOL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(?<=^```console\n)\$ .*?(?=^```$)", re.DOTALL | re.MULTILINE)
MOST_LINES, SHOWN_LINES = 34, 28
ENVIRONMENT = {"NO_COLOR": "1", "COLUMNS": "96", "LC_ALL": "C.UTF-8"}

COMMANDS = {
    "hvmctx": f'-I "{TOOL}"',
    "python3": "",
    "vol": f'"{Path(sys.executable).with_name("vol")}"',
}
"""What this Python is started with for each."""
NEEDS = {"volatility.md": "volatility3", "memory.md": "capstone", "stack.md": "capstone"}
"""What a page's sessions need to be installed."""


def refreshed(page: str) -> str:
    """A page with what its lines say today. Raises AssertionError for a usage error."""
    if not BLOCK.search(page):
        return page
    with tempfile.TemporaryDirectory() as name, _inside(Path(name)):
        return BLOCK.sub(lambda block: _session(block[0]), page)


def _session(block: str) -> str:
    lines = re.findall(r"^\$ (?:.*\\\n)*.*", block, re.MULTILINE)
    return "".join(f"{line}\n{_shortened(_said(line[2:]))}" for line in lines)


def _shortened(text: str) -> str:
    lines = text.splitlines()
    if len(lines) <= MOST_LINES:
        return text
    kept = [*lines[:SHOWN_LINES], f"[{len(lines) - SHOWN_LINES} more lines]"]
    return "".join(f"{line}\n" for line in kept)


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """The working directory, with commands for what needs a shell."""
    commands = folder / ".bin"
    commands.mkdir()
    for name, start in COMMANDS.items():
        command = commands / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {start} "$@"\n')
        command.chmod(0o755)
    before, place = dict(os.environ), os.getcwd()
    os.environ.update(
        ENVIRONMENT, PATH=f"{commands}:{before['PATH']}", XDG_CACHE_HOME=f"{commands}/cache"
    )
    os.environ.pop("FORCE_COLOR", None)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(place)
        os.environ.clear()
        os.environ.update(before)


class _Terminal(io.TextIOWrapper):
    """`info` wraps its lines for it."""

    def isatty(self) -> bool:
        return True


def _said(line: str) -> str:
    """What a line writes, messages included. A plain line of hvmctx is run in this process."""
    words = shlex.split(line.replace("\\\n", " "), comments=True)
    make_files([word if not os.path.exists(word) else "" for word in words], Path())
    if words[0] != "hvmctx" or re.search(r"[|<>;&*]", line):
        done = subprocess.run(
            ["bash", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode < 2, f"{line}: {done.stdout}"
        return done.stdout
    out = io.BytesIO()
    before = sys.stdout, sys.stderr
    streams = (
        _Terminal(out, "utf-8", write_through=True),
        io.TextIOWrapper(out, "utf-8", write_through=True),
    )
    sys.stdout, sys.stderr = streams
    try:
        status = main(words[1:])
    finally:
        sys.stdout, sys.stderr = before
    streams[0].flush()
    said = out.getvalue().decode()
    assert status < 2, f"{line}: {said}"
    return said


def files() -> dict[str, str]:
    """Every page with sessions, as `make generate` writes it: after all other scripts, as some make
    such pages."""
    texts = {path: path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))}
    return {
        path.relative_to(ROOT).as_posix(): refreshed(text)
        for path, text in texts.items()
        if BLOCK.search(text) and (path.name not in NEEDS or find_spec(NEEDS[path.name]))
    }
