"""`make fidelity`, over the slices in place of the sets."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tools import fidelity, fidelity_doc


@pytest.fixture
def into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that writes there, and judges the slices of two sets."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "hypervisors").mkdir()
    sets = [
        one
        for one in fidelity.held(fidelity.SLICES)
        if one.release in ("4.17.7", "4.18.6") and one.line
    ]
    monkeypatch.setattr(fidelity, "sets_of", lambda samples: iter(sets))
    monkeypatch.setattr(fidelity, "ROOT", tmp_path)
    monkeypatch.setattr(fidelity_doc, "MEASURED", tmp_path / "measured.json")
    monkeypatch.setattr(sys, "argv", ["fidelity.py", str(tmp_path)])
    return tmp_path


def test_without_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = sys.argv
    sys.argv = ["fidelity.py", str(tmp_path)]
    try:
        assert fidelity.main() == 0
    finally:
        sys.argv = old
    assert capsys.readouterr().out == f"no samples in {tmp_path}: nothing judged\n"
    assert not list(tmp_path.iterdir())


def test_agreement_and_the_page(into: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fidelity.main() == 0
    assert capsys.readouterr().out.endswith(" contexts, 0 differ, 0 of them unexplained\n")
    told = json.loads((into / "measured.json").read_text())
    assert [one["name"] for one in told["sets"]] == ["amd 4.17.7", "amd 4.18.6"]
    rows = [line for line in (into / "docs" / "fidelity.md").read_text().splitlines()
            if line.startswith("| cpu-dr ")]  # fmt: skip
    count = told["sets"][1]["fired"]["cpu-dr"]
    assert len(rows) == 1 and f"| {count} on all | read | " in rows[0]
    assert "4.18.6 refuses" in rows[0]


def test_a_difference_fails(into: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = list(fidelity.sets_of(into))
    accepted = next(answer for answer in sets[0].answers if answer.errno is None)
    accepted.errno = "EINVAL"
    try:
        assert fidelity.main() == 1
    finally:
        accepted.errno = None
    assert capsys.readouterr().out.endswith(" contexts, 1 differ, 1 of them unexplained\n")
    page = (into / "docs" / "fidelity.md").read_text()
    assert f"| {sets[0].name} | {accepted.name} | EINVAL | loaded |  |" in page


def test_slices_are_chosen(into: Path) -> None:
    """Of each rule a refused context and one that is loaded; the same bytes each time."""
    measured = [fidelity.Measured(one) for one in fidelity.sets_of(into)]
    changed = fidelity.changes(measured)
    chosen = fidelity.chosen(measured, changed)
    for one in measured:
        names = chosen[one.set.name]
        assert {v.rule for a, v in one.verdicts if a.name in names and v.rule} == set(one.fired)
        assert any(a.errno is None for a in names.values())
    sets = [one.set for one in measured]
    assert fidelity.archive(sets, chosen) == fidelity.archive(sets, chosen)
