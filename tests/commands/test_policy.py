"""`hvmctx policy`."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from hvmctx.abi import streams
from hvmctx.restore.policy_forms import from_pol
from tests.builders.hosts import CPUID, INFO
from tests.builders.running import Run, bare
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.standin import StandIn
from tests.builders.streams import pv, record
from tools.policies import held, said

ONE = held()[0]
MEMBERS = ["input", "errno", "leaf", "subleaf", "msr", "cpuid", "msrs", "lost"]


@pytest.fixture
def host(tmp_path: Path) -> Path:
    path = tmp_path / "host.json"
    path.write_text(json.dumps(ONE.host.as_dict()))
    return path


@pytest.fixture
def first(tmp_path: Path) -> Path:
    path = tmp_path / "first.pol"
    path.write_bytes(ONE.first)
    return path


def test_what_a_hypervisor_answered(run: Run, tmp_path: Path, host: Path, first: Path) -> None:
    """A line for each of several, equal to what the hypervisor said, and left the domain with."""
    answers = ONE.answers[::5]
    for answer, policy in answers:
        (tmp_path / answer["name"]).write_bytes(policy)
    names = [tmp_path / answer["name"] for answer, _ in answers]
    done = run("policy", *names, "--host", host, "--onto", first, "--format", "ndjson")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["input"] for line in lines] == [str(name) for name in names]
    before = ONE.outcome(b"\0" * 8).policy.leaves()
    for line, (answer, _) in zip(lines, answers):
        assert list(line) == MEMBERS
        wanted = said(answer)
        assert [line["errno"], [line["leaf"], line["subleaf"], line["msr"]]] == [
            wanted["errno"], wanted["where"]
        ]  # fmt: skip
        assert [row for row in line["cpuid"] if tuple(row) not in before] == wanted["cpuid"]
    assert done.status == 1 and any(line["errno"] for line in lines)


def test_forms_of_a_policy(run: Run, tmp_path: Path, first: Path) -> None:
    """All say the same: an image, rows, JSON, text, and standard input."""
    leaves, msrs = from_pol(ONE.first)
    plain = {"cpuid": leaves, "msr": msrs}
    (tmp_path / "a.json").write_text(json.dumps(plain))
    text = ["Domain 1 policy: 9 leaves, 2 MSRs"]
    text += ["{:08x}:{:08x} -> {:08x}:{:08x}:{:08x}:{:08x}".format(*row) for row in leaves]
    text += [f"{index:08x} -> {value:016x}" for index, _, value in msrs]
    (tmp_path / "a.txt").write_text("\n".join(text))
    (tmp_path / "noname").write_bytes(ONE.first)
    known = json.loads(run("policy", first, "--format", "json").out)
    assert known["vendor"] == "AuthenticAMD" and "AVX2" in known["features"]
    for name in ("a.json", "a.txt", "noname"):
        other = json.loads(run("policy", tmp_path / name, "--format", "json").out)
        assert {**other, "input": known["input"]} == known
    for path in (first, tmp_path / "a.json", tmp_path / "noname", EXAMPLE):
        given = json.loads(bare("policy", "-", "--format", "json", stdin=path.read_bytes()).stdout)
        named = json.loads(run("policy", path, "--format", "json").out)
        assert {**given, "input": str(path)} == named


def test_text(run: Run, host: Path, tmp_path: Path) -> None:
    done = run("policy", EXAMPLE)
    assert done.status == 0 and "vendor: AuthenticAMD\n" in done.out
    assert "CPUID 7:0.ecx: UMIP, PKU, VAES\n" in done.out
    done = run("policy", EXAMPLE, "--host", host)
    assert done.out == "accept: Xen 4.17.7 sets this policy\n"
    (tmp_path / "more.json").write_text('{"cpuid": [[7, 0, 0, 65536, 0, 0]]}')
    done = run("policy", tmp_path / "more.json", "--host", host, "--release", "4.20")
    assert done.out == "accept: Xen 4.20 sets this policy\nlost: AVX512F\n"
    (tmp_path / "bad.json").write_text('{"msr": [[206, 1, 0]]}')
    done = run("policy", tmp_path / "bad.json", EXAMPLE, "--host", host)
    assert done.status == 1
    assert "bad.json: refuse: Xen 4.17.7: EINVAL: the flags of an MSR are not 0 [msr" in done.out


def test_json_of_several_is_an_array(run: Run, host: Path, first: Path) -> None:
    one = json.loads(run("policy", first, "--host", host, "--format", "json").out)
    both = json.loads(run("policy", first, first, "--host", host, "--format", "json").out)
    assert both == [one, one] and list(one) == MEMBERS


def test_without_a_first_policy_the_domain_is_new(run: Run, host: Path, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text('{"cpuid": []}')
    one = json.loads(run("policy", tmp_path / "none.json", "--host", host, "--format", "json").out)
    assert [0, 0xFFFFFFFF, 13, 0x68747541, 0x444D4163, 0x69746E65] in one["cpuid"]
    assert one["msrs"] == [[0xCE, 0, 1 << 31], [0x10A, 0, 0]] and one["lost"] == []


def test_an_image_as_host(run: Run) -> None:
    done = run("policy", EXAMPLE, "--host", EXAMPLE)
    assert done.status == 0 and done.out == "accept: Xen 4.17 sets this policy\n"


def test_a_running_domain(run: Run, stand_in: StandIn) -> None:
    done = run("policy", "7", "--format", "json")
    assert done.status == 0 and json.loads(done.out)["input"] == "7"


def test_what_cannot_be_read(run: Run, host: Path, tmp_path: Path) -> None:
    (tmp_path / "short.pol").write_bytes(b"\1\0\0\0")
    (tmp_path / "context").write_bytes(context_bytes())
    (tmp_path / "host.txt").write_bytes(CPUID + INFO)
    for name, words in (
        ("short.pol", "leaves that are not there"), ("context", "no CPU policy"),
        ("absent", "No such file"), ("host.txt", "not the policy of one domain"),
    ):  # fmt: skip
        done = run("policy", tmp_path / name)
        assert done.status == 2 and words in done.err and done.err.count("\n") == 1
        done = run("policy", tmp_path / name, EXAMPLE, "--host", host, "--format", "ndjson")
        lines = [json.loads(line) for line in done.out.splitlines()]
        assert done.status == 2 and words in lines[0]["unreadable"] and lines[1]["errno"] is None
    (tmp_path / "bad.json").write_text('{"hvmctx_host": 1}')
    for bad in ("short.pol", "context", "absent", "bad.json"):
        done = run("policy", EXAMPLE, "--host", tmp_path / bad)
        assert done.status == 2 and done.err.count("\n") == 1


def test_usage(run: Run, host: Path) -> None:
    assert run("policy", EXAMPLE, "--release", "4.17").status == 2
    assert run("policy", EXAMPLE, "--onto", EXAMPLE).status == 2
    assert run("policy", "-", "--host", "-").status == 2
    done = run("policy", EXAMPLE, "--host", host, "--release", "4.12")
    assert done.status == 2 and "they came with 4.13" in done.err


def test_a_pv_guest(run: Run, host: Path, tmp_path: Path) -> None:
    """Its policy is shown, but what a host makes of it is another matter."""
    rows = record(streams.LIBXC_X86_CPUID_POLICY, struct.pack("<6I", 1, 0xFFFFFFFF, 0, 0, 1, 1))
    (tmp_path / "pv.xc").write_bytes(pv(rows))
    assert "CPUID 1.edx: FPU\n" in run("policy", tmp_path / "pv.xc").out
    done = run("policy", tmp_path / "pv.xc", "--host", host)
    assert done.status == 2 and "a PV guest" in done.err
