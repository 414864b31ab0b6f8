from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from hvmctx.files.copying import copy_range
from hvmctx.files.opening import open_source
from hvmctx.files.source import CHUNK


@pytest.mark.parametrize("kernel", [True, False])
def test_stretches_of_a_file(kernel: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernel:

        def refuse(*_: object) -> int:
            raise OSError(22, "Invalid argument")

        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    data = os.urandom(CHUNK) * 3
    (tmp_path / "in").write_bytes(data)
    with open_source(tmp_path / "in") as source, open(tmp_path / "out", "w+b") as out:
        copy_range(source, 0, CHUNK + 5, out)
        out.write(b"other")
        copy_range(source, CHUNK + 6, len(data) + 100, out)
        out.write(b"end")
    expected = data[: CHUNK + 5] + b"other" + data[CHUNK + 6 :] + b"end"
    assert (tmp_path / "out").read_bytes() == expected


def test_to_what_is_no_file() -> None:
    out = io.BytesIO()
    copy_range(open_source(bytes(range(200))), 10, 1 << 50, out)
    assert out.getvalue() == bytes(range(10, 200))


def test_holes_stay_holes(tmp_path: Path) -> None:
    with open(tmp_path / "in", "wb") as file:
        file.write(b"head")
        file.truncate(64 * CHUNK)
    with open_source(tmp_path / "in") as source, open(tmp_path / "out", "w+b") as out:
        out.write(b"Head")
        copy_range(source, 4, 64 * CHUNK, out)
    status = os.stat(tmp_path / "out")
    assert (status.st_size, status.st_blocks * 512 < CHUNK) == (64 * CHUNK, True)
