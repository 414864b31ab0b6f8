"""The commands as a user types them: output, exit status, one line for every error."""

from __future__ import annotations

import gc
import gzip
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hvmctx.cli import COMMANDS, _is_monitored, _Words, command_of
from hvmctx.parsers import parser_of
from tests.builders.running import ROOT, TOOL, Run, bare
from tests.builders.samples import EXAMPLE, context_bytes

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
    assert re.fullmatch(r"hvmctx 0\.1\.0( \([0-9a-f]{12}\))?\n", run("--version").out)


def test_help_as_a_command(run: Run) -> None:
    assert run("help") == run("--help")
    assert run("help", "get") == run("get", "--help")
    assert run("help", "fuzz", "run") == run("fuzz", "run", "--help")
    for word in ("nope", "guest.save", "--bogus"):
        error = f"hvmctx: help: no command is called {word}; see hvmctx --help\n"
        assert run("help", word) == (2, ("", error))


def test_a_file_named_like_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "info").write_bytes(context_bytes())
    assert run("./info").status == 0
    (tmp_path / "7").write_bytes(context_bytes())
    assert run("./7").status == 0


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
    assert result.err == "hvmctx: no command or file is called verfy; did you mean verify?\n"
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
    assert done.returncode == (2 if arguments.startswith("restore") else 1)
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


def test_only_a_process_of_its_own_tunes_the_garbage_collector(run: Run) -> None:
    before = gc.get_threshold()
    assert run("--version").status == 0
    assert gc.get_threshold() == before
    told = "import gc, sys; from hvmctx.cli import main; sys.argv[1:] = ['--version']; main()"
    done = subprocess.run(
        [sys.executable, "-c", f"{told}; print(gc.get_threshold()[0])"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "50000"


def test_a_library_that_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    """With little memory the loader, not Python, says so: `libz.so.1: failed to map segment`."""
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(context_bytes()))
    monkeypatch.delitem(sys.modules, "hvmctx.files.compression", raising=False)
    monkeypatch.setitem(sys.modules, "zlib", None)
    result = run(packed)
    assert result.status == 1
    assert result.err.startswith("hvmctx: a part of Python cannot be loaded: ")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--version"], [str(EXAMPLE)]])
def test_in_a_directory_that_is_gone(tmp_path: Path, arguments: list[str]) -> None:
    script = 'cd "$1"; rmdir "$1"; shift; exec "$@"'
    gone = tmp_path / "gone"
    gone.mkdir()
    command = [sys.executable, "-S", TOOL, *arguments]
    done = subprocess.run(
        ["sh", "-c", script, "sh", gone, *command], capture_output=True, check=False
    )
    assert done.returncode == 0 and done.stdout and not done.stderr


def test_words_alone_mean_what_argparse_says() -> None:
    """For every command, as far as it takes such a line."""
    taken = set()
    for name in COMMANDS:
        for count in range(5):
            words = ["a", "b", "c", "d"][:count]
            values = _Words().parse(command_of(name), words)
            if values is not None:
                assert values == vars(parser_of(command_of(name), name).parse_args(words))
                taken.add(name)
    assert {"dump", "info", "get", "hexdump", "verify", "restore", "diagnose", "diff"} <= taken


ENDS = """
import sys
from hvmctx.cli import run
class Held:
    def __del__(self):
        sys.__stdout__.write("taken down\\n")
held = Held()
sys.argv[1:] = ["--version"]
"""


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ("", []),
        ("import atexit; atexit.register(print, 'at exit')", ["at exit", "taken down"]),
        ("import threading; threading.Timer(0.1, print, ['late']).start()", ["late", "taken down"]),
    ],
)
def test_how_a_process_ends(before: str, told: list[str]) -> None:
    """At once, unless somebody waits for more."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{ENDS}"
         f"{before}\nrun()"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    version, *rest = done.stdout.splitlines()
    assert version.startswith("hvmctx ") and rest == told


def test_a_profiler_has_its_say() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cProfile", TOOL, "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "function calls" in done.stdout


@pytest.mark.parametrize("tool", [2, None])
def test_a_profiler_of_newer_pythons(monkeypatch: pytest.MonkeyPatch, tool: int | None) -> None:
    """From 3.12 on, cProfile is not what `sys.getprofile` says."""
    monitoring = SimpleNamespace(get_tool=lambda number: "cProfile" if number == tool else None)
    monkeypatch.setattr(sys, "monitoring", monitoring, raising=False)
    assert _is_monitored() == (tool is not None)
