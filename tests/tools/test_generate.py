"""What is committed is what `make generate` makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.samples import ROOT
from tools import generate

KINDS = {
    "commands_doc": "docs/commands/get.md",
    "completion": "share/zsh/site-functions/_hvmctx",
    "console": "docs/tutorials/operator.md",
    "format_pages": "docs/formats/context.md",
    "json_schema": "hvmctx/data/hvmctx.schema.json",
    "man_pages": "share/man/man1/hvmctx.1",
    "reference_doc": "docs/reference/context.md",
    "rules_doc": "docs/rules.md",
    "stubs": "hvmctx/abi/x86.pyi",
    "vmport_flaws": "docs/vmport.md",
}
"""One file of some of the scripts."""


@pytest.mark.parametrize("script", generate.SCRIPTS)
def test_committed_files_are_what_is_made(script: str) -> None:
    """Each script is run once, as some take their time."""
    made = generate.generated(script)
    assert KINDS.get(script) is None or KINDS[script] in made
    for name, text in made.items():
        path = Path(ROOT, name)
        assert path.is_file() and path.read_text(encoding="utf-8") == text, "run make generate"


def test_every_kind_is_there() -> None:
    assert set(KINDS) <= set(generate.SCRIPTS) and "generate" not in generate.SCRIPTS
    assert generate.SCRIPTS[-1] == "console"


def test_a_stale_file_is_named_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "ROOT", str(tmp_path))
    monkeypatch.setattr(generate, "SCRIPTS", ["a"])
    monkeypatch.setattr(generate, "generated", lambda script: {"docs/a.md": "new\n"})
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    assert generate.main() == 1 and not (tmp_path / "docs").exists()
    monkeypatch.setattr(sys, "argv", ["generate"])
    assert generate.main() == 0 and (tmp_path / "docs" / "a.md").read_text() == "new\n"
    assert generate.main() == 0 and capsys.readouterr().out == "docs/a.md\ndocs/a.md\n"


def test_as_a_script() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "generate.py", "--check", "limits_doc", "stubs"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
