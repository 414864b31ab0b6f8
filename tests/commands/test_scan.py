"""scan as a user types it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hvmctx.cli import main
from hvmctx.image.image import open_image
from hvmctx.scan.row import Asked, row_of
from tests.builders.documents import make_files
from tests.builders.running import TOOL, Run
from tests.builders.samples import EXAMPLE
from tests.builders.web import serving


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images that Xen takes, in a folder with a deeper one."""
    (tmp_path / "deep").mkdir()
    for name in ("a.save", "b.save", "deep/c.save"):
        (tmp_path / name).write_bytes(EXAMPLE.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(text: str | bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def names(text: str | bytes) -> list[str]:
    return sorted(row["input"] for row in rows_of(text))


def test_rows_on_standard_output(fleet: Path, run: Run) -> None:
    result = run("scan", ".", "--release", "4.17")
    assert result.status == 0 and names(result.out) == ["./a.save", "./b.save"]
    assert run("scan", "**/*.save", "a.save", "--release", "4.17").out.count("\n") == 3
    assert names(run("scan", "deep", "a.save").out) == ["a.save", "deep/c.save"]


def test_exit_status(fleet: Path, run: Run) -> None:
    assert run("scan", "a.save", "--release", "4.6").status == 1
    (fleet / "cut").write_bytes(EXAMPLE.read_bytes()[:50000])
    assert run("scan", "cut", "a.save").status == 1
    result = run("scan", "none", "a.save")
    assert result.status == 2 and "none: No such file" in rows_of(result.out)[0]["error"]
    assert result.err == ""


@pytest.mark.parametrize("arguments, said", [
    ((), "no PATH, GLOB or URL"), (("-",), "standard input is one image"), (("7",), "not a DOMID"),
    (("a.save", "--release", "5.0"), "unknown Xen release"),
    (("a.save", "--jobs", "0"), "--jobs 0: expected 1 to 256"),
    (("a.save", "--hosts", "none"), "expected a directory with a file for each host"),
    (("a.save", "--format", "parquet"), "Parquet needs -o FILE"),
    (("a.save", "--resume"), "--resume goes on with a file"),
    (("*.xc",), "*.xc: matches no file"),
    (("a.save", "-o", "-", "--summary"), "rows and a summary do not mix"),
])  # fmt: skip
def test_usage(arguments: tuple[str, ...], said: str, fleet: Path, run: Run) -> None:
    result = run("scan", *arguments)
    assert result.status == 2 and said in result.err and result.out == ""


def test_summary_and_page(fleet: Path, run: Run) -> None:
    pytest.importorskip("jinja2")
    result = run("scan", ".", "--release", "4.6", "--release", "4.17", "--summary", "--html", "p")
    assert result.status == 1
    assert result.out.startswith("2 images: 2 would not restore everywhere, 0 damaged, 0 unread")
    assert "libxc-version" in result.out and "libxc-version" in (fleet / "p").read_text()
    assert (fleet / "p").stat().st_mode & 0o777 == 0o600
    again = run("scan", "a.save", "--html", "p")
    assert again.status == 2 and again.err == "hvmctx: p: exists; --force replaces it\n"


def test_resume(fleet: Path, run: Run) -> None:
    result = run("scan", "a.save", "-o", "rows")
    assert result.status == 0
    assert result.out == "1 image: 0 would not restore everywhere, 0 damaged, 0 unreadable\n"
    result = run("scan", ".", "-o", "rows", "--resume", "--summary")
    assert result.status == 0 and result.out.startswith("3 images")
    assert names((fleet / "rows").read_bytes()) == ["./a.save", "./b.save", "a.save"]
    before = (fleet / "rows").read_bytes()
    assert run("scan", "-o", "rows", "--resume", "--summary").out == result.out
    assert (fleet / "rows").read_bytes() == before
    result = run("scan", ".", "-o", "rows", "--resume", "--release", "4.6")
    assert result.status == 2 and "about other releases or hosts" in result.err


def test_what_was_cut_short(fleet: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from hvmctx.scan import scanning

    def interrupted(name: str, asked: Asked) -> Any:
        if name.endswith("b.save"):
            raise KeyboardInterrupt
        return row_of(name, asked)

    monkeypatch.setattr(scanning, "row_of", interrupted)
    result = run("scan", ".", "-o", "rows")
    assert result.status == 130 and not (fleet / "rows").exists()
    assert result.err == "hvmctx: the rows that are done are in rows.part; --resume goes on\n"
    monkeypatch.setattr(scanning, "row_of", row_of)
    assert run("scan", ".", "-o", "rows").status == 2
    assert run("scan", ".", "-o", "rows", "--resume").status == 0
    assert "./b.save" in names((fleet / "rows").read_bytes())


def test_a_scan_that_is_killed(fleet: Path, run: Run) -> None:
    """With processes of its own."""
    for number in range(60):
        (fleet / f"{number}.xc").symlink_to(EXAMPLE)
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "from hvmctx.scan import output; from hvmctx.cli import main; seen = []\n"
        "first = output.line_of\n"
        "def line_of(row):\n"
        "    seen.append(row); line = first(row)\n"
        "    if len(seen) == 30: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return line\n"
        "output.line_of = line_of; main(sys.argv[1:])"
    )
    root = str(Path(TOOL).parent.parent)
    line = ["scan", "*.xc", "-o", "rows", "--jobs", "2"]
    done = subprocess.run([sys.executable, "-c", code, root, *line], check=False)
    assert done.returncode == -signal.SIGKILL and not (fleet / "rows").exists()
    assert run(*line, "--resume").status == 0
    assert len(set(names((fleet / "rows").read_bytes()))) == 60


def test_hosts(fleet: Path, run: Run) -> None:
    make_files(["hosts"], fleet)
    result = run("scan", "a.save", "--release", "4.17", "--hosts", "hosts")
    (row,) = rows_of(result.out)
    assert [each["host"] for each in row["verdicts"]] == [None, "new", "old.save"]


def test_parquet(fleet: Path, run: Run) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert run("scan", "a.save", "-o", "rows.parquet").status == 0
    assert run("scan", ".", "-o", "rows.parquet", "--resume").status == 0
    table = parquet.read_table("rows.parquet")
    assert table["input"].to_pylist() == ["a.save", "./a.save", "./b.save"]


def test_urls(fleet: Path, run: Run) -> None:
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    with serving(fleet) as served:
        result = run("scan", f"{served.url}/*.save", f"{served.url}/none", "--release", "4.17")
    assert names(result.out) == [f"{served.url}/{n}" for n in ("a.save", "b.save", "none")]
    assert result.status == 2
    assert [row["vcpus"] for row in rows_of(result.out)] == [1, 1, None]


def test_strict_and_content(fleet: Path, run: Run) -> None:
    (row,) = rows_of(run("scan", "a.save", "--strict", "--content-hash").out)
    assert len(row["content_sha256"]) == 64


def test_limits(fleet: Path, run: Run) -> None:
    (row,) = rows_of(run("scan", "a.save", "--limits", "config=10").out)
    assert "config" in row["error"] and row["vcpus"] == 1


def test_a_hostile_name(fleet: Path, run: Run) -> None:
    name = b"x\x1b[31m\n\xff.save"
    Path(os.fsdecode(name)).write_bytes(b"")
    result = run("scan", ".", "--summary")
    assert "\x1b" not in result.out and r"./x\x1b[31m\n\udcff.save: " in result.out
    assert run("scan", ".").out.isascii()


def test_progress_on_a_terminal(fleet: Path) -> None:
    leader, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, TOOL, "scan", ".", "-o", "rows"], stderr=terminal, check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(terminal)
    said = os.read(leader, 1 << 16)
    os.close(leader)
    assert done.returncode == 0 and b"2 of 2 images" in said


def test_it_reads_no_pages(fleet: Path) -> None:
    """Nothing but the heads: what is a hole in a file stays unread."""
    from benchmarks.sparse import write_sparse_stream

    with open_image("a.save") as image:
        context = image.context.to_bytes()
    write_sparse_stream("large", 8, context)
    assert main(["scan", "large", "-o", "rows", "--release", "4.17"]) == 0
    (row,) = rows_of((fleet / "rows").read_bytes())
    assert row["size"] > 8 << 30 and row["complete"]
