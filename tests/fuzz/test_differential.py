from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hvmctx.abi.releases import Release
from hvmctx.abi.vmport import XEN_4_5_V6, VmportProfile
from hvmctx.errors import InputError
from hvmctx.fuzz.differential import (
    Command,
    compare_command,
    compare_vmport,
    context_model,
    stream_model,
    vmport_report,
)
from hvmctx.fuzz.reference import SOURCE, Case, Reference
from hvmctx.restore.guest import Guest
from tests.builders.samples import STREAMS, context_bytes
from tests.builders.vmport import keys

CHECKS = {
    "version": 'if (get32(body) != version)\n        return "EINVAL";',
    "typecode": "get16(data) != 21 || ",
}


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler")
@pytest.mark.parametrize("check", CHECKS)
def test_a_reference_without_a_check(check: str, tmp_path: Path) -> None:
    """The disagreement is found, made small, and told."""
    text = Path(SOURCE).read_text()
    assert CHECKS[check] in text
    altered = tmp_path / "altered.c"
    altered.write_text(text.replace(CHECKS[check], ""))
    reference = Reference(str(tmp_path), source=str(altered))
    found = compare_vmport(reference, 20000, random.Random(1), XEN_4_5_V6)
    assert found is not None and found.ours != found.theirs
    assert found.ours.startswith("errno ")
    assert len(found.data) <= 8 + 464, "nothing but the fixed part is left"
    path = found.save(str(tmp_path / "out"), "one")
    assert Path(path).read_bytes() == found.data
    assert "model:     errno " in Path(path).with_suffix(".txt").read_text()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler")
def test_the_reference_agrees(tmp_path: Path) -> None:
    asked: list[int] = []

    class Counting(Reference):
        def verdicts(self, cases: Sequence[Case], profile: VmportProfile) -> list[str]:
            asked.append(len(cases))
            return super().verdicts(cases, profile)

    assert compare_vmport(Counting(str(tmp_path)), 2500, random.Random(2), XEN_4_5_V6) is None
    assert asked == [2000, 500]


def test_report() -> None:
    record = keys(b"\1\1kv", 1, 4)
    text = vmport_report(Case(record), "ok 10 2", "violation", XEN_4_5_V6)
    assert text.splitlines()[:2] == ["model:     ok 10 2", "reference: violation"]
    assert "used_guestsize = 04000000" in text and '"k" = "v" (1)' in text
    assert "body 00" in vmport_report(Case(record[:8] + b"\0"), "x", "y", XEN_4_5_V6)


def script(tmp_path: Path, code: str) -> str:
    path = tmp_path / "program.py"
    path.write_text(code)
    return f"{sys.executable} {path} {{}}"


def test_a_command(tmp_path: Path) -> None:
    """A program that takes every context but those with PIT records."""
    code = "import sys; sys.exit(b'\\x0a\\0\\0\\0\\x38' in open(sys.argv[1], 'rb').read())"
    command = Command(script(tmp_path, code))
    model = context_model(Release("4.17"), Guest())
    found = compare_command(command, [context_bytes()], model, contexts=True)
    assert found is not None and (found.ours, found.theirs) == ("accept", "refuse")
    assert len(found.data) < 200, "header, PIT and END, not much more"
    agreeing = Command(script(tmp_path, "import sys; sys.exit(0)"))
    stream = STREAMS[0].read_bytes()
    model = stream_model(Release("4.17"), Guest())
    assert compare_command(agreeing, [stream], model, contexts=False) is None
    assert model(b"noise") == "refuse"


def test_commands_that_fail(tmp_path: Path) -> None:
    assert (
        Command(script(tmp_path, "import os; os.kill(os.getpid(), 9)")).verdict(b"") == "signal 9"
    )
    slow = Command(script(tmp_path, "import time; time.sleep(9)"), timeout=0.2)
    assert slow.verdict(b"") == "timeout"
    with pytest.raises(InputError, match="No such file"):
        Command("/no/such/program").verdict(b"")
    with pytest.raises(InputError, match="no command"):
        Command("  ")
