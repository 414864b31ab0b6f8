"""The commands as a user types them: output, exit status, one line for every error."""

from __future__ import annotations

import gzip
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hvmctx.cli import COMMANDS, main
from tests.samples import (
    CONTEXTS,
    DATA,
    EXAMPLE,
    SMALL,
    context_bytes,
    domid_of,
    expected_text,
    record,
    release_of,
)

ROOT = Path(__file__).parent.parent
TOOL = str(ROOT / "tools" / "xen-hvmctx.py")
ASTRAY = ("old_cpu_1024_misparse", "unknown_type_length_past_end")


class Result:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


Run = Callable[..., Result]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Result:
        status = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Result(status, captured.out, captured.err)

    return call


def bare(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A Python without site packages, as on a dom0."""
    return subprocess.run(
        [sys.executable, "-I", "-S", TOOL, *map(str, arguments)], input=stdin, capture_output=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("path", CONTEXTS, ids=lambda path: "/".join(path.parts[-3:]))
def test_dump_of_every_sample(path: Path, run: Run) -> None:
    expected = expected_text(path)
    result = run(path, "--release", release_of(path), "--domid", domid_of(expected))
    if path.stem not in ASTRAY:
        assert result.out == expected
    status = path.with_suffix(".rc.txt")
    if status.exists():
        assert result.status == int(status.read_text())
    if result.status:
        assert re.fullmatch(
            r"hvmctx: context: offset 0x[0-9a-f]+: .*: found .*, expected .*\n", result.err
        )


def test_dump_is_the_default_command() -> None:
    for arguments in ([EXAMPLE], ["dump", EXAMPLE]):
        done = bare(*arguments)
        assert done.returncode == 0 and not done.stderr
        assert done.stdout.startswith(b"HVM save record for domain 0\nEntry 0: type 1 instance 0")
    assert bare("-", stdin=EXAMPLE.read_bytes()).stdout == done.stdout
    assert bare("--release", "auto", EXAMPLE).stdout == bare("--release", "4.17", EXAMPLE).stdout
    assert bare("--release", "auto", EXAMPLE).stdout != done.stdout


@pytest.mark.parametrize("form", ["json", "ndjson", "table"])
def test_forms(form: str, run: Run) -> None:
    result = run("dump", EXAMPLE, "--format", form, "--record", "PIC/1")
    assert result.status == 0 and "PIC" in result.out and "IOAPIC" not in result.out


def test_selection(run: Run) -> None:
    assert run(EXAMPLE, "--record", "cpu").out.count("Entry") == 1
    assert run(EXAMPLE, "--record", "3").out.count("Entry") == 2
    assert run(EXAMPLE, "--record", "3/1").out.count("Entry") == 1
    assert "rtc_offset" in run(EXAMPLE, "--all").out
    for wrong in ("NOPE", "PIC/x", "²", "PIC/²", "9" * 5000, f"PIC/{'9' * 5000}"):
        result = run(EXAMPLE, "--record", wrong)
        assert result.status == 2 and result.err.count("\n") == 1


def test_more_than_one_selection(run: Run) -> None:
    result = run(EXAMPLE, "--record", "CPU/0", "--record", "PIC")
    assert result.status == 0 and not result.err
    assert [line.split()[3] for line in result.out.splitlines() if "Entry" in line] == list("233")
    for form in ("json", "ndjson", "table"):
        result = run(EXAMPLE, "--format", form, "--record", "CPU", "--record", "PIC/1")
        assert "CPU" in result.out and result.out.count("PIC") == 1


@pytest.mark.parametrize("form", ["text", "json", "ndjson", "table"])
def test_a_selection_of_nothing_is_said(form: str, run: Run) -> None:
    for absent in ("CPU/9", "999999", "viridian_vcpu", "VMPORT", "3/2"):
        result = run(EXAMPLE, "--format", form, "--record", absent)
        assert result.status == 1 and "Entry" not in result.out
        assert result.err == f"hvmctx: the context has no {absent} record\n"
    result = run(EXAMPLE, "--format", form, "--record", "PIC/1", "--record", "PIC/2")
    assert result.status == 1 and result.err == "hvmctx: the context has no PIC/2 record\n"
    assert result.out == run(EXAMPLE, "--format", form, "--record", "PIC/1").out


def test_a_selected_record_that_is_cut_is_not_absent(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(context_bytes()[:2000])
    for form in ("text", "table"):
        result = run(path, "--record", "LAPIC_REGS/0", "--format", form)
        assert result.status == 1 and "1024" in result.out
        assert "the body is cut off" in result.err and result.err.count("\n") == 1


def test_json_of_a_dump_is_taken_back(run: Run, tmp_path: Path) -> None:
    text, again = tmp_path / "dump.json", tmp_path / "again"
    text.write_text(run(EXAMPLE, "--format", "json").out)
    assert run("from-json", text, "-o", again).status == 0
    assert run("extract", EXAMPLE, "-o", tmp_path / "context").status == 0
    assert again.read_bytes() == (tmp_path / "context").read_bytes()
    text.write_text(json.dumps(json.loads(text.read_text())["context"]))  # what it was once
    result = run("from-json", text, "-o", tmp_path / "no")
    assert result.status == 1 and len(result.err) < 300 and result.err.count("\n") == 1


def test_domids(run: Run) -> None:
    for domid in (0, 7, 32767):
        assert run(EXAMPLE, "--domid", domid).out.startswith(
            f"HVM save record for domain {domid}\n"
        )


def test_damaged_images_are_dumped_as_far_as_they_go(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(SMALL[:-20])
    result = run(path)
    assert result.status == 1 and result.out.endswith("type 0 instance 0, length 0\n")
    assert result.err.startswith("hvmctx: libxl: offset 0x") and result.err.count("\n") == 1
    path.write_bytes(SMALL[: SMALL.index(context_bytes()) + 2000])
    result = run(path)
    assert result.status == 1
    assert result.out.endswith("Entry 6: type 6 instance 0, length 1024\n")
    assert "body: found 2000 bytes, expected 4112" in result.err and result.err.count("\n") == 1
    path.write_bytes(SMALL[: SMALL.index(context_bytes()) - 20])
    result = run(path)
    assert result.status == 1 and not result.out
    assert "no HVM_CONTEXT record" in result.err
    odd = SMALL.replace(context_bytes(), context_bytes()[:-8] + struct.pack("<HHI", 19, 0, 1))
    path.write_bytes(odd)
    result = run(path)
    at = odd.index(context_bytes()[:-8]) + 4112
    assert result.status == 1 and result.err.startswith(f"hvmctx: context: offset {at:#x}: ")


def test_pv_and_legacy(run: Run) -> None:
    result = run(DATA / "streams" / "handbuilt" / "libxc_v3_pv_ok.bin")
    assert result.status == 1 and "a PV guest" in result.err
    assert run("info", DATA / "streams" / "handbuilt" / "libxc_v3_pv_ok.bin").status == 0
    result = run(DATA / "streams" / "legacy_hvm_w64.in.bin")
    assert result.status == 1 and "convert it first" in result.err


def test_info(run: Run) -> None:
    result = run("info", EXAMPLE)
    assert result.status == 0 and "device model: qemu-upstream" in result.out
    plain = json.loads(run("info", EXAMPLE, "--format", "json").out)
    assert plain["memory"]["populated"] == 4092 * 4096
    result = run("info", DATA / "streams" / "handbuilt" / "truncated.bin")
    assert result.status == 1 and "problem: libxc: offset 0x2130" in result.out


WHATS = {
    "hvm-context": 4112,
    "emulator": 6102,
    "record:CPU": 1032,
    "record:pic/1": 8,
    "record:X86_TSC_INFO": 24,
    "record:EMULATOR_CONTEXT/0": 6110,
}


@pytest.mark.parametrize("what", WHATS)
def test_extract(what: str, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("extract", EXAMPLE, "-o", out, "--what", what).status == 0
    assert out.stat().st_size == WHATS[what]
    again = run("extract", EXAMPLE, "-o", out, "--what", what)
    assert again.status == 1 and "exists; --force replaces it" in again.err
    assert run("extract", EXAMPLE, "-o", out, "--what", what, "--force").status == 0


@pytest.mark.parametrize(
    ("what", "status", "reason"),
    [
        ("bogus", 2, "expected hvm-context, emulator or record:TYPE/INSTANCE"),
        ("record:", 2, "expected hvm-context"),
        ("record:NOPE", 2, "no record type is called"),
        ("record:CPU/x", 2, "is not an instance"),
        ("record:CPU/7", 1, "no CPU/7 record"),
        ("record:HVM_PARAMS/7", 1, "has 1 HVM_PARAMS records, no number 7"),
    ],
)
def test_extract_what_is_not_there(
    what: str, status: int, reason: str, run: Run, tmp_path: Path
) -> None:
    result = run("extract", EXAMPLE, "-o", tmp_path / "out", "--what", what)
    assert result.status == status and reason in result.err and result.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_extract_emulator_of_a_pvh_guest(run: Run, tmp_path: Path) -> None:
    result = run(
        "extract", DATA / "images" / "pvhx.save", "-o", tmp_path / "o", "--what", "emulator"
    )
    assert result.status == 1 and "no EMULATOR_CONTEXT" in result.err


def test_json_there_and_back(run: Run, tmp_path: Path) -> None:
    for number, path in enumerate([EXAMPLE, *CONTEXTS[:3]]):
        text, again = tmp_path / f"{number}.json", tmp_path / f"{number}.bin"
        assert run("to-json", path, "-o", text, "--hex").status == 0
        assert run("from-json", text, "-o", again).status == 0
        assert again.read_bytes() == path.read_bytes()
    text.write_text("{")
    result = run("from-json", text, "-o", tmp_path / "no")
    assert result.status == 1 and result.err.count("\n") == 1
    result = run("from-json", tmp_path / "absent", "-o", tmp_path / "no")
    assert result.status == 1 and "No such file" in result.err
    assert not (tmp_path / "no").exists()


def test_json_in_a_pipe() -> None:
    text = subprocess.run(
        [sys.executable, "-m", "hvmctx", "to-json", "-", "-o", "-"], input=EXAMPLE.read_bytes(),
        capture_output=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    back = subprocess.run(
        [sys.executable, "-m", "hvmctx", "from-json", "-", "-o", "-"], input=text,
        capture_output=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    assert back == EXAMPLE.read_bytes()


def test_json_without_dataclasses_json() -> None:
    done = bare("to-json", EXAMPLE, "-o", "-")
    assert done.returncode == 1 and b"need dataclasses-json" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_strip(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("strip", EXAMPLE, "-o", out)
    assert result.status == 0 and out.read_bytes() == EXAMPLE.read_bytes()
    assert result.err == "hvmctx: 0 pages emptied, 0 records of 0 absent pages left out\n"
    result = run("strip", "7", "-o", out)
    assert result.status == 2
    done = bare("strip", "-", "-o", "-", stdin=EXAMPLE.read_bytes())
    assert done.returncode == 0 and done.stdout == EXAMPLE.read_bytes()


USAGE = [
    [], ["dump"], ["dump", "a", "b"], ["dump", "--bogus", "x"], ["x", "--release", "9.9"],
    ["x", "--format", "nope"], ["x", "--domid", "x"], ["extract", "x"], ["7", "--layer", "xl"],
    ["x", "--layer", "nope"], ["from-json"], ["x", "--rel", "4.17"],
    ["x", "--domid", "-5"], ["x", "--domid", "32768"], ["x", "--domid", "99999999999999"],
    ["x", "--format", "json", "--release", "4.5"], ["x", "--format", "ndjson", "--all"],
    ["x", "--format", "table", "--domid", "0"], ["x", "--format", "json", "--release", "auto"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_usage_errors(arguments: list[str], run: Run) -> None:
    result = run(*arguments)
    assert result.status == 2
    assert result.err.startswith("hvmctx: ") and result.err.count("\n") == 1 and not result.out


INPUTS = {
    "a directory": ("/", "is a directory"),
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
    if command != "strip":
        assert reason in result.err
    assert not list(tmp_path.iterdir())


def test_empty_input() -> None:
    done = bare("/dev/null")
    assert done.returncode == 1
    assert done.stdout == b"HVM save record for domain 0\n"
    assert b"the context is empty: found 0 bytes, expected a descriptor of 8" in done.stderr


def test_length_that_makes_the_genuine_tool_loop_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "loop"
    path.write_bytes(struct.pack("<HHI", 0x22, 0, 0xFFFFFFF8))
    done = bare(path)
    assert done.returncode == 1 and done.stdout.count(b"Entry") == 1
    assert b"found 0 bytes, expected 4294967288" in done.stderr


@pytest.mark.parametrize("cut", range(0, 62469, 1171))
def test_truncated_example(cut: int, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(EXAMPLE.read_bytes()[:cut])
    result = run(path)
    assert result.status == 1
    assert all(line.startswith("hvmctx: ") for line in result.err.splitlines())
    assert 1 <= result.err.count("\n") <= 2


def test_closed_pipe_is_quiet() -> None:
    script = f"{sys.executable} -I -S {TOOL} dump {EXAMPLE} --format json | head -c 10"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=False)
    assert len(done.stdout) == 10 and not done.stderr


def test_help(run: Run) -> None:
    overview = run("--help")
    assert overview.status == 0
    for name in COMMANDS:
        assert f"\n  {name} " in overview.out
        done = bare(name, "--help")
        assert done.returncode == 0 and f"usage: hvmctx {name}".encode() in done.stdout
    assert run("--version").out == "hvmctx 0.1.0\n"


def test_a_file_named_like_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "info").write_bytes(context_bytes())
    assert run("./info").status == 0
    (tmp_path / "7").write_bytes(context_bytes())
    assert run("./7").status == 0


HEAVY = {"argparse", "re", "inspect", "dataclasses", "typing", "json", "enum", "gettext",
         "collections", "importlib.metadata", "lzma", "rich", "dataclasses_json"}  # fmt: skip


@pytest.mark.parametrize("arguments", [[EXAMPLE], [DATA / "images" / "hvm1.hvmctx.bin"]])
def test_a_dump_imports_nothing_heavy(arguments: list[Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", TOOL, *map(str, arguments)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hvmctx.render.text" in imported
    assert not imported & HEAVY
    assert "hvmctx.abi.vmport" not in imported


def test_module_and_script() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hvmctx", str(EXAMPLE)], capture_output=True, cwd=ROOT, check=True
    )
    assert done.stdout == bare(EXAMPLE).stdout
    assert os.access(TOOL, os.X_OK)


@pytest.mark.parametrize(
    "arguments",
    [
        ["to-json", "-", "-o", "-"],
        ["set", "-", "CPU/0.rip=0x1", "-o", "-"],
        ["diff", "-", EXAMPLE],
        ["get", "-", "CPU/0.rip"],
        ["strip", "-", "-o", "-"],
        ["info", "-", "--format", "json"],
    ],
)
def test_a_file_as_standard_input_is_like_its_name(arguments: list[str], run: Run) -> None:
    """It is seekable, and has been looked at before it is read."""
    with open(EXAMPLE, "rb") as file:
        done = subprocess.run(
            [sys.executable, TOOL, *map(str, arguments)], stdin=file, capture_output=True,
            check=False,
        )  # fmt: skip
    named = [str(EXAMPLE) if word == "-" and at == 1 else word for at, word in enumerate(arguments)]
    same = subprocess.run(
        [sys.executable, TOOL, *map(str, named)], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (same.returncode, same.stderr)
    assert done.stdout.replace(b"<stdin>", str(EXAMPLE).encode()) == same.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("arguments", ["dump -", "info {}", "get {} CPU/0.rip", "dump {} --all"])
def test_closed_streams(closed: str, arguments: str) -> None:
    command = f"{sys.executable} {TOOL} {arguments.format(EXAMPLE)} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    unreadable = ">&-" in closed.split() or ("<&-" in closed and arguments == "dump -")
    reads_nothing = arguments == "dump -" and "<&-" not in closed
    assert done.returncode == (1 if unreadable or reads_nothing else 0), done.stderr
    if closed == ">&-" and not reads_nothing:
        assert done.stderr == "hvmctx: standard output is closed\n"


def test_a_misspelt_command(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("verfy", EXAMPLE, "--as", "strict")
    assert (result.status, result.out) == (2, "")
    assert result.err == "hvmctx: no command and no file is called verfy; did you mean verify?\n"
    result = run("no.save")
    assert (result.status, result.err) == (1, "hvmctx: no.save: No such file or directory\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inf").write_bytes(EXAMPLE.read_bytes())
    assert run("inf").status == 0


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe.save"
    with open(path, "wb") as file:
        file.write(EXAMPLE.read_bytes())
    done = subprocess.run(
        [sys.executable, TOOL, "info", path], capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\udcff\\udcfe.save: xl" in done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments", ["info {}", "get {} CPU/0.rip", "dump {} --format table", "--help", "info --help",
                  "--version", "strip {} -o -", "restore --explain cpu-efer"],
)  # fmt: skip
def test_a_full_disk_behind_standard_output(arguments: str, unbuffered: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, TOOL, *arguments.format(EXAMPLE).split()], stdout=full, check=False,
            stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if "pages emptied" not in line]
    assert len(said) == 1 and said[0].endswith("No space left on device")


def test_output_is_whole_without_buffers(tmp_path: Path) -> None:
    """Python's standard output is a raw file then, which may write less than it is given."""
    script = "import fcntl, subprocess, sys\n"
    script += "process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)\n"
    script += "print(len(process.stdout.read()), process.wait())\n"
    done = subprocess.run(
        [sys.executable, "-c", script, sys.executable, TOOL, "strip", EXAMPLE, "-o", "-"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert done.stdout.split() == [str(EXAMPLE.stat().st_size), "0"]


def test_an_input_without_an_end() -> None:
    done = subprocess.run(
        ["sh", "-c", f"ulimit -v 500000; exec {sys.executable} {TOOL} dump /dev/zero"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("hvmctx: ") and done.stderr.count("\n") == 1


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


def test_numbers_name_records(run: Run, tmp_path: Path) -> None:
    data = SMALL.replace(record(8, bytes(24)), record(8, bytes(24)) + record(0x80000020, b"mine"))
    path = tmp_path / "image"
    path.write_bytes(data)
    cases = (
        ("record:libxc:0x80000020", b"mine"), ("record:libxl:3/0", b"\2"),
        ("record:context:2/0", b""), ("record:2", b""), ("record:PAGE_DATA", b"\2"),
    )  # fmt: skip
    for what, start in cases:
        out = tmp_path / "out"
        assert run("extract", path, "--what", what, "-o", out, "--force").status == 0, what
        assert out.read_bytes().startswith(start) and out.stat().st_size
    for what in ("record:libxm:1", "record:libxc:x", "record:libxc:-1"):
        assert run("extract", path, "--what", what, "-o", tmp_path / "no").status == 2
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(data))
    result = run("extract", packed, "--what", "record:PAGE_DATA", "-o", out, "--force")
    assert result.status == 0 and out.stat().st_size == 8 + 16 + 4096
