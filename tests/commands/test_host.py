"""`hvmctx host`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.builders.hosts import CPUID, INFO
from tests.builders.running import Run
from tests.builders.standin import StandIn


def test_this_machine(stand_in: StandIn, run: Run, tmp_path: Path) -> None:
    done = run("host")
    assert done.status == 0 and json.loads(done.out)["hvmctx_host"] == 1
    assert run("host", "-o", tmp_path / "host.json").status == 0
    assert (tmp_path / "host.json").read_text() == done.out
    assert run("host", "-o", tmp_path / "host.json").status == 1


def test_text(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cpuid").write_bytes(CPUID)
    (tmp_path / "info").write_bytes(INFO)
    plain = json.loads(run("host", "--from-text", tmp_path / "cpuid", tmp_path / "info").out)
    assert plain["xen"]["version"] == "4.20.5-pre"
    assert json.loads(run("host", "--from-text", tmp_path / "cpuid").out)["tsc"]["khz"] == 0
    assert run("host", "--from-text", *[tmp_path / "cpuid"] * 3).status == 2
    done = run("host", "--from-text", tmp_path / "info")
    assert done.status == 1 and "no CPU policy" in done.err
