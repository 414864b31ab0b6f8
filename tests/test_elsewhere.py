"""What hvmctx does on a system that has only what Windows has too. tests/builders/elsewhere.py says
what is taken away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.builders.running import ROOT, Run
from tests.builders.samples import DATA, EXAMPLE

PROGRAM = str(ROOT / "tests" / "builders" / "elsewhere.py")
STREAM = DATA / "images" / "hvm2x420.save"


def elsewhere(*commands: list[str]) -> list[tuple[int, str, str]]:
    done = subprocess.run(
        [sys.executable, PROGRAM, json.dumps(commands)], capture_output=True, text=True, check=False
    )
    assert not done.stderr
    return [(status, out, err) for status, out, err in json.loads(done.stdout)]


def test_every_module_can_be_imported() -> None:
    subprocess.run([sys.executable, PROGRAM, "import"], check=True)


def test_commands_say_and_write_the_same(tmp_path: Path, run: Run) -> None:
    image, stream = str(EXAMPLE), str(STREAM)
    new, context, small, text, again = (
        str(tmp_path / name) for name in ("new", "context", "small", "json", "again")
    )
    commands = [
        ["dump", image],
        ["dump", stream, "--all"],
        ["info", image, "--records"],
        ["verify", stream, "--as", "strict"],
        ["verify", str(DATA / "libvirt" / "lvpvh.save.xz")],
        ["restore", stream, "--release", "4.20"],
        ["get", image, "CPU/0.rip"],
        ["set", image, "CPU/0.rip=1", "-o", new],
        ["set", image, "CPU/0.rip=2", "-o", new],  # refused: it exists
        ["set", new, "CPU/0.rip=3", "-o", new, "--force"],
        ["set", new, "CPU/0.rip=4", "-o", str(tmp_path)],
        ["set", new, "CPU/0.rip=4", "-o", str(tmp_path / "none" / "new")],
        ["set", new, "CPU/0.rip=4", "-o", "/dev/null"],
        ["diff", image, new],
        ["extract", stream, "-o", context],
        ["strip", stream, "-o", small],
        ["to-json", image, "-o", text],
        ["from-json", text, "-o", again],
        ["scan", image, new, small],
    ]

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    said = elsewhere(*commands)
    written = files()
    for path in tmp_path.iterdir():
        path.unlink()
    for command, there in zip(commands, said):
        status, here = run(*command)
        assert there == (status, *here), command
    assert written == files() and written["again"] == EXAMPLE.read_bytes()


def test_what_needs_more_says_so() -> None:
    image = str(EXAMPLE)
    ends = elsewhere(
        ["scan", image, image, "--jobs", "2"], ["save", "7", "-o", "no"], ["dump", "7"]
    )
    assert [(status, err.partition(",")[0]) for status, _, err in ends] == [
        (2, "hvmctx: this system cannot run several processes at once\n"),
        (1, "hvmctx: domains can only be saved on Linux or another Unix\n"),
        (1, "hvmctx: a DOMID needs Xen's libxenctrl"),
    ]
