"""The name of the manifest, which `restore` of a directory leaves out."""

from __future__ import annotations

from pathlib import Path

from hvmctx.commands.inputs import files_in
from hvmctx.fuzz import MANIFEST
from tests.builders.running import Run


def test_manifest(tmp_path: Path, run: Run) -> None:
    assert run("fuzz", "generate", "--count", "3", "-o", tmp_path).status == 0
    assert (tmp_path / MANIFEST).is_file()
    assert [Path(path).name for path in files_in(str(tmp_path))] == [
        "000000.bin", "000001.bin", "000002.bin",
    ]  # fmt: skip
