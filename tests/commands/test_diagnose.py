"""diagnose as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders.running import Run
from tests.builders.samples import EXAMPLE, ROOT

LOGS = ROOT / "examples" / "logs"


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> str:
    monkeypatch.chdir(tmp_path)
    run("set", EXAMPLE, "CPU/0.msr_tsc_aux=0x200000000", "-o", "guest.save")
    return "guest.save"


def test_a_log_alone(run: Run) -> None:
    status, said = run("diagnose", LOGS / "4.20-tsc-aux.log")
    assert status == 1 and said.err == ""
    assert said.out == (
        "line 10: xc: error: Unable to restore HVM context (22 = Invalid argument): "
        "Internal error\n"
        "  libxenguest (EINVAL): the hypervisor refused the HVM context, see line 20\n"
        "line 20: (XEN) d31v0: HVM restore: bad MSR_TSC_AUX 0x200000000\n"
        "  the hypervisor (EINVAL): CPU/0.msr_tsc_aux: msr_tsc_aux has bits above 31 "
        "[cpu-tsc-aux; 4.12 and later]\n"
    )


def test_a_log_and_its_image(refused: str, run: Run) -> None:
    status, said = run("diagnose", LOGS / "4.20-tsc-aux.log", refused)
    lines = said.out.splitlines()
    assert status == 1
    assert "CPU/0.msr_tsc_aux is 0x200000000 in the image: " in lines[3]
    assert lines[4].startswith(
        "guest.save: refuse: Xen newest (the log may be of 4.19 to newest; --release says which): "
        "EINVAL: context: offset "
    )
    assert lines[5:] == [
        "CPU/0 [cpu-tsc-aux]: clears bits above 31, which RDTSCP does not give",
        "  hvmctx set guest.save CPU/0.msr_tsc_aux=0x0 -o OUT  # was 0x200000000",
        "accept: Xen newest takes it with 1 edit (hvmctx repair -o FILE makes them)",
    ]
    status, said = run("diagnose", LOGS / "4.20-tsc-aux.log", EXAMPLE, "--release", "4.20")
    assert status == 1 and "accept: Xen 4.20 would take it" in said.out  # another image's log
    run("set", refused, "CPU/0.cr0=0x80000010", "-o", "worse.save")
    status, said = run("diagnose", LOGS / "4.20-cr0.log", "worse.save", "--release", "4.20")
    assert status == 1 and said.out.endswith("hvmctx repair has no remedy for that\n")


def test_json(refused: str, run: Run) -> None:
    status, said = run(
        "diagnose", LOGS / "4.20-tsc-aux.log", refused, "--release", "4.20", "--format", "json"
    )
    document = json.loads(said.out)
    assert status == 1 and document["release"] == "4.20" and document["releases"] == ["4.20"]
    line = next(each for each in document["lines"] if each["kind"] == "reason")
    assert (line["line"], line["kind"], line["record"], line["field"], line["value"]) == (
        20, "reason", "CPU/0", "msr_tsc_aux", "0x200000000"
    )  # fmt: skip
    assert [rule["id"] for rule in line["rules"]] == ["cpu-tsc-aux"]
    assert document["before"]["rule"] == "cpu-tsc-aux"
    assert document["verdict"]["verdict"] == "accept"
    assert [edit["path"] for edit in document["edits"]] == ["CPU/0.msr_tsc_aux"]


def test_standard_input_and_hostile_text(tmp_path: Path, run: Run) -> None:
    hostile = tmp_path / "log"
    hostile.write_bytes(
        b"\x1b[2J\xff\xfe restore: bad CR0 0x1 \x1b]0;owned\x07\r\n"
        b"HVM restore d1: failed to load \xe2\x80\xae:5 rc -22\n" + b"x" * 100_000
    )
    status, said = run("diagnose", hostile)
    assert status == 1 and "cpu-cr0" in said.out
    assert all(c.isprintable() for line in said.out.split("\n") for c in line)
    status, said = run("diagnose", hostile, "--format", "json")
    assert said.out.isascii() and json.loads(said.out)["lines"]


def test_a_log_of_very_many_restores(tmp_path: Path, run: Run) -> None:
    (tmp_path / "log").write_text("HVM1 restore: bad CR0 0x1\n" * 30)
    status, said = run("diagnose", tmp_path / "log", "--limits", "rule_findings=20")
    assert status == 1 and said.out.count("cpu-cr0") == 20
    assert said.err == (
        "hvmctx: warning: only the first 20 lines that matter are told; "
        "--limits rule_findings=N allows more\n"
    )


def test_nothing_in_the_log(tmp_path: Path, run: Run) -> None:
    (tmp_path / "log").write_text("Nov 28 sshd: hello\n")
    status, said = run("diagnose", tmp_path / "log")
    assert (status, said.out) == (0, "no line of this log says that a restore was refused\n")
    status, said = run("diagnose", tmp_path / "log", EXAMPLE, "--release", "4.17")
    assert status == 0 and "would take it" in said.out


@pytest.mark.parametrize(
    "arguments",
    [("-", "-"), ("no/such/log",), ("7",), ("README.md", "--vcpus", "0"),
     ("README.md", "--release", "x"), ("README.md", "--max-size", "10")],
)  # fmt: skip
def test_what_cannot_be_read(
    arguments: tuple[str, ...], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    status, said = run("diagnose", *arguments)
    assert status == 2 and said.out == ""
