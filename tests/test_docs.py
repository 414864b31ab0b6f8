"""What the documents promise is there, and what they show runs: every Python block, every line of
a shell block."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from ast import literal_eval
from fnmatch import fnmatch
from pathlib import Path

import pytest

from hvmctx.abi import streams
from hvmctx.cli import _parse, command_of
from hvmctx.context.hvm_context import HvmContext
from hvmctx.fuzz.differential import Loader
from hvmctx.image.image import open_image
from tests.builders.contexts import length
from tests.builders.documents import DOCUMENTS, LINES, NOT_RUN, PYTHON, Block, make_files, shorter
from tests.builders.running import Run
from tests.builders.samples import EXAMPLE, ROOT, context_bytes

STATUS: dict[str, int] = {
    "hvmctx diagnose restore.log": 1,  # a restore was refused
    "hvmctx fuzz diff --kind context": 1,  # loaders that check too little
}
"""Of the lines that do not exit with 0."""


def _place(block: Block) -> str:
    return block.place


@pytest.mark.parametrize("block", PYTHON, ids=_place)
def test_python_blocks_run(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_files(re.findall(r'"([\w.-]+)"', block.code), tmp_path)
    (tmp_path / "bin").mkdir()  # for those who lack the genuine restore
    (tmp_path / "bin" / "restore-oracle").symlink_to(shutil.which("true") or "/bin/true")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    code = compile("\n" * (block.line - 1) + block.code, str(block.document), "exec")
    exec(code, {"__name__": "__main__"})


def _why_not(line: Block) -> str | None:
    return next((why for begins, why in NOT_RUN.items() if line.code.startswith(begins)), None)


@pytest.mark.parametrize("line", [line for line in LINES if not _why_not(line)], ids=_place)
def test_shell_lines_run(
    line: Block, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(shorter(line.code), comments=True)
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert all(re.search(rf"^{word}:", makefile, re.MULTILINE) for word in words[1:])
        return
    monkeypatch.setattr(Loader, "tries", 10)  # what it finds may stay large
    if words[1:3] == ["fuzz", "diff"] and shutil.which("gcc") is None:
        pytest.skip("no compiler")
    monkeypatch.chdir(tmp_path)
    make_files(words, tmp_path)
    expected = next((n for begins, n in STATUS.items() if line.code.startswith(begins)), 0)
    if words[0] == "hvmctx":
        found, said = run(*words[1:])
        assert found == expected, said.err
    else:
        assert words[0].startswith("python") and (ROOT / words[1]).is_file(), line.code
        done = subprocess.run(
            [sys.executable, ROOT / words[1], *words[2:]], capture_output=True, check=False
        )
        assert done.returncode == expected, done.stderr


@pytest.mark.parametrize("line", [line for line in LINES if _why_not(line)], ids=_place)
def test_shell_lines_that_are_not_run(line: Block) -> None:
    program, *arguments = shlex.split(line.code, comments=True)
    if program == "hvmctx":
        name = "dump" if arguments[0].isdigit() else arguments.pop(0)
        _parse(command_of(name), name, arguments)


def test_every_line_that_is_not_run_is_there() -> None:
    for begins in (*NOT_RUN, *STATUS):
        assert any(line.code.startswith(begins) for line in LINES), begins


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


def test_the_readme_names_every_room() -> None:
    text = (ROOT / "README.md").read_text()
    names = {
        name
        for row in re.findall(r"^\| (`hvmctx.*?) \|", text, re.MULTILINE)
        for name in re.findall(r"`(.*?)`", row)
    }
    rooms = {path.parent.name for path in (ROOT / "hvmctx").glob("*/__init__.py")}
    assert names - {"hvmctx"} == {f"hvmctx.{room}" for room in rooms - {"commands"}}
    for name in names:
        path = ROOT / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


def test_what_the_readme_links_to_is_in_the_sdist() -> None:
    text = (ROOT / "README.md").read_text()
    (included,) = re.findall(r"sdist\]\ninclude = (\[.*\])", (ROOT / "pyproject.toml").read_text())
    for target in set(re.findall(r"\]\(([^)#:]+)\)", text)):
        assert (ROOT / target).exists(), target
        assert any(fnmatch(target.split("/")[0], name) for name in literal_eval(included)), target


def test_no_file_hides_a_target_of_the_makefile() -> None:
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert set(phony.split()) == set(re.findall(r"^([a-z-]+):(?!=)", text, re.MULTILINE))


def test_commit_hooks_check_what_lint_does() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    makefile = (ROOT / "Makefile").read_text()
    _, _, lint = makefile.partition("\nlint:")
    programs = re.findall(
        r"^\t\$\(VENV\)/bin/(.*?)(?: --| \.|$)", lint.split("\n\n")[0], re.MULTILINE
    )
    assert programs == ["ruff check", "ruff format", "mypy", "basedpyright", "zizmor"]
    for program in programs:
        assert f"entry: .venv/bin/{program}" in hooks, program


LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text()):
        assert (document.parent / target).exists(), target


MODULE = re.compile(r"\b((?:\w+/)*[\w-]+\.py)\b")


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_modules_that_are_named_are_there(name: str) -> None:
    text = (ROOT / name).read_text()
    named = set(MODULE.findall(text)) - set(re.findall(r"\bAs `(.*)`:", text))
    assert len(named) > 5
    for module in named:
        assert any((ROOT / place / module).is_file() for place in ("", "hvmctx", "tests")), module


def test_the_finding_on_the_page_is_what_verify_says(run: Run, tmp_path: Path) -> None:
    context = HvmContext.from_bytes(context_bytes())
    length("CPU/0", 1)(context)
    (tmp_path / "context.bin").write_bytes(context.to_bytes())
    page = (ROOT / "docs" / "architecture.md").read_text()
    (line,) = re.findall(r"^    (error: .*)$", page, re.MULTILINE)
    assert run("verify", tmp_path / "context.bin").out.splitlines()[0] == line
    with open_image(EXAMPLE) as image:
        record = image.last("libxc", streams.LIBXC_HVM_CONTEXT)
        assert record is not None
        assert f"HVM_CONTEXT lies at {record.offset:#x}, {record.length} bytes" in page


def test_every_decision_is_in_their_list() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(
        r"^\| \[(\d{4})\]\((\S+)\)", (folder / "README.md").read_text(), re.MULTILINE
    )
    assert [name for _, name in listed] == sorted(path.name for path in folder.glob("0*.md"))
    for number, name in listed:
        text = (folder / name).read_text()
        assert text.startswith(f"# {number}: ") and name.startswith(f"{number}-")
        titles = re.findall(r"^## (.*)", text, re.MULTILINE)
        assert titles == ["Context", "Decision", "Consequences"]


OUTSIDE = re.compile(r"\.\./shared|work/shared|\bfacts/|(?<!docs/)\bdesign\.md")


def test_nothing_points_to_a_document_outside_of_the_repository() -> None:
    folders = ("hvmctx", "tools", "tests", "benchmarks", "fuzz", "docs", "examples")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    for path in [*ROOT.glob("*.*"), *(ROOT / ".ci").iterdir(), ROOT / "Makefile", *paths]:
        text = path.suffix in (".py", ".md", ".toml", ".sh", ".yaml", "") and path.is_file()
        if text and path != Path(__file__):
            assert not OUTSIDE.search(path.read_text()), path


def test_pages_that_code_names_are_there() -> None:
    named = {
        (page, path.relative_to(ROOT).as_posix())
        for folder in ("hvmctx", "tools", "benchmarks", "fuzz")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for page in re.findall(r"\bdocs/[\w./-]*\.md\b", path.read_text())
    }
    assert named and {(page, by) for page, by in named if not (ROOT / page).is_file()} == set()
