"""to-json as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.builders.running import ROOT, Run, bare
from tests.builders.samples import DATA, EXAMPLE


def test_json_in_a_pipe() -> None:
    text = subprocess.run(
        [sys.executable, "-m", "hvmctx", "to-json", "-", "-o", "-"], input=EXAMPLE.read_bytes(),
        capture_output=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    back = subprocess.run(
        [sys.executable, "-m", "hvmctx", "from-json", "-", "-o", "-"], input=text,
        capture_output=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    assert back == EXAMPLE.read_bytes()


def test_json_without_dataclasses_json() -> None:
    done = bare("to-json", EXAMPLE, "-o", "-")
    assert done.returncode == 1 and b"need dataclasses-json" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_json_there_and_back(busy_context: Path, tmp_path: Path, run: Run) -> None:
    assert run("to-json", busy_context, "-o", tmp_path / "json")[0] == 0
    assert run("from-json", tmp_path / "json", "-o", tmp_path / "again")[0] == 0
    assert (tmp_path / "again").read_bytes() == busy_context.read_bytes()


def test_wide_numbers_as_strings(run: Run, tmp_path: Path) -> None:
    """Which readers that have doubles only would round."""
    plain, wide = tmp_path / "plain", tmp_path / "wide"
    assert run("to-json", EXAMPLE, "-o", plain) == (0, ("", ""))
    assert run("to-json", EXAMPLE, "-o", wide, "--hex") == (0, ("", ""))
    assert largest(json.loads(plain.read_text())) >= 1 << 53
    assert largest(json.loads(wide.read_text())) < 1 << 32
    assert '"0x' in wide.read_text() and '"0x' not in plain.read_text()


def largest(plain: object) -> int:
    if isinstance(plain, dict):
        return max(map(largest, plain.values()), default=0)
    if isinstance(plain, list):
        return max(map(largest, plain), default=0)
    return plain if isinstance(plain, int) else 0


def test_an_existing_file_is_safe(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "json"
    path.write_text("mine")
    result = run("to-json", EXAMPLE, "-o", path)
    assert result.status == 1 and "--force" in result.err and path.read_text() == "mine"
    assert run("to-json", EXAMPLE, "-o", path, "--force").status == 0
    assert json.loads(path.read_text())["image"]["format"] == "xl"


def test_what_has_no_such_form(run: Run, tmp_path: Path) -> None:
    result = run("to-json", DATA / "streams" / "legacy_hvm_w64.in.bin", "-o", tmp_path / "json")
    assert result.status == 1 and "convert it first" in result.err
    assert not list(tmp_path.iterdir())


def test_damage_is_told_of(run: Run, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(EXAMPLE.read_bytes()[:30_000])
    status, said = run("to-json", cut, "-o", tmp_path / "json")
    assert status == 0 and said.err.startswith("hvmctx: warning: libxc: offset 0x")
    assert run("from-json", tmp_path / "json", "-o", tmp_path / "again")[0] == 0
    assert (tmp_path / "again").read_bytes() == cut.read_bytes()
