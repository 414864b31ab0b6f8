"""The scan by processes: every input has its row, whatever becomes of a worker."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from hvmctx import workers
from hvmctx.scan import scanning
from hvmctx.scan.row import Asked, row_of
from hvmctx.scan.scanning import default_jobs, scan
from tests.builders.samples import EXAMPLE

ASKED = Asked(["4.17"])


def images(folder: Path, count: int) -> list[str]:
    for number in range(count):
        (folder / f"{number}.save").symlink_to(EXAMPLE)
    return [str(folder / f"{number}.save") for number in range(count)]


def by_name(rows: Any) -> dict[str, Any]:
    return {row["input"]: row for row in rows}


def test_processes_do_what_one_does(tmp_path: Path) -> None:
    names = [*images(tmp_path, 20), str(tmp_path / "none\udc80")]
    here = list(scan(names, ASKED, jobs=1))
    assert [row["input"] for row in here] == names
    rows = list(scan(names, ASKED, jobs=2))
    assert len(rows) == len(names) and by_name(rows) == by_name(here)


def deadly(asked: str, names: list[str]) -> list[dict[str, Any]]:
    if any(name.endswith("/3.save") for name in names):
        os.kill(os.getpid(), signal.SIGKILL)
    return [row_of(name, Asked.from_text(asked)) for name in names]


def test_an_image_that_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a row that says so; what else its worker had is done by others."""
    monkeypatch.setattr(scanning, "rows", deadly)
    names = images(tmp_path, 8)
    rows = by_name(scan(names, ASKED, jobs=2))
    assert set(rows) == set(names)
    assert rows[names[3]]["error"] == "a worker was killed by signal 9"
    assert [name for name in names if rows[name]["error"]] == [names[3]]


def test_a_killed_worker_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is killed from outside after the first row."""
    started: list[workers.Pool] = []

    class Known(workers.Pool):
        def __enter__(self) -> Known:
            started.append(self)
            return self

    monkeypatch.setattr(scanning, "Pool", Known)
    names = images(tmp_path, 40)
    found = []
    for row in scan(names, ASKED, jobs=2):
        found.append(row)
        if len(found) == 1:
            os.kill(started[0].pids[0], signal.SIGKILL)
    assert set(by_name(found)) == set(names) and len(found) == 40
    assert not any(row["error"] for row in found)


def test_how_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    assert [default_jobs(count) for count in (0, 1, 63, 64, 128, 10_000)] == [1, 1, 1, 2, 4, 4]
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_jobs(10_000) == 1
