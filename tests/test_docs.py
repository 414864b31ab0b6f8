"""What the documents promise is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_difference_has_its_test() -> None:
    text = (ROOT / "docs" / "differences.md").read_text()
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    names = set(re.findall(r"`(test_\w+)`", text))
    assert names
    for name in names:
        assert f"def {name}(" in tests, name


def test_every_command_is_in_the_readme() -> None:
    from hvmctx.cli import COMMANDS

    text = (ROOT / "README.md").read_text()
    for name in COMMANDS:
        assert f"hvmctx {name} " in text or name == "dump", name


def test_every_module_of_the_readme_is_there() -> None:
    text = (ROOT / "README.md").read_text()
    names = set(re.findall(r"^\| `(hvmctx[\w.]*)`", text, re.MULTILINE))
    assert "hvmctx.context" in names
    for name in names:
        path = ROOT / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), name
