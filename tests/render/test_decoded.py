"""What is inside of device models' files, as text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hvmctx.image.image import open_image
from hvmctx.render.decoded import emulator_lines
from hvmctx.render.text import TextDialect
from tests.builders.emulators import MOUSE, VMPORT, with_model
from tests.builders.running import Run
from tests.builders.samples import ROOT, context_bytes


@pytest.mark.parametrize(
    ("payload", "show_all", "line"),
    [
        (VMPORT, True, "    VMPORT: version 0xabcd0001"),
        (context_bytes(), False, "Entry 1: type 2 instance 0"),
        (MOUSE, True, "    vmmouse: queue_size 1024, queue zeros, nb_queue 0, status 65535"),
        (MOUSE, False, ""),
        (b"unknown", True, ""),
    ],
    ids=["vmport", "context", "all of QEMU's", "QEMU's", "unknown"],
)
def test_lines(payload: bytes, show_all: bool, line: str) -> None:
    with open_image(with_model(payload)) as image:
        text = "".join(emulator_lines(image, TextDialect(show_all=show_all)))
    assert text.startswith("EMULATOR_CONTEXT: qemu") == bool(line) and line in text
    assert not text or text.endswith("\n")


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("cut", [0, 200])
def test_what_is_cut_off_or_gone_by(piped: bool, cut: int, run: Run, tmp_path: Path) -> None:
    """The dump is the same as ever, whatever the device model's record is."""
    data = with_model(bytes(1 << 20))
    path = tmp_path / "image"
    path.write_bytes(data[: len(data) - cut] if cut else data)
    expected = run("dump", path)
    for name in ("dump", "info", "verify"):
        with path.open("rb") as file:
            done = subprocess.run(
                [sys.executable, "-m", "hvmctx", name, "-" if piped else path],
                input=file.read() if piped else b"", capture_output=True, check=False, cwd=ROOT,
            )  # fmt: skip
        assert b"Traceback" not in done.stderr and done.returncode == (1 if cut else 0), done.stderr
        if name == "dump":
            assert done.stdout.decode() == expected.out
