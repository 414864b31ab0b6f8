"""from-json as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.running import Run
from tests.samples import CONTEXTS, EXAMPLE


def test_json_of_a_dump_is_taken_back(run: Run, tmp_path: Path) -> None:
    text, again = tmp_path / "dump.json", tmp_path / "again"
    text.write_text(run(EXAMPLE, "--format", "json").out)
    assert run("from-json", text, "-o", again).status == 0
    assert run("extract", EXAMPLE, "-o", tmp_path / "context").status == 0
    assert again.read_bytes() == (tmp_path / "context").read_bytes()
    text.write_text(json.dumps(json.loads(text.read_text())["context"]))  # what it was once
    result = run("from-json", text, "-o", tmp_path / "no")
    assert result.status == 1 and len(result.err) < 300 and result.err.count("\n") == 1


def test_json_there_and_back(run: Run, tmp_path: Path) -> None:
    for number, path in enumerate([EXAMPLE, *CONTEXTS[:3]]):
        text, again = tmp_path / f"{number}.json", tmp_path / f"{number}.bin"
        assert run("to-json", path, "-o", text, "--hex").status == 0
        assert run("from-json", text, "-o", again).status == 0
        assert again.read_bytes() == path.read_bytes()
    text.write_text("{")
    result = run("from-json", text, "-o", tmp_path / "no")
    assert result.status == 1 and result.err.count("\n") == 1
    result = run("from-json", tmp_path / "absent", "-o", tmp_path / "no")
    assert result.status == 1 and "No such file" in result.err
    assert not (tmp_path / "no").exists()
