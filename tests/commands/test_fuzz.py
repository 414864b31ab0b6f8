"""fuzz run and fuzz diff as a user types them; of the campaign its arguments and files."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from hvmctx.cli import main
from hvmctx.fuzz.reference import SOURCE
from hvmctx.fuzz.target import Target
from hvmctx.fuzz.targets import TARGETS
from tests.builders.samples import EXAMPLE, context_bytes


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
def test_diff_against_the_reference(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    how = ["fuzz", "diff", "--against", "c-reference", "-o", str(tmp_path / "out")]
    assert main([*how, "--count", "500"]) == 0
    assert capfd.readouterr().out == "500 inputs, no disagreement\n"
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
