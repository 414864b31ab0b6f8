"""Modules planted in the working directory, or beside the script, are not imported: not by the
installed command, not by the script of a checkout, not by `python -P -m hvmctx`."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders.running import ROOT, TOOL
from tests.builders.samples import DATA, EXAMPLE

CONTEXT = DATA / "images" / "hvm1.hvmctx.bin"
OTHERS = {
    "dataclasses_json", "fsspec", "hvmctx", "hypothesis", "jinja2", "lz4", "markupsafe",
    "marshmallow", "planted", "rich", "typing_extensions", "zstandard",
}  # fmt: skip
MODULE = (
    "import os\nopen(os.environ['PLANTED'], 'a').write(f'{__name__}\\n')\nraise SystemExit(99)\n"
)
COMMANDS = (
    ("EXAMPLE",), ("EXAMPLE", "--format", "json"), ("EXAMPLE", "--format", "table"),
    ("gz",), ("xz",), ("zst",), ("lz4",), ("--help",), ("dump", "--help"), ("info", "EXAMPLE"),
    ("info", "gz", "--records", "--format", "json"), ("get", "EXAMPLE", "CPU/0.rip"),
    ("verify", "EXAMPLE", "--as", "strict"), ("verify", "xz", "--format", "json"),
    ("restore", "EXAMPLE", "."), ("restore", "EXAMPLE", "--format", "ndjson"),
    ("diff", "EXAMPLE", "gz", "--memory"), ("plan", "4GiB", "--hot", "64MiB@20000"),
    ("set", "EXAMPLE", 'VMPORT.guestinfo["a"]="b"', "-o", "set", "--force"),
    ("set", "EXAMPLE", "CPU/0.rip=1", "-o", "set", "--force"), ("strip", "gz", "-o", "strip"),
    ("replace", "EXAMPLE", "CONTEXT", "-o", "replaced"), ("extract", "EXAMPLE", "-o", "context"),
    ("extract", "xz", "--what", "memory", "--format", "elf", "-o", "core"),
    ("to-json", "EXAMPLE", "-o", "json"), ("from-json", "json", "-o", "again"),
    ("convert", "legacy", "-o", "converted"), ("build", "--base", "EXAMPLE", "-o", "built"),
    ("scan", "EXAMPLE", "gz", "--jobs", "2", "--summary", "--html", "fleet"),
    ("fuzz", "run", "stream", "EXAMPLE"), ("fuzz", "generate", "--count", "2", "-o", "made"),
    ("fuzz", "campaign", "--target", "json", "--corpus", "c", "--executions", "2", "--jobs", "2",
     "--html", "page", "--json", "summary"),
    ("fuzz", "diff", "--kind", "context", "--count", "1", "--against", "command:true"),
    ("verfy",), ("7",), ("/no/such",),
)  # fmt: skip


def plant(folder: Path, but: frozenset[str] = frozenset()) -> None:
    """A module of every name that Python's library has, and of some others; and one that
    claims to be a handler."""
    folder.mkdir(exist_ok=True)
    for name in {*sys.stdlib_module_names, *OTHERS} - but:
        (folder / f"{name}.py").write_text(MODULE)
    info = folder / "planted-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[hvmctx.handlers]\nlibxc:0x9 = planted:handle\n")


def script_of_a_checkout(place: Path) -> list[str]:
    """With such modules in its folder, and in the checkout's."""
    for folder in (place / "tree", place / "tree" / "tools"):
        plant(folder, frozenset({"hvmctx"} if folder.name == "tree" else ()))
    (place / "tree" / "hvmctx").symlink_to(ROOT / "hvmctx")
    return [sys.executable, shutil.copy(TOOL, f"{place}/tree/tools")]


def installed_command(place: Path) -> list[str]:
    """As pip has written it, with such modules in its folder. What it imports before hvmctx
    begins it does find there."""
    told = "import sys, re, hvmctx.cli; print(*sys.modules)"
    first = subprocess.run([sys.executable, "-c", told], capture_output=True, check=True, text=True)
    plant(place / "bin", frozenset(first.stdout.split()))
    script = Path(sysconfig.get_path("scripts")) / "hvmctx"
    return [sys.executable, shutil.copy(str(script), f"{place}/bin")]


def module(place: Path) -> list[str]:
    return [sys.executable, "-P" if sys.version_info >= (3, 11) else "-I", "-m", "hvmctx"]


WAYS = (script_of_a_checkout, installed_command, module)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_nothing_planted_runs(way: Callable[[Path], list[str]], tmp_path: Path) -> None:
    """All commands in one way: what Python imports from is set before any of them."""
    here, ran = tmp_path / "here", tmp_path / "ran"
    plant(here)
    program = way(tmp_path)
    data = EXAMPLE.read_bytes()
    files = {"gz": gzip.compress(data, 1), "xz": lzma.compress(data, preset=0)}
    for name, compress in (("zst", "zstandard"), ("lz4", "lz4.frame")):
        files[name] = __import__(compress, fromlist=["compress"]).compress(data)
    files["legacy"] = next((DATA / "streams").rglob("*legacy*")).read_bytes()
    for name, content in files.items():
        (here / name).write_bytes(content)
    words = {"EXAMPLE": str(EXAMPLE), "CONTEXT": str(CONTEXT)}
    for line in COMMANDS if way is installed_command else COMMANDS[::4]:
        done = subprocess.run(
            [*program, *(words.get(word, word) for word in line)], cwd=here, capture_output=True,
            check=False, env={**os.environ, "PLANTED": str(ran)},
        )  # fmt: skip
        assert not ran.exists(), (line, ran.read_text())
        assert done.returncode in (0, 1, 2) and b"Traceback" not in done.stderr, (line, done.stderr)


def test_what_is_planted_would_run(tmp_path: Path) -> None:
    """`python -m hvmctx` in a folder of someone else's takes its hvmctx: as SECURITY.md says."""
    plant(tmp_path / "here")
    done = subprocess.run(
        [sys.executable, "-m", "hvmctx", EXAMPLE], cwd=tmp_path / "here", capture_output=True,
        check=False, env={**os.environ, "PLANTED": str(tmp_path / "ran")},
    )  # fmt: skip
    assert done.returncode == 99 and (tmp_path / "ran").exists()
