"""`hvmctx place`, and `--host` of verify and restore."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from hvmctx.restore.host import Host
from tests.builders.running import Run
from tests.builders.samples import DATA, EXAMPLE
from tools.policies import held

OTHER = DATA / "images" / "hvm2x420.save"


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    """One that takes the example, one that lacks what it has switched on, and its own."""
    place = tmp_path / "hosts"
    place.mkdir()
    host = held()[0].host
    (place / "all.json").write_text(json.dumps(host.as_dict()))
    (place / "none.json").write_text(
        json.dumps(Host(policies=host.policies, xen=host.xen, hvm=False).as_dict())
    )
    (place / "own.save").write_bytes(OTHER.read_bytes())
    return place


def test_text(run: Run, hosts: Path) -> None:
    done = run("place", EXAMPLE, OTHER, "--hosts", hosts)
    assert done.status == 0
    lines = done.out.splitlines()
    assert lines[0] == str(EXAMPLE) and lines[4] == str(OTHER)
    assert (
        lines[1] == "  all       accept: another TSC frequency" or lines[1] == "  all       accept"
    )
    assert lines[2] == "  none      refuse: EINVAL: the host runs no HVM guests [host-hvm]"
    assert lines[3].startswith("  own.save  accept")
    assert "lapic-length" in lines[5], "an image of 4.20 on 4.17"


def test_json_and_csv(run: Run, hosts: Path) -> None:
    cells = json.loads(run("place", EXAMPLE, OTHER, "--hosts", hosts, "--format", "json").out)
    assert [(cell["image"], cell["host"]) for cell in cells] == [
        (str(image), host) for image in (EXAMPLE, OTHER) for host in ("all", "none", "own.save")
    ]
    assert cells[0]["verdict"] == "accept" and cells[0]["release"] == "4.17.7"
    assert cells[1]["rule"] == "host-hvm" and cells[1]["lost"] == []
    rows = list(
        csv.reader(io.StringIO(run("place", EXAMPLE, "--hosts", hosts, "--format", "csv").out))
    )
    assert rows[0] == ["image", "all", "none", "own.save"]
    assert rows[1][0] == str(EXAMPLE) and rows[1][2].startswith("refuse: ")


def test_status(run: Run, hosts: Path, tmp_path: Path) -> None:
    for name in ("all.json", "own.save"):
        (hosts / name).unlink()
    assert run("place", EXAMPLE, "--hosts", hosts).status == 1
    (tmp_path / "none").write_bytes(b"?")
    done = run("place", EXAMPLE, tmp_path / "none", "--hosts", hosts)
    assert done.status == 2 and "unreadable: " in done.out
    assert "unreadable" in run("place", tmp_path / "none", "--hosts", hosts, "--format", "json").out
    (hosts / "bad.json").write_text("{}")
    done = run("place", EXAMPLE, "--hosts", hosts)
    assert done.status == 2 and done.err.count("\n") == 1
    assert run("place", EXAMPLE, "--hosts", EXAMPLE).status == 2


def test_verify(run: Run, hosts: Path) -> None:
    done = run("verify", EXAMPLE, "--host", hosts / "all.json")
    assert done.status == 0 and "as restored by Xen 4.17.7" in done.out
    done = run("verify", EXAMPLE, "--host", hosts / "none.json")
    assert done.status == 1 and "the host runs no HVM guests; Xen 4.17.7 refuses it" in done.out
    done = run("verify", EXAMPLE, "--host", hosts / "own.save", "--format", "json")
    rules = [finding["rule"] for finding in json.loads(done.out)]
    assert rules == ["host-tsc"], "another frequency, which is a warning"
    assert run("verify", EXAMPLE, "--host", hosts / "absent").status == 2


def test_restore(run: Run, hosts: Path) -> None:
    done = run("restore", EXAMPLE, "--host", hosts / "own.save")
    assert done.status == 0 and done.out.startswith("accept: Xen 4.20 would restore this image\n")
    assert "  warning: another TSC frequency: the guest has 2599997 kHz" in done.out
    assert "as restored by Xen 4.20 on the host of " in done.out
    done = run("restore", EXAMPLE, "--host", hosts / "none.json", "--format", "json")
    plain = json.loads(done.out)
    assert done.status == 1 and plain["rule"] == "host-hvm"
    assert plain["blocking"] == plain["findings"] == []
    done = run("restore", EXAMPLE, OTHER, "--host", hosts / "own.save")
    assert done.out.splitlines()[0] == f"{EXAMPLE}: accept; another TSC frequency"
    done = run("restore", EXAMPLE, "--host", hosts / "own.save", "--format", "ndjson")
    assert json.loads(done.out)["findings"][0]["rule"] == "host-tsc"
    done = run("restore", EXAMPLE, "--host", EXAMPLE, "--release", "4.12")
    assert (
        done.status == 1 and "note: the CPU policy is not judged: Xen 4.12 keeps none" in done.out
    )
