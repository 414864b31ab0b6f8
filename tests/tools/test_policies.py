"""tools/policies.py: answers of hypervisors about CPU policies."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hvmctx.restore.policy_forms import from_pol
from tools import policies


@pytest.fixture
def run_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments for a run that policies.sh has printed, and places to write to."""
    monkeypatch.setattr(policies, "HELD", tmp_path / "held.tar.xz")
    monkeypatch.setattr(policies, "COUNTS", tmp_path / "counts.json")
    one = next(one for one in HELD if one.name.endswith("samples"))
    leaves, msrs = from_pol(one.first)
    shown = one.host.as_dict()["policies"]
    text = []
    for name, title in (("raw", "Raw"), ("host", "Host"), ("hvm_max", "HVM Max")):
        text += [f"{title} policy: 1 leaves, 1 MSRs", *shown[name]["cpuid"], *shown[name]["msr"]]  # type: ignore
    told = {"xen-cpuid -p": "\n".join(text), "xl info": "xen_version : 4.17.7\n"}
    lines = [{"host": {**told, "cpuid": leaves, "msr": msrs}}]
    for answer, policy in one.answers:
        (tmp_path / answer["name"]).write_bytes(policy)
        lines.append({name: value for name, value in answer.items() if name != "policy"})
    (tmp_path / "answers").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return ["policies.py", "a set", "4.17", "hvm", str(tmp_path / "answers"), str(tmp_path)]


HELD = policies.held()


def test_a_run(run_of: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", run_of)
    assert policies.main() == 0 == policies.main(), "a set of the same name is replaced"
    (told,) = json.loads(policies.COUNTS.read_text())
    assert told["name"] == "a set" and told["policies"] > 20 and not told["differ"]
    (again,) = policies.held()
    assert {outcome.rule.id for _, p in again.answers if (outcome := again.outcome(p)).rule} == {
        *told["rules"]
    }


def test_a_difference(run_of: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(run_of[4])
    lines = place.read_text().splitlines()
    changed = {**json.loads(lines[1]), "msr": [[1, 0, 1]]}
    place.write_text("\n".join([lines[0], json.dumps(changed), *lines[2:]]))
    monkeypatch.setattr(sys, "argv", run_of)
    assert policies.main() == 1
    (told,) = json.loads(policies.COUNTS.read_text())
    assert told["differ"] == [changed["name"]]
    assert policies.main() == 1


def test_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["policies.py"])
    assert policies.main() == 2
