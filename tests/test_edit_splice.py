from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.edit.splice import seekable, splice
from hvmctx.source import CHUNK, open_source
from tests.test_image import Pipe

cuts = st.lists(st.integers(0, 300), max_size=8, unique=True).map(sorted)


@given(cuts, st.lists(st.binary(max_size=9), min_size=4, max_size=4))
def test_edits(places: list[int], texts: list[bytes]) -> None:
    data = bytes(range(256)) + bytes(44)
    edits = [(a, b, t) for a, b, t in zip(places[::2], places[1::2], texts)]
    expected = data
    for start, end, text in reversed(edits):
        expected = expected[:start] + text + expected[end:]
    out = io.BytesIO()
    splice(open_source(data), out, reversed(edits))
    assert out.getvalue() == expected


@pytest.mark.parametrize("kernel", [True, False])
def test_big_files(kernel: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernel:

        def refuse(*_: object) -> int:
            raise OSError(22, "Invalid argument")

        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    data = os.urandom(CHUNK) * 3
    (tmp_path / "in").write_bytes(data)
    with open_source(tmp_path / "in") as source, open(tmp_path / "out", "w+b") as out:
        splice(source, out, [(CHUNK + 5, CHUNK + 6, b"other"), (len(data), len(data), b"end")])
    expected = data[: CHUNK + 5] + b"other" + data[CHUNK + 6 :] + b"end"
    assert (tmp_path / "out").read_bytes() == expected


def test_seekable(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"contents")
    assert seekable(path) is path
    with seekable(Pipe(b"from a pipe")) as spool:
        assert spool.read() == b"from a pipe" and spool.seekable()


def test_holes_stay_holes(tmp_path: Path) -> None:
    with open(tmp_path / "in", "wb") as file:
        file.write(b"head")
        file.truncate(64 * CHUNK)
    with open_source(tmp_path / "in") as source, open(tmp_path / "out", "w+b") as out:
        splice(source, out, [(1, 2, b"E")])
    size, blocks = os.stat(tmp_path / "out").st_size, os.stat(tmp_path / "out").st_blocks
    assert (size, blocks * 512 < CHUNK) == (64 * CHUNK, True)
