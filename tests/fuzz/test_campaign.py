from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hvmctx.fuzz.campaign import Engine, Summary, campaign
from hvmctx.fuzz.corpus import Corpus
from hvmctx.fuzz.target import Target
from hvmctx.fuzz.targets import TARGETS
from tests.builders.running import ROOT, TOOL


def test_reproducible_from_the_seed(tmp_path: Path) -> None:
    one, two = (campaign("vmport", str(tmp_path / n), seed=5, executions=400) for n in "ab")
    assert one.executions == two.executions == 400
    assert Corpus(str(tmp_path / "a")).names() == Corpus(str(tmp_path / "b")).names()
    assert one.reached == two.reached and one.rules > 20 and not one.findings
    three = campaign("vmport", str(tmp_path / "c"), seed=6, executions=400)
    assert Corpus(str(tmp_path / "c")).names() != Corpus(str(tmp_path / "a")).names()
    assert three.known == one.known


def test_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    place = str(tmp_path)
    before = campaign("vmport", place, executions=300)
    after = campaign("vmport", place, executions=len(Corpus(place).names()) + 20)
    assert before.reached <= after.reached


def test_jobs_share_a_corpus(tmp_path: Path) -> None:
    shown: list[Summary] = []
    summary = campaign("vmport", str(tmp_path), seconds=3, jobs=2, progress=shown.append)
    assert shown and shown[-1].executions > 0 and shown[-1].rules > 0
    assert summary.executions >= shown[-1].executions and summary.corpus == len(
        Corpus(str(tmp_path)).names()
    )
    assert [count for _, count in summary.timeline] == sorted(c for _, c in summary.timeline)


PATIENCE = 60
"""Seconds after which a test has failed."""


def start(place: Path, *, jobs: int, cwd: Path) -> subprocess.Popen[str]:
    """A campaign of the command, once all its jobs run and have kept something."""
    place.mkdir()
    words = ["--target", "vmport", "--corpus", str(place), "--time", "1h", "--jobs", str(jobs)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # else nohup's: ignored
    process = subprocess.Popen(
        [sys.executable, TOOL, "fuzz", "campaign", *words], cwd=cwd, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    end = time.monotonic() + PATIENCE
    while len(children(process.pid)) < (jobs if jobs > 1 else 0) or not Corpus(str(place)).names():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    return process


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


def ended(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_killed_job_ends_the_campaign(tmp_path: Path) -> None:
    process = start(tmp_path / "c", jobs=2, cwd=tmp_path)
    jobs = children(process.pid)
    os.kill(jobs[0], signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and not out
    assert re.fullmatch(
        r"hvmctx: worker . of 2 was killed by signal 9; what was found before is in .*/c\n", err
    )
    assert ended(jobs) and Corpus(str(tmp_path / "c")).names()


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c(jobs: int, tmp_path: Path) -> None:
    """It ends with what was found until then."""
    process = start(tmp_path / "c", jobs=jobs, cwd=tmp_path)
    workers = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and not err
    assert out.startswith("vmport: ") and "rules reached" in out
    assert ended(workers) and len(workers) == (jobs if jobs > 1 else 0)


def test_ctrl_c_among_the_first_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target's own inputs are run before all others."""
    runs = []

    def run(data: bytes) -> set[str]:
        runs.append(data)
        if len(runs) == 2:
            raise KeyboardInterrupt
        return {"version"}

    monkeypatch.setattr(TARGETS["vmport"], "run", run)
    summary = campaign("vmport", str(tmp_path))
    assert summary.interrupted and summary.executions == 2 and summary.corpus == 1


def test_jobs_end_when_nobody_waits_for_them(tmp_path: Path) -> None:
    process = start(tmp_path / "c", jobs=2, cwd=tmp_path)
    jobs = children(process.pid)
    process.kill()
    process.communicate(timeout=PATIENCE)
    end = time.monotonic() + PATIENCE
    while not ended(jobs):
        assert time.monotonic() < end
        time.sleep(0.05)


HOSTILE = "raise SystemExit(open(__file__ + '.ran', 'w').close())\n"


@pytest.mark.parametrize("entry", ["installed", "tool"])
def test_nothing_is_imported_from_the_working_directory(entry: str, tmp_path: Path) -> None:
    """A module for each name of the standard library lies there."""
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in (*sys.stdlib_module_names, "sitecustomize", "usercustomize", "hypothesis"):
        (hostile / f"{name}.py").write_text(HOSTILE)
    (tmp_path / "hvmctx").write_text("import sys\nfrom hvmctx.cli import main\nsys.exit(main())\n")
    program = {"installed": str(tmp_path / "hvmctx"), "tool": TOOL}[entry]
    done = subprocess.run(
        [sys.executable, program, "fuzz", "campaign", "--target", "vmport", "--corpus", "c",
         "--executions", "20", "--jobs", "2"],
        cwd=hostile, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.startswith("vmport: ") and done.returncode == 0, done.stderr
    assert not list(hostile.glob("*.ran"))


def test_findings_are_small_and_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes) -> set[str]:
        assert b"\x07" not in data
        return {"rule"}

    target = Target("broken", broken, ("rule", "other"), lambda rng: [b"seed"],
                    lambda data, rng: data + bytes((rng.randrange(16),)))  # fmt: skip
    monkeypatch.setitem(TARGETS, "broken", target)
    summary = campaign("broken", str(tmp_path), executions=200)
    (finding,) = summary.findings
    assert Path(finding).read_bytes() == b"\x07"
    assert "AssertionError in test_campaign.py, broken" in Path(f"{finding}.txt").read_text()
    assert summary.missing == ["other"]
    assert "not reached: other" in summary.text() and finding in summary.text()


def test_an_engine_without_seeds_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes) -> set[str]:
        raise ValueError

    target = Target("broken", broken, (), lambda rng: [b"seed"], lambda data, rng: data)
    engine = Engine(target, Corpus(str(tmp_path)), 1)
    engine.begin()
    engine.step()
    assert engine.summary.executions == 2 and len(engine.summary.findings) == 1
