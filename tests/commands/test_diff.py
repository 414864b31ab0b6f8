"""diff as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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


@pytest.fixture
def pair(run: Run, tmp_path: Path) -> tuple[Path, Path]:
    """Two images that differ in three records."""
    other = tmp_path / "other"
    settings = ("CPU.rip=0x1000", "CPU.rflags=0x202", "CPU.tsc=5", "PMTIMER.tmr_val=1")
    device = "EMULATOR_CONTEXT.ioapic[0x10:+2]=0x1234"
    assert run("set", EXAMPLE, *settings, device, "-o", other)[0] == 0
    return EXAMPLE, other


def test_text_by_record(run: Run, pair: tuple[Path, Path]) -> None:
    status, said = run("diff", *pair)
    assert status == 1
    assert said.out.splitlines() == [
        "CPU/0: 3 differ",
        "CPU/0.rip: 0xb7b9 -> 0x1000",
        "CPU/0.rflags: 0x246 -> 0x202 (-PF -ZF)",
        "CPU/0.tsc: 0xf5a8b9285 -> 0x5",
        "PMTIMER/0.tmr_val: 0xe8808a0 -> 0x1",
        "EMULATOR_CONTEXT/0.ioapic[0x10:+2]: 0x0 -> 0x1234",
    ]


def test_golden(run: Run) -> None:
    """Of two genuine guests of two releases: `hvmctx diff` of the two, as the file has it."""
    status, said = run("diff", EXAMPLE, DATA / "images" / "hvm2x420.save")
    assert status == 1
    assert said.out == (DATA / "images" / "hvm1-hvm2x420.diff.txt").read_text()


def test_only_the_counts(run: Run, pair: tuple[Path, Path]) -> None:
    status, said = run("diff", *pair, "--stat")
    assert status == 1
    assert said.out == "CPU/0: 3 differ\nPMTIMER/0: 1 differs\nEMULATOR_CONTEXT/0: 1 differs\n"
    counts = {"CPU/0": 3, "PMTIMER/0": 1, "EMULATOR_CONTEXT/0": 1}
    status, said = run("diff", *pair, "--stat", "--format", "json")
    assert (status, json.loads(said.out)) == (1, counts)
    assert run("diff", EXAMPLE, EXAMPLE, "--stat") == (0, ("", ""))
    assert run("diff", EXAMPLE, EXAMPLE, "--stat", "--format", "json").out == "{}\n"


def test_what_is_ignored(run: Run, pair: tuple[Path, Path]) -> None:
    ignored = ("--ignore", "TSC,tmr_val", "--ignore", "EMULATOR_CONTEXT.ioapic")
    status, said = run("diff", *pair, *ignored, "--format", "json")
    assert (status, [each["path"] for each in json.loads(said.out)]) == (
        1, ["CPU/0.rip", "CPU/0.rflags"],
    )  # fmt: skip
    assert run("diff", *pair, *ignored, "--stat").out == "CPU/0: 2 differ\n"
    assert run("diff", *pair, *ignored, "--ignore", "cpu/0.r*") == (0, ("", ""))


def test_colour(run: Run, pair: tuple[Path, Path]) -> None:
    status, said = run("diff", *pair, "--ignore", "tsc", "--color", "always")
    assert status == 1
    red, green, bold, plain = (f"\x1b[{code}m" for code in (31, 32, 1, 0))
    assert said.out.splitlines()[:3] == [
        f"{bold}CPU/0: 2 differ{plain}",
        f"CPU/0.rip: {red}0xb7b9{plain} -> {green}0x1000{plain}",
        f"CPU/0.rflags: {red}0x246{plain} -> {green}0x202{plain} ({red}-PF{plain} {red}-ZF{plain})",
    ]


def test_ranges_of_pages(run: Run, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    pages = [word(7), word(8), word(9), word(20), word(30)]
    for path, fill in ((one, 1), (other, 2)):
        path.write_bytes(libxc_stream(page_data(*pages, fill=fill), CONTEXT))
    status, said = run("diff", one, other, "--memory")
    lines = said.out.splitlines()
    assert status == 1 and lines[:2] == [
        "pfn: 5 pages differ", "pfn[0x7:+0x3]: 3 pages (12288 bytes differ)",
    ]  # fmt: skip
    assert len(lines) == 4 and lines[2].startswith("pfn[0x14][0x0:+4096]: 0404")
    assert run("diff", one, other, "--memory", "--stat").out == "pfn: 5 pages differ\n"


def test_a_record_with_more_than_are_held(
    run: Run, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("diff", *pair).out
    monkeypatch.setattr("hvmctx.commands.diff._HELD", 3)
    assert run("diff", *pair).out == whole.replace("CPU/0: 3", "CPU/0: more than 2")
