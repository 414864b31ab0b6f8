"""make torture: each of its parts on a small scale, and the page that is made of its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.builders.floods import FLOODS
from tests.builders.samples import EXAMPLE
from tools import torture, torture_doc


def test_all_parts_run_by_default() -> None:
    assert torture.arguments([]).part == list(torture.PARTS)
    assert torture.arguments(["inputs", "--jobs", "1"]).part == ["inputs"]
    with pytest.raises(SystemExit):
        torture.arguments(["nothing"])


def test_what_has_been_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> NoReturn:
        raise OSError("busy")

    parts: dict[str, Any] = {"load": lambda *_: ({"rows": 1}, []), "faults": fails}
    monkeypatch.setattr(torture, "PARTS", parts)
    monkeypatch.setattr(torture, "MEASURED", tmp_path / "measured")
    monkeypatch.setattr("sys.argv", ["torture.py", "--jobs", "1", "load", "faults"])
    with pytest.raises(OSError, match="busy"):
        torture.main()
    assert json.loads((tmp_path / "measured").read_text())["load"]["rows"] == 1


def test_a_command_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(FLOODS["stream-records"](1000))
    row = torture.measured_run(("info", "IN"), path)
    assert (row["command"], row["status"], row["lines"]) == ("info", 0, 0)
    assert row["memory"] > 5  # and no less than what this process has: Linux counts the fork too


@pytest.mark.parametrize(
    ("status", "memory", "line", "said"),
    [
        (0, 10, "hvmctx: x", ""),
        (-9, 10, "hvmctx: x", "exit status -9: ['hvmctx: x']"),
        (0, torture.MOST_MEMORY + 1, "hvmctx: x", f"{torture.MOST_MEMORY + 1} MiB"),
        (1, 10, "Traceback", "messages: ['Traceback']"),
        (1, 10, "hvmctx: \x1b", "messages: ['hvmctx: \\x1b']"),
    ],
)
def test_what_is_wrong_with_a_run(status: int, memory: int, line: str, said: str) -> None:
    assert torture.wrong_with({"status": status, "memory": memory}, [line]) == said


def test_altered_inputs_are_counted() -> None:
    tried, wrong = torture.attacked(1, 0.005)
    assert sum(tried.values()) > 0 and not wrong


def test_the_page() -> None:
    row = {"flood": "f", "count": 1000, "size": 2048, "seconds": 0.5, "memory": 30,
           "command": "info"}  # fmt: skip
    rows = [{**row, "packed": ""}, {**row, "packed": "zstd", "size": 10, "seconds": 0.25}]
    told = {
        "load": {"date": "today", "size": 1 << 20, "memory": 300, "rows": rows},
        "faults": {"date": "today", "where": "tmpfs", "tried": {"set": 12}},
        "inputs": {"date": "today", "tried": {"dump": 1234}},
    }
    page = torture_doc.document(told)
    assert "| f | 1,000 | 2,048 | 0.5 s info | 30 | 10 | 0.25 s info | 30 |" in page
    assert "| set | 12 | 0 |" in page and "| dump | 1,234 |" in page
    assert "## Load" not in torture_doc.document({"inputs": told["inputs"]})


def test_the_floods_are_as_large_as_is_said() -> None:
    for make in FLOODS.values():
        assert len(make(2000)) > len(make(1000))
    assert EXAMPLE.exists() and set(torture.PARTS) == {"load", "faults", "inputs"}
