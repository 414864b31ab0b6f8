"""What all commands have in common, as a user meets it."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from hvmctx.commands.inputs import (
    check_judged,
    file_of,
    files_in,
    is_domid,
    no_domid,
    open_input,
    read_file,
    target_of,
)
from hvmctx.errors import InputError, LimitError, UsageError
from hvmctx.limits import Limits
from tests.builders.running import TOOL, Run
from tests.builders.samples import EXAMPLE, context_bytes

INPUTS = {
    "a directory": ("/", "Is a directory"),
    "absent": ("/no/such/file", "No such file or directory"),
    "a NUL": ("a\0b", "null"),
    "no image": (TOOL, "nothing that Xen saves: found 23 21"),
}


@pytest.mark.parametrize("command", ["dump", "info", "extract", "strip", "to-json"])
@pytest.mark.parametrize("case", INPUTS)
def test_inputs_that_are_none(command: str, case: str, run: Run, tmp_path: Path) -> None:
    target, reason = INPUTS[case]
    output = ["-o", tmp_path / "out"] if command in ("extract", "strip", "to-json") else []
    result = run(command, target, *output)
    assert result.status == 1 and not result.out
    assert result.err.startswith("hvmctx: ") and result.err.count("\n") == 1
    assert reason in result.err
    assert not list(tmp_path.iterdir())


def test_a_cut_image_is_told_of_by_those_who_keep_it(run: Run, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(EXAMPLE.read_bytes()[:62_000])
    result = run("get", cut, "CPU/0.rip")
    assert (result.status, result.out) == (1, "0xb7b9\n") and "EMULATOR_CONTEXT" in result.err
    result = run("set", cut, "CPU/0.rip=1", "-o", tmp_path / "out")
    assert result.status == 0 and result.err.startswith("hvmctx: warning: libxl: ")
    cut.write_bytes(EXAMPLE.read_bytes()[:54_000])
    result = run("set", cut, "CPU/0.rip=1", "-o", tmp_path / "other")
    assert result.status == 1 and "HVM_CONTEXT: the input ends within the body" in result.err
    assert not (tmp_path / "other").exists()


def given(**values: Any) -> Namespace:
    return Namespace(**{"input": str(EXAMPLE), "layer": None, **values})


def test_digits_are_a_domid() -> None:
    assert all(map(is_domid, ("0", "7", "32767")))
    assert not any(map(is_domid, ("./7", "-1", "7a", "", "0x7", "²")))
    assert no_domid("./7", "strip") == "./7"
    with pytest.raises(UsageError, match=r"strip takes a file, not a DOMID; \./NAME"):
        no_domid("7", "strip")


def test_the_target_of_an_input() -> None:
    assert target_of(given()) == (str(EXAMPLE), None)
    assert target_of(given(layer="xl")) == (str(EXAMPLE), "xl")
    with pytest.raises(UsageError, match="--layer cannot be combined with a DOMID"):
        target_of(given(input="7", layer="xl"))
    with open_input(given()) as image:
        assert image.format == "xl"


def test_a_domid_is_a_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def context_of(domid: int) -> bytes:
        asked.append(domid)
        return context_bytes()

    monkeypatch.setattr("hvmctx.live.xen.domain_context", context_of)
    for layer in (None, "context"):
        assert target_of(given(input="007", layer=layer)) == (context_bytes(), "context")
    assert asked == [7, 7]


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    for use in (lambda: file_of("-"), lambda: read_file("-"), lambda: no_domid("-", "x")):
        with pytest.raises(InputError, match="standard input is closed"):
            use()
    assert file_of("path") == "path"


def test_files_are_read_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 5000)
    assert read_file(str(path)) == b"x" * 5000
    limits = Limits(input=5000)
    assert len(read_file(str(path), limits=limits)) == 5000
    path.write_bytes(b"x" * 5001)
    with pytest.raises(LimitError, match="file: more than 5000 bytes: --max-size N allows more"):
        read_file(str(path), limits=limits)
    for name, reason in (("/no/such/file", "No such file"), (str(tmp_path), "directory"),
                         ("a\0b", "null")):  # fmt: skip
        with pytest.raises(InputError, match=reason):
            read_file(name)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"vcpus": 0}, "--vcpus 0: expected 1 to 65536"),
        ({"vcpus": 0x10001}, "--vcpus 65537: expected 1 to"),
        ({"input": None}, "verify: no INPUT"),
        ({"explain": "nope"}, "unknown rule 'nope'"),
    ],
)
def test_what_cannot_be_judged(values: dict[str, Any], reason: str) -> None:
    args = given(**{"vcpus": None, "explain": None, **values})
    with pytest.raises(UsageError, match=reason):
        check_judged(args, "verify")


def test_what_is_to_be_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_judged(given(vcpus=0x10000, explain=None), "verify")
    assert capsys.readouterr().out == ""
    assert not check_judged(given(vcpus=None, explain="tsc-length", input=None), "verify")
    assert capsys.readouterr().out.startswith("tsc-length: ")


def test_problems_are_printed_after_the_output(tmp_path: Path) -> None:
    """Also where both go to one place: stdout is flushed first."""
    cut = tmp_path / "cut"
    cut.write_bytes(EXAMPLE.read_bytes()[:-9])
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} {TOOL} dump {cut} --record PMTIMER 2>&1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and lines[-1].startswith("hvmctx: libxl: offset 0x")
    assert not any(line.startswith("hvmctx: ") for line in lines[:-1])


def test_files_in_a_directory_with_a_link_to_itself(tmp_path: Path) -> None:
    """One that cannot be looked at does not hide the others."""
    (tmp_path / "a").symlink_to("a")
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nothing").symlink_to("nowhere")
    assert files_in(str(tmp_path)) == [str(tmp_path / "a"), str(tmp_path / "b")]
