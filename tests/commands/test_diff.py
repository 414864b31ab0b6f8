"""diff as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.builders.running import Run, bare
from tests.builders.samples import DATA, EXAMPLE
from tests.builders.streams import CONTEXT, libxc_stream, page_data, word


def test_command(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert run("set", EXAMPLE, "CPU.rax=0x1234", "-o", other)[0] == 0
    status, said = run("diff", EXAMPLE, other)
    assert (status, said.out) == (1, "CPU/0.rax: 0x0 -> 0x1234\n")
    assert run("diff", EXAMPLE, EXAMPLE)[0] == 0
    status, said = run("diff", EXAMPLE, other, "--format", "json")
    assert json.loads(said.out) == [{"path": "CPU/0.rax", "before": "0x0", "after": "0x1234"}]
    context = DATA / "images" / "hvm1.hvmctx.bin"
    status, said = run("diff", context, other)
    assert status == 1 and "CPU/0.rax: 0x0 -> 0x1234" in said.out
    assert run("diff", EXAMPLE, "/no/such/file")[0] == 2
    assert run("diff", EXAMPLE, DATA / "streams" / "legacy_hvm_w64.in.bin")[0] == 2
    assert run("diff", "-", "-")[0] == 2
    cut = tmp_path / "cut"
    cut.write_bytes(EXAMPLE.read_bytes()[:-9])
    status, said = run("diff", EXAMPLE, cut)
    assert status == 2 and said.err.count("\n") == 1 and "EMULATOR_CONTEXT" in said.err


def test_memory_is_compared_on_demand(run: Run, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for path, fill in ((one, 1), (other, 2)):
        path.write_bytes(libxc_stream(page_data(word(7), fill=fill), CONTEXT))
    assert run("diff", one, other) == (0, ("", ""))
    result = run("diff", one, other, "--memory")
    assert result.status == 1 and result.out.startswith("pfn[0x7][0x0:+4096]: 0101")


def test_nothing_differs_in_json(run: Run) -> None:
    assert json.loads(run("diff", EXAMPLE, EXAMPLE, "--format", "json").out) == []


def test_one_of_them_as_standard_input(tmp_path: Path) -> None:
    context = (DATA / "images" / "hvm1.hvmctx.bin").read_bytes()
    for names in (("-", EXAMPLE), (EXAMPLE, "-")):
        done = bare("diff", *names, stdin=EXAMPLE.read_bytes())
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    # a context and an image: what the image holds is compared
    done = bare("diff", "-", EXAMPLE, stdin=context)
    assert done.returncode == 1 and done.stdout.startswith(b"CPU/0.tsc: ")


def test_what_is_damaged_in_both_is_told_of_both(run: Run, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(EXAMPLE.read_bytes()[:-9])
    other.write_bytes(EXAMPLE.read_bytes()[:-99])
    result = run("diff", one, other)
    assert result.status == 2 and result.err.count("\n") == 2


def test_json_of_many_and_of_none(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert run("set", EXAMPLE, "CPU.rax=0x1234", "CPU.rbx=0x77", "-o", other)[0] == 0
    status, said = run("diff", EXAMPLE, other, "--format", "json")
    assert status == 1
    assert [d["path"] for d in json.loads(said.out)] == ["CPU/0.rax", "CPU/0.rbx"]
    status, said = run("diff", EXAMPLE, EXAMPLE, "--format", "json")
    assert (status, json.loads(said.out)) == (0, [])
