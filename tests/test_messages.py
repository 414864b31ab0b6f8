"""Text for people: what is escaped, what comes of a message that cannot be written, and that
nothing in the package says or shows anything in another way."""

from __future__ import annotations

import ast
import io
import json
import os
import pty
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx import messages
from hvmctx.messages import printable
from tests.builders.running import ROOT, TOOL, Run
from tests.builders.samples import EXAMPLE

PLAIN = [
    "", "CPU/0", "tab-less text", "café", "e\u0301", "Grüße, 世界", "“quotes”", "עברית",
    "हिन्दी", r"C:\n", "[red]bold[/red]", ":smile:", "😀",
]  # fmt: skip


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_text_stays(text: str) -> None:
    assert printable(text) == text


ESCAPED = (
    "\0\n\r\t\x1b\x07\x08\x7f"
    "\x85\x9b"  # a next line, and ESC [ in one character
    "\xa0\u3000\u2028\u2029"  # spaces and ends of lines
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u061c"  # direction
    "\u200b\u200c\u200d\ufeff\xad\u2060"  # no width
    "\ud800\udcff\ufffe\U0010ffff\ue000\u0378"  # no characters
    "\u034f\u115f\u3164\ufe0f\U000e0041\U000e0100\u2800"  # printable, says Python
)


@pytest.mark.parametrize("letter", ESCAPED, ids=ascii)
def test_what_is_escaped(letter: str) -> None:
    assert printable(f"a{letter}b") == f"a{letter.encode('unicode_escape').decode()}b"


BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@given(st.text(st.characters(), max_size=30) | st.text(st.sampled_from(ESCAPED + "a\\")))
def test_any_text(text: str) -> None:
    shown = printable(text)
    shown.encode()  # no half of a pair
    for letter in shown:
        assert unicodedata.category(letter) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        assert unicodedata.bidirectional(letter) not in BIDI
    assert printable(shown) == shown


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_message_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    messages.say("a\nb\x1b[31m")
    messages.warn("c\n")
    messages.progress("50 %\n")
    messages.end_progress()
    messages.show("d\n")
    messages.show_json({"e\x1b": "é\u2028"})
    out, err = capfd.readouterr()
    assert err == "hvmctx: a\\nb\\x1b[31m\nhvmctx: warning: c\\n\n\r50 %\\n\n"
    assert out == 'd\\n\n{\n "e\\u001b": "\\u00e9\\u2028"\n}\n'


@pytest.mark.parametrize(
    ("environment", "terminal", "expected"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "xterm"}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"NO_COLOR": "", "TERM": "xterm"}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
    ],
)
def test_who_sees_colours(
    environment: dict[str, str], terminal: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    assert messages.has_color(stream) == expected
    assert ("\x1b" in messages.colored("warning: text", stream)) == expected


def test_which_words_are_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    assert messages.colored("hvmctx: warning: a", out) == "hvmctx: \x1b[33mwarning\x1b[0m: a"
    assert messages.colored("error: a: error: b", out) == "\x1b[31merror\x1b[0m: a: error: b"
    assert messages.colored("a.save: accept", out) == "a.save: \x1b[32maccept\x1b[0m"
    for line in ("an error: a", "a: b: error: c", ""):
        assert messages.colored(line, out) == line


def test_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Broken())
    messages.say("a")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    messages.say("a")
    monkeypatch.setattr(sys, "stderr", None)
    messages.make_ready()
    messages.say("a")
    assert not messages.watched()
    sys.stderr.close()


STRIP = ["strip", str(EXAMPLE), "-o"]
"""It has something to say, and ends with 0."""


@pytest.mark.parametrize("behind", ["2>/dev/full", "2>&-", "2> >(exit)", "2>/dev/full >&2"])
def test_a_message_that_cannot_be_written_changes_nothing(behind: str, tmp_path: Path) -> None:
    """Neither the exit status nor what is written."""
    line = f'sleep 0.2; exec "$@" {behind}'
    for arguments, status in ((STRIP, 0), (["info", "/no/such"], 1), (["dump", "--x"], 2)):
        out = tmp_path / f"out{status}"
        words = [*arguments, str(out)] if arguments is STRIP else arguments
        done = subprocess.run(
            ["bash", "-c", line, "bash", sys.executable, "-I", "-S", TOOL, *words],
            capture_output=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")
    assert (tmp_path / "out0").stat().st_size > 1000


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "C.UTF-8"},
     {"PYTHONIOENCODING": "latin-1:strict"}, {"PYTHONIOENCODING": "ascii:strict"}],
    ids=str,
)  # fmt: skip
def test_any_encoding(environment: dict[str, str]) -> None:
    name = "no\xff\u4e16".encode() + b"\xff\xfe\x1b\n"
    done = subprocess.run(
        [sys.executable, TOOL, "info", name], capture_output=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"hvmctx: no")
    assert done.stderr.endswith(b"\\udcff\\udcfe\\x1b\\n: No such file or directory\n")
    assert not set(done.stderr[:-1]) & {*range(0x20), 0x7F}


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """Without rich, it is the only thing there that moves the cursor."""
    leader, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-S", TOOL, "fuzz", "campaign", "--target", "vmport", "--corpus",
         tmp_path / "\x1b[31mcorpus", "--time", "3s"],
        stdout=subprocess.PIPE, stderr=terminal, check=False,
    )  # fmt: skip
    os.close(terminal)
    said = os.read(leader, 1 << 16)
    os.close(leader)
    assert done.returncode == 0 and said.startswith(b"\r") and said.endswith(b"\r\n")
    assert b"\x1b" not in said + done.stdout


MODULES = sorted((ROOT / "hvmctx").rglob("*.py"))
TO_STDOUT = {
    "cli.py": "help, and making it ready",
    "commands/diff.py": "JSON, as it comes",
    "commands/dump.py": "the text of xen-hvmctx, JSON and tables",
    "commands/fuzz.py": "the summary of a campaign, whose paths are escaped",
    "commands/hexdump.py": "bytes in hex, with names that are escaped",
    "commands/info.py": "hands it to describe_text, which escapes",
    "commands/inputs.py": "the words of a rule; flushes it",
    "commands/place.py": "CSV, for programs",
    "commands/plan.py": "a table of numbers",
    "files/output.py": "the bytes of an output",
    "messages.py": "",
    "volatility/__main__.py": "a folder, for a shell",
    "render/table.py": "a table, whose cells are escaped",
}
"""Who names sys.stdout, and for what."""


def names_of(path: Path) -> Iterator[str]:
    """Functions and attributes by which text could get to a person."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (f"import {alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            yield f"{ast.unparse(node.func)}({node.args[0].value!s})"  # os.write(2, ...)


ELSEWHERE = {
    "print", "input", "import syslog", "import faulthandler", "os.write(1)", "os.write(2)",
    "sys.__stderr__", "sys.__stdout__", "sys.excepthook", "traceback.print_exc",
    "traceback.print_exception", "traceback.print_stack", "traceback.print_tb",
    "logging.basicConfig", "logging.StreamHandler", "logging.lastResort",
}  # fmt: skip
"""What the library logs is for programs that ask for it: nothing here shows it."""
OF_THE_COMMAND_LINE = {"sys.__stdout__", "os.write(2)"}
"""It makes standard output ready, and has one constant line for when there is no memory."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_there_is_no_other_way_to_a_person(path: Path) -> None:
    where = path.relative_to(ROOT / "hvmctx").as_posix()
    names = set(names_of(path))
    assert names & ELSEWHERE <= (OF_THE_COMMAND_LINE if where == "cli.py" else set())
    assert ("sys.stderr" in names) == (where == "messages.py")
    assert ("sys.stdout" in names) == (where in TO_STDOUT)


def test_an_unknown_way_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("import sys\nfrom sys import stderr\nprint('a', file=sys.stderr)\n")
    assert {"print", "sys.stderr"} <= set(names_of(path))


@pytest.mark.parametrize(
    ("forced", "shown"), [("", "a\\x1b[0m b\n"), ("1", "a\\x1b[0m\x1b[31m b\x1b[0m\n")]
)
def test_a_line_in_pieces(
    forced: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Colours are ours alone."""
    monkeypatch.setenv("FORCE_COLOR", forced)
    monkeypatch.delenv("NO_COLOR", raising=False)
    messages.show_parts([("a\x1b[0m", ""), (" b", "red")])
    assert capsys.readouterr().out == shown


def _reason(data: bytes) -> str:
    try:
        json.loads(data)
    except (ValueError, RecursionError) as error:
        return messages.why_not_json(error)
    return "it is"


def test_why_a_text_is_not_json() -> None:
    """What Python says of itself is not passed on."""
    assert _reason(b"[1,]").startswith(("Expecting value: line 1", "Illegal trailing comma"))
    assert _reason(b'["\x80"]') == "not UTF-8 at byte 2"
    assert _reason(b"[" * 200_000) == "values are nested too deep"
    assert messages.why_not_json(ValueError("Exceeds the limit")) == "a number has too many digits"


@pytest.mark.parametrize(
    "line",
    ["policy DIR", "info DIR", "replace IN --what config DIR -o OUT", "from-json DIR -o OUT",
     "policy IN --host DIR", "restore IN --policy DIR", "get DIR CPU/0.rip"],
)  # fmt: skip
def test_a_directory_is_called_one_in_the_same_words(line: str, run: Run, tmp_path: Path) -> None:
    words = {"DIR": tmp_path, "IN": EXAMPLE, "OUT": tmp_path / "out"}
    result = run(*(words.get(word, word) for word in line.split()))
    assert result.status in (1, 2) and result.err.endswith(f"{tmp_path}: Is a directory\n")
