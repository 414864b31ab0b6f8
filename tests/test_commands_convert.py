"""convert as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvmctx.cli import main
from tests.samples import DATA

PLACE = DATA / "streams"


def test_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, out = PLACE / "legacy_hvm_w32_xl.in.bin", tmp_path / "out"
    assert main(["convert", str(source), "-o", str(out)]) == 0
    assert capfd.readouterr().err == ("hvmctx: 3 pages, 2 with contents; 1 absent ones left out\n")
    assert main(["verify", str(out), "--as", "verifier"]) == 0
    cut = tmp_path / "cut"
    cut.write_bytes(source.read_bytes()[:-9])
    assert main(["convert", str(cut), "-o", str(tmp_path / "none")]) == 1
    assert not (tmp_path / "none").exists()
    assert main(["convert", "7", "-o", str(tmp_path / "none")]) == 2
    plain = ["convert", str(PLACE / "legacy_hvm_w32.in.bin"), "-o", str(out), "--force"]
    options = ["--format", "libxc", "--width", "32", "--guest", "hvm", "--skip-qemu"]
    assert main([*plain, *options]) == 0
    assert out.read_bytes().startswith(b"\xff" * 8)
