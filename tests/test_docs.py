"""What the documents promise is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_difference_has_its_test() -> None:
    text = (ROOT / "docs" / "differences.md").read_text()
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
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
    assert "hvmctx.context.hvm_context" in names
    for name in names:
        path = ROOT / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


def test_what_the_readme_links_to_is_in_the_sdist() -> None:
    text = (ROOT / "README.md").read_text()
    (included,) = re.findall(r"sdist\]\ninclude = (\[.*\])", (ROOT / "pyproject.toml").read_text())
    for target in set(re.findall(r"\]\(([^)#:]+)\)", text)):
        assert (ROOT / target).exists(), target
        assert f'"{target.split("/")[0]}"' in included, target


def test_no_file_hides_a_target_of_the_makefile() -> None:
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert set(phony.split()) == set(re.findall(r"^([a-z]+):", text, re.MULTILINE))
