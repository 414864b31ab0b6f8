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
from hvmctx.fuzz import differential
from hvmctx.fuzz.differential import (
    Command,
    Source,
    compare,
    compare_vmport,
    context_model,
    stream_model,
    vmport_model,
    vmport_report,
)
from hvmctx.fuzz.minimise import simpler_contexts, simpler_vmport
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
def test_a_reference_without_a_check(
    check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disagreement is found, made small, and told."""
    monkeypatch.setattr(differential, "_TRIES", 250)
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

    assert compare_vmport(Counting(str(tmp_path)), 2100, random.Random(2), XEN_4_5_V6) is None
    assert asked == [2000, 100]


def test_report() -> None:
    record = keys(b"\1\1kv", 1, 4)
    text = vmport_report(Case(record), "ok 10 2", "violation", XEN_4_5_V6)
    assert text.splitlines()[:2] == ["model:     ok 10 2", "reference: violation"]
    assert "used_guestsize = 04000000" in text and '"k" = "v" (1)' in text
    assert "body 00" in vmport_report(Case(record[:8] + b"\0"), "x", "y", XEN_4_5_V6)


def script(tmp_path: Path, code: str) -> str:
    path = tmp_path / "program.py"
    path.write_text(code)
    return f"{sys.executable} -I -S {path} {{}}"


def test_a_command(tmp_path: Path) -> None:
    """A program that takes every context but those with PIT records. (A shell: it is asked a few
    hundred times.)"""
    program = tmp_path / "program.sh"
    program.write_text("! od -An -tx1 -v \"$1\" | tr -d ' \\n' | grep -q 0a00000038\n")
    command = Command(f"sh {program} {{}}")
    model = context_model(Release("4.17"), Guest())
    found = compare(command, [context_bytes()], model, simpler=simpler_contexts)
    assert found is not None and (found.ours, found.theirs) == ("accept", "refuse")
    assert len(found.data) < 200, "header, PIT and END, not much more"
    agreeing = Command(script(tmp_path, "import sys; sys.exit(0)"))
    stream = STREAMS[0].read_bytes()
    model = stream_model(Release("4.17"), Guest())
    assert compare(agreeing, [stream], model) is None
    assert model(b"noise") == "refuse"


def test_a_command_for_vmport_records(tmp_path: Path) -> None:
    """A program that takes every record of the right type and version."""
    code = (
        "import sys\n"
        "data = open(sys.argv[1], 'rb').read()\n"
        "sys.exit(data[:2] != b'\\x15\\0' or data[8:12] != b'\\1\\0\\xcd\\xab')\n"
    )
    model = vmport_model(XEN_4_5_V6)
    records = [keys(b"\1\1kv", 1, 4), keys(b"\1\1kv", 0xFFFF, 4)]
    assert [model(record) for record in records] == ["accept", "refuse"]
    command = Command(script(tmp_path, code))
    assert compare(command, records[:1], model) is None
    found = compare(command, records, model, simpler=simpler_vmport(XEN_4_5_V6))
    assert found is not None and (found.ours, found.theirs) == ("refuse", "accept")


NAIVE = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    uint32_t size, at;

    while (fread(&size, 4, 1, stdin) == 1) {
        uint8_t *data = malloc(size);

        fread(data, 1, size, stdin);
        for (at = 0; data[at] || data[at + 1];)
            at += 8 + (data[at + 4] | data[at + 5] << 8);
        puts(data[0] == 1 ? "ok" : "errno EPERM");
        free(data);
    }
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler")
def test_a_loader_in_c_of_contexts(tmp_path: Path) -> None:
    """It needs not fork, and when it dies that is the verdict of one input."""
    (tmp_path / "naive.c").write_text(NAIVE)
    loader = Source(Reference(str(tmp_path), source=str(tmp_path / "naive.c")))
    good, cut = context_bytes(), context_bytes()[:-8]
    other = b"\2" + good[1:]
    inputs = [good, cut, other, good, good, cut]
    assert loader.verdicts(inputs) == [
        "accept", "violation", "refuse", "accept", "accept", "violation",
    ]  # fmt: skip
    found = compare(loader, inputs, context_model(Release("4.17"), Guest()))
    assert found is not None and (found.ours, found.theirs) == ("refuse", "violation")
    assert len(found.data) < 16


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler")
@pytest.mark.parametrize("says", ["hello", "ok\\nok"])
def test_a_loader_that_says_something_else(says: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.c"
    path.write_text(f'#include <stdio.h>\nint main(void) {{ puts("{says}"); return 0; }}\n')
    with pytest.raises(InputError, match="failed after"):
        Source(Reference(str(tmp_path), source=str(path))).verdicts([b""])


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
