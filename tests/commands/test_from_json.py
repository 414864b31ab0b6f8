"""from-json as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.builders.running import TOOL, Run
from tests.builders.samples import CONTEXTS, EXAMPLE


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
    text = tmp_path / "brace.json"
    text.write_text("{")
    result = run("from-json", text, "-o", tmp_path / "no")
    assert result.status == 1 and result.err.count("\n") == 1
    result = run("from-json", tmp_path / "absent", "-o", tmp_path / "no")
    assert result.status == 1 and "No such file" in result.err
    assert not (tmp_path / "no").exists()


def test_standard_input_is_json(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "json"
    assert run("to-json", EXAMPLE, "-o", text).status == 0
    for given in (text.read_bytes(), b"\n " + text.read_bytes()):
        done = subprocess.run(
            [sys.executable, TOOL, "from-json", "-", "-o", "-"], input=given, capture_output=True,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr, done.stdout) == (0, b"", EXAMPLE.read_bytes())


def test_changes_in_the_json_are_in_the_image(run: Run, tmp_path: Path) -> None:
    text, out = tmp_path / "json", tmp_path / "out"
    assert run("to-json", EXAMPLE, "-o", text).status == 0
    plain = json.loads(text.read_text())
    (context,) = (item for item in plain["image"]["items"] if item.get("name") == "HVM_CONTEXT")
    context["payload"]["records"][1]["fields"]["rip"] = 0x1234
    text.write_text(json.dumps(plain))
    assert run("from-json", text, "-o", out).status == 0
    assert run("diff", EXAMPLE, out).out == "CPU/0.rip: 0xb7b9 -> 0x1234\n"
    context["payload"]["records"][1]["fields"]["rip"] = 1 << 64
    text.write_text(json.dumps(plain))
    result = run("from-json", text, "-o", tmp_path / "none")
    assert result.status == 1 and "rip is a 64-bit field" in result.err
    assert not (tmp_path / "none").exists()
