"""What is committed is what `make generate` makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.samples import ROOT
from tools import generate

GENERATED = generate.generated()


@pytest.mark.parametrize("name", GENERATED)
def test_committed_file_is_what_is_made(name: str) -> None:
    assert Path(ROOT, name).read_text(encoding="utf-8") == GENERATED[name], "run make generate"


def test_every_kind_is_there() -> None:
    kinds = {"docs/rules.md", "docs/vmport.md", "hvmctx/data/hvmctx.schema.json"}
    assert {*kinds, "hvmctx/abi/x86.pyi"} <= set(GENERATED)


def test_a_stale_file_is_named_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "ROOT", str(tmp_path))
    monkeypatch.setattr(generate, "generated", lambda: {"docs/a.md": "new\n"})
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    assert generate.main() == 1 and not (tmp_path / "docs").exists()
    monkeypatch.setattr(sys, "argv", ["generate"])
    assert generate.main() == 0 and (tmp_path / "docs" / "a.md").read_text() == "new\n"
    assert generate.main() == 0 and capsys.readouterr().out == "docs/a.md\ndocs/a.md\n"


def test_as_a_script() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "generate.py", "--check"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
