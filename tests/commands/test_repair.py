"""repair as a user types it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.builders.running import Run
from tests.builders.samples import EXAMPLE, ROOT, context_bytes
from tools.policies import held


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> str:
    """An image of two faults."""
    monkeypatch.chdir(tmp_path)
    settings = ("CPU/0.msr_tsc_aux=0x10000000003", "PIT/0.channels[1].gate=0")
    run("set", EXAMPLE, *settings, "-o", "refused.save")
    os.chmod("refused.save", 0o600)
    return "refused.save"


SHOWN = """\
PIT/0 [pit-gate]: opens the gates, which are always open on a PC
  hvmctx set refused.save 'PIT/0.channels[1].gate=0x1' -o OUT  # was 0x0
CPU/0 [cpu-tsc-aux]: clears bits above 31, which RDTSCP does not give
  hvmctx set refused.save CPU/0.msr_tsc_aux=0x3 -o OUT  # was 0x10000000003
accept: Xen 4.20 takes it with 2 edits (hvmctx repair -o FILE makes them)
"""


def test_it_shows_the_edits_and_writes_on_demand(refused: str, run: Run) -> None:
    status, said = run("repair", refused, "--release", "4.20")
    assert (status, said.out) == (0, SHOWN)
    status, said = run("repair", refused, "--release", "4.20", "-o", "mended.save")
    assert (status, said.out) == (0, f"{SHOWN}written to mended.save\n")
    assert run("restore", "mended.save", "--release", "4.20").status == 0
    assert os.stat("mended.save").st_mode & 0o777 == 0o600
    status, said = run("repair", refused, "--release", "4.20", "-o", "mended.save")
    assert status == 1 and "exists" in said.err and "written" not in said.out
    status, said = run("repair", "mended.save", "--release", "4.20", "-o", "again.save")
    written = "accept: Xen 4.20 takes it as it is\nwritten to again.save\n"
    assert (status, said.out) == (0, written)
    assert Path("again.save").read_bytes() == Path("mended.save").read_bytes()


def test_the_commands_that_it_shows_do_the_same(refused: str, run: Run) -> None:
    """One after the other they make the image that -o writes."""
    import shlex

    _, said = run("repair", refused, "--release", "4.20", "-o", "mended.save")
    at = refused
    for number, line in enumerate(line for line in said.out.splitlines() if "hvmctx set" in line):
        words = shlex.split(line, comments=True)[1:]
        words[1], words[-1] = at, f"step{number}.save"
        assert run(*words).status == 0
        at = words[-1]
    assert Path(at).read_bytes() == Path("mended.save").read_bytes()


def test_what_cannot_be_repaired(refused: str, run: Run) -> None:
    run("set", refused, "CPU/0.cr0=0x80000010", "-o", "worse.save")
    status, said = run("repair", "worse.save", "--release", "4.20", "-o", "mended.save")
    assert status == 1 and not Path("mended.save").exists()
    last = said.out.splitlines()[-1]
    assert last.startswith(
        "cannot be repaired: even with the 1 edit above Xen 4.20 refuses it: EINVAL"
    )
    assert last.endswith("[cpu-cr0]")


def test_json(refused: str, run: Run) -> None:
    status, said = run("repair", refused, "--release", "4.17", "--format", "json")
    document = json.loads(said.out)
    assert status == 0 and document["verdict"]["verdict"] == "accept"
    assert document["edits"] == [
        {
            "verb": "set", "path": "CPU/0.msr_tsc_aux", "before": 0x10000000003, "value": 3,
            "rule": "cpu-tsc-aux", "reason": "clears bits above 31, which RDTSCP does not give",
        }
    ]  # fmt: skip


def test_a_bare_context_and_the_policy_of_an_image(tmp_path: Path, run: Run) -> None:
    (tmp_path / "cut.hvm").write_bytes(context_bytes()[:-8])
    status, said = run("repair", tmp_path / "cut.hvm", "--policy", EXAMPLE, "--vcpus", "1")
    assert status == 0 and "--add END/0= -o OUT" in said.out


@pytest.mark.parametrize(
    "arguments", [("--vcpus", "0"), ("-o", "-"), ("--release", "9"), ("--policy", "nothing")]
)
def test_usage(arguments: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    (tmp_path / "bare").write_bytes(context_bytes())
    status, said = run("repair", tmp_path / "bare", *arguments)
    assert status == (1 if "nothing" in arguments else 2) and said.out == ""


def test_a_host(refused: str, run: Run) -> None:
    """Its Xen is the release that is meant."""
    host = held()[0].host
    Path("host.json").write_text(json.dumps(host.as_dict()))
    run("set", refused, "CPUID[0].eax=0x99", "-o", "far.save")
    status, said = run("repair", "far.save", "--host", "host.json")
    assert status == 0 and f"accept: Xen {host.release} takes it with " in said.out
    assert "  hvmctx set far.save 'CPUID[0].eax=0xd' -o OUT  # was 0x99\n" in said.out
    log = ROOT / "examples" / "logs" / "4.17-cpu-policy.log"
    status, said = run("diagnose", log, "far.save", "--host", "host.json")
    assert status == 1 and "[cpuid-policy-basic]" in said.out and "CPUID[0].eax=0xd" in said.out
    assert run("repair", "far.save", "--host", "no.json").status == 2
