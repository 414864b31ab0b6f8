"""verify as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders.running import Run
from tests.builders.samples import DATA, EXAMPLE
from tests.builders.streams import MEMORY, page_data, strict_hvm, word


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    path = tmp_path / "odd"
    path.write_bytes(strict_hvm(MEMORY, page_data(word(5), word(5))))
    return path


JUDGED = {
    "verifier": "the streams, as Xen's verify-stream-v2 checks them",
    "restore": "the streams of the xl image and its HVM context, as restored by Xen 4.17 to newest",
}


def test_what_was_judged_is_the_last_line(run: Run, tmp_path: Path) -> None:
    def last(*arguments: object) -> str:
        return run("verify", *arguments).out.splitlines()[-1]

    more = "; docs/rules.md and --explain RULE say more"
    assert last(EXAMPLE, "--as", "strict") == (
        f"1 note: {JUDGED['restore']} and all that is questionable{more}"
    )
    bare = DATA / "images" / "hvm1.hvmctx.bin"
    assert last(bare) == "no findings: the HVM context alone, as restored by Xen newest"
    assert last(bare, "--release", "4.5") == (
        f"1 error: the HVM context alone, as restored by Xen 4.5{more}"
    )
    assert last(bare, "--as", "verifier") == (
        "no findings: nothing of an HVM context, as Xen's verify-stream-v2 checks them"
    )
    pv = DATA / "streams" / "handbuilt" / "libxc_v3_pv_ok.bin"
    assert "the streams of the libxc image, as restored by Xen 4" in last(pv)


def test_of_a_bare_context_no_records_of_a_stream_are_missed(run: Run) -> None:
    """Seven of them were."""
    said = run("verify", DATA / "images" / "hvm1.hvmctx.bin", "--as", "strict")
    assert said.status == 0 and said.out == (
        "no findings: the HVM context alone, as restored by Xen newest and all that is "
        "questionable\n"
    )


def test_nothing_to_say(run: Run) -> None:
    for view in ("verifier", "restore"):
        status, said = run("verify", EXAMPLE, "--as", view)
        assert (status, said.out, said.err) == (0, f"no findings: {JUDGED[view]}\n", "")
    status, said = run("verify", EXAMPLE)
    assert (status, said.out) == (0, f"no findings: {JUDGED['restore']}\n")


def test_fail_on(run: Run, odd: Path) -> None:
    status, said = run("verify", odd, "--as", "strict")
    assert status == 0 and "warning: libxc: offset" in said.out
    assert run("verify", odd, "--as", "strict", "--fail-on", "warning")[0] == 1
    assert run("verify", EXAMPLE, "--as", "strict", "--fail-on", "warning")[0] == 0
    assert run("verify", EXAMPLE, "--as", "strict", "--fail-on", "note")[0] == 1


def test_errors(run: Run) -> None:
    status, said = run("verify", EXAMPLE, "--release", "4.13")
    assert status == 1 and said.out.splitlines(keepends=True)[0] == (
        "error: libxc: offset 0x7a: image header: version 3 is read since 4.14; Xen 4.13 refuses "
        "it [libxc-version]\n"
    ).replace("0x7a", said.out.split()[3].rstrip(":"))


def test_json(run: Run, odd: Path) -> None:
    status, said = run("verify", odd, "--as", "strict", "--format", "json")
    found = json.loads(said.out)
    assert status == 0 and {"page-twice"} <= {one["rule"] for one in found}
    assert set(found[0]) == {"severity", "rule", "text", "layer", "offset", "record", "docs"}
    assert {one["docs"] for one in found} == {"docs/rules.md#verify---as-strict"}
    assert json.loads(run("verify", EXAMPLE, "--format", "json")[1].out) == []


def test_unreadable(run: Run, tmp_path: Path) -> None:
    for target in ("/no/such/file", tmp_path, DATA / "streams" / "legacy_hvm_w64.in.bin"):
        status, said = run("verify", target)
        assert status == 2 and said.err.count("\n") == 1 and not said.out
    (tmp_path / "noise").write_bytes(b"noise" * 100)
    assert run("verify", tmp_path / "noise")[0] == 2


def test_explain(run: Run) -> None:
    status, said = run("verify", "--explain", "page-twice")
    assert status == 0 and said.out.startswith("page-twice: strict: streams")


@pytest.mark.parametrize(
    "arguments",
    [(), (EXAMPLE, "--as", "x"), (EXAMPLE, "--vcpus", "0"), (EXAMPLE, "--release", "5.0"),
     (EXAMPLE, "--fail-on", "x"), ("--explain", "x")],
)  # fmt: skip
def test_usage(arguments: tuple[object, ...], run: Run) -> None:
    status, said = run("verify", *arguments)
    assert status == 2 and said.err.count("\n") == 1 and not said.out


def test_sarif(run: Run, odd: Path) -> None:
    """The status is that of any other format."""
    status, said = run("verify", odd, "--as", "strict", "--format", "sarif")
    (log,) = json.loads(said.out)["runs"]
    assert status == 0 and "page-twice" in {one["ruleId"] for one in log["results"]}
    where = {one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
             for one in log["results"]}  # fmt: skip
    assert where == {f"file://{odd}"}
    assert run("verify", odd, "--as", "strict", "--format", "sarif", "--fail-on", "warning")[0] == 1
    assert run("verify", "/no/such/file", "--format", "sarif")[0] == 2
