from __future__ import annotations

from pathlib import Path

import pytest

from hvmctx.fuzz.campaign import Engine, Summary, campaign
from hvmctx.fuzz.corpus import Corpus
from hvmctx.fuzz.target import Target
from hvmctx.fuzz.targets import TARGETS


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
    engine.step()
    assert engine.summary.executions == 2 and len(engine.summary.findings) == 1
