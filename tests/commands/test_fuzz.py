"""fuzz run and fuzz diff as a user types them; of the campaign its arguments and files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hvmctx.cli import main
from hvmctx.fuzz import differential
from hvmctx.fuzz.reference import SOURCE
from hvmctx.fuzz.target import Target
from hvmctx.fuzz.targets import TARGETS
from hvmctx.live.xen import DomainState, Xen
from tests.builders.running import TOOL, Run
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.standin import PAUSED, StandIn


def test_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "context"
    path.write_bytes(context_bytes())
    assert main(["fuzz", "run", "context", str(path), str(path)]) == 0
    assert capfd.readouterr() == ("", "")


def test_run_that_finds(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(data: bytes) -> set[str]:
        raise AssertionError("broken")

    target = Target("broken", broken, (), lambda rng: [], lambda data, rng: data)
    monkeypatch.setitem(TARGETS, "broken", target)
    (tmp_path / "f").write_bytes(b"")
    assert main(["fuzz", "run", "broken", str(tmp_path / "f")]) == 1
    assert "AssertionError: broken" in capfd.readouterr().err


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler")
def test_diff_against_the_reference(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(differential, "_TRIES", 20)  # it may stay large
    how = ["fuzz", "diff", "--against", "c-reference", "-o", str(tmp_path / "out")]
    assert main([*how, "--count", "200"]) == 0
    assert capfd.readouterr().out == "200 inputs, no disagreement\n"
    altered = tmp_path / "altered.c"
    altered.write_text(Path(SOURCE).read_text().replace("get16(data) != 21 || ", ""))
    assert main([*how, "--count", "5000", "--source", str(altered)]) == 1
    assert "vmport-1.bin: model errno ESRCH" in capfd.readouterr().out
    assert (tmp_path / "out" / "vmport-1.txt").exists()


@pytest.mark.parametrize("kind", ["context", "image"])
def test_diff_against_a_command(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from hvmctx.cli import main\n"
        "sys.exit(main(['restore', sys.argv[1], '--release', '4.17', '--layer', sys.argv[2]]))\n"
    )
    command = f"command:{sys.executable} {program} {{}} context"
    how = ["--kind", kind, "--release", "4.17", "--count", "4", "-o", str(tmp_path / "out")]
    if kind == "context":
        assert main(["fuzz", "diff", "--against", command, *how, "--base", str(EXAMPLE)]) == 0
        assert capfd.readouterr().out == "4 inputs, no disagreement\n"
    else:
        assert main(["fuzz", "diff", "--against", "command:false", *how]) == 1
        assert "model accept, other refuse" in capfd.readouterr().out


def test_diff_against_what_is_no_command(capfd: pytest.CaptureFixture[str]) -> None:
    for command in ("command:'", "command:", 'command:a "b'):
        assert main(["fuzz", "diff", "--against", command, "--kind", "context"]) == 1
        said = capfd.readouterr()
        assert "command" in said.err and said.err.count("\n") == 1 and not said.out


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("run",), ("run", "nope", "f"), ("diff", "--against", "x"),
        ("diff", "--against", "command:true", "--source", "x.c"),
        ("diff", "--kind", "context"),
        *(("diff", "--against", "command:true", "--kind", "context", "--count", count)
          for count in ("-1", "0", str(1 << 70))),
        ("diff", "--against", "command:true", "--kind", "context", "--vcpus", "-4"),
        ("diff", "--against", "c-reference", "--count", "-1"),
        *(("campaign", "--target", "context", "--corpus", "/none", *numbers) for numbers in (
            ("--executions", "0"), ("--executions", "-5"), ("--jobs", "0"),
            ("--jobs", str(1 << 70)), ("--time", "nan"), ("--time", "infh"), ("--time", "-1s"),
        )),
        ("diff", "--against", "c-reference", "--kind", "image"),
    ],
)  # fmt: skip
def test_usage(arguments: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", *arguments]) == 2
    said = capfd.readouterr()
    assert said.err.count("\n") == 1 and not said.out


def test_campaign(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    how = ["--target", "vmport", "--corpus", str(tmp_path / "c"), "--executions", "200"]
    files = ["--json", str(tmp_path / "json"), "--html", str(tmp_path / "html")]
    assert main(["fuzz", "campaign", *how, *files]) == 0
    assert capfd.readouterr().out.startswith("vmport: 200 executions in ")
    plain = json.loads((tmp_path / "json").read_text())
    assert plain["rules_known"] == len(TARGETS["vmport"].known) and plain["findings"] == []
    assert (tmp_path / "html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    "arguments",
    [("--target", "nope", "--corpus", "c"), ("--target", "vmport"),
     ("--target", "vmport", "--corpus", "c", "--time", "soon"),
     ("--target", "vmport", "--corpus", "c", "--time", "0")],
)  # fmt: skip
def test_usage_of_campaign(arguments: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", "campaign", *arguments]) == 2
    assert capfd.readouterr().err.count("\n") == 1


# ------------------------------------------------------------------- against the running Xen


@pytest.fixture
def paused(stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Domain 7, paused, which a made-up xl also makes."""
    stand_in.state.flags |= PAUSED
    stand_in.state.type = b"hvm"
    xl = tmp_path / "xl"
    xl.write_text('#!/bin/sh\n[ "$1" = domid ] && echo 7; :\n')
    xl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return stand_in


KIND = ("fuzz", "diff", "--kind", "context")


def numbers_of(line: str) -> tuple[int, int]:
    """How many contexts were tried, and how many not, by the last line of a run."""
    found = re.fullmatch(
        r"Xen 4\.17\.7: (\d+) contexts, \d+ taken, \d+ a minute, (\d+) not tried as the "
        r"hypervisor would die of them, \d+ disagreements of \d+ kinds", line,
    )  # fmt: skip
    assert found is not None, line
    return int(found[1]), int(found[2])


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to be on the disk: no machine crashes. (4,000 inputs, 3 ms for each.)"""
    monkeypatch.setattr(os, "fdatasync", lambda _: None)


@pytest.mark.parametrize("against", ["domain:7", "lab"])
@pytest.mark.usefixtures("no_waiting")
def test_against_the_hypervisor(against: str, paused: StandIn, run: Run, tmp_path: Path) -> None:
    """The stand-in knows no rules: what the model refuses is a disagreement."""
    place = tmp_path / "out"
    done = run(*KIND, "--against", against, "--count", "40", "-o", place)
    lines = done.out.splitlines()
    tried, spared = numbers_of(lines[-1])
    assert done.status == 1 and tried + spared == 40 and paused.state.loaded >= tried > 30
    assert len(lines) - 1 == len(list(place.glob("context-1-*.bin"))) > 0
    assert not (place / "trying").exists()


@pytest.mark.usefixtures("no_waiting")
def test_after_a_crash(paused: StandIn, libraries: Path, run: Run, tmp_path: Path) -> None:
    """The 17th load takes the machine with it: what was tried is on the disk."""
    place = tmp_path / "out"
    words = [*KIND, "--against", "domain:7", "--count", "30", "-o", str(place)]
    environment = {**os.environ, **paused.environment(libraries), "STAND_IN_CRASH": "17"}
    done = subprocess.run([sys.executable, TOOL, *words], env=environment, check=False)
    assert done.returncode == 99 and (place / "trying").exists()
    done_ = run(*words)
    assert done_.status == 2 and "a run has not come to its end; --resume goes on" in done_.err
    done_ = run(*words, "--resume")
    assert done_.status == 1 and "ended while this was tried" in done_.out.splitlines()[0]
    (crash,) = place.glob("crash-1-*.bin")
    assert crash.stat().st_size and not (place / "trying").exists()
    number = int(crash.stem.rpartition("-")[2])
    assert sum(numbers_of(done_.out.splitlines()[-1])) == 30 - number - 1
    done_ = run(*words, "--resume")
    assert done_.status == 2 and "no run to resume" in done_.err
    (place / "trying").write_bytes(b"torn")
    done_ = run(*words, "--resume")
    assert "nothing was tried, or it is damaged" in done_.err
    assert sum(numbers_of(done_.out.splitlines()[-1])) == 30


def test_the_domain_goes_away(
    paused: StandIn, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was tried last may be why: it stays to be blamed."""
    monkeypatch.setenv("STAND_IN_FAIL", "xc_domain_hvm_setcontext:3")
    monkeypatch.setattr(Xen, "state", _gone_after_the_first(Xen.state))
    place = tmp_path / "out"
    done = run(*KIND, "--against", "domain:7", "--count", "5", "-o", place)
    assert done.status == 1 and "no such domain" in done.err
    assert (place / "trying").exists()


def _gone_after_the_first(state: Callable[[Xen, int], DomainState]) -> Callable[[Xen, int], Any]:
    asked = []

    def ask(xen: Xen, domid: int) -> DomainState:
        asked.append(domid)
        return state(xen, domid if len(asked) == 1 else 8)

    return ask


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kind", "vmport", "--against", "lab"], "--kind context"),
        (["--kind", "context", "--against", "domain:x"], "expected domain:DOMID or lab"),
        (["--kind", "context", "--against", "lab", "--release", "4.17"], "--release is for other"),
        (["--kind", "context", "--against", "domain:7", "--vcpus", "1"], "is for --against lab"),
        (["--against", "c-reference", "--resume"], "are for domain:DOMID and lab"),
        (["--kind", "context", "--against", "domain:7"], "domain 7 runs; pause it"),
    ],
)
def test_usage_of_the_hypervisor(
    words: list[str], said: str, stand_in: StandIn, run: Run, tmp_path: Path
) -> None:
    done = run("fuzz", "diff", *words, "-o", tmp_path / "out")
    assert done.status == 2 and said in done.err
    assert not (tmp_path / "out" / "trying").exists()
