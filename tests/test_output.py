from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hvmctx.errors import InputError
from hvmctx.output import replacing


def test_appears_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with replacing(str(path)) as out:
        out.write(b"contents")
        out.flush()
        assert not path.exists()
    assert path.read_bytes() == b"contents"
    assert os.listdir(tmp_path) == ["out"]


def test_vanishes_when_the_work_fails(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), replacing(str(path)) as out:
        out.write(b"half")
        _ = 1 // 0
    assert os.listdir(tmp_path) == []


def test_existing_files_are_safe(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match="exists; --force replaces it"), replacing(str(path)):
        raise AssertionError("not reached")
    with replacing(str(path), force=True) as out:
        out.write(b"new")
    assert path.read_bytes() == b"new"


def test_a_file_that_appears_meanwhile_is_safe(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with pytest.raises(InputError, match="exists"), replacing(str(path)) as out:
        out.write(b"ours")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["out"]


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    path = tmp_path / "out"
    with replacing(str(path)) as out:
        out.write(b"x")
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize("path", ["/no/such/place/out", "/", "a\0b"])
def test_what_cannot_be_written(path: str) -> None:
    with pytest.raises(InputError), replacing(path, force=True):
        raise AssertionError("not reached")


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from hvmctx.cli import main
import sys
sys.exit(main(["strip", sys.argv[1], "-o", sys.argv[2]]))
"""


def test_disk_full(tmp_path: Path) -> None:
    from tests.samples import EXAMPLE

    path = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(EXAMPLE), str(path)], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"hvmctx: {path}: File too large\n"
    assert os.listdir(tmp_path) == []


KILLED = """
import os, sys
from hvmctx.output import replacing
with replacing(sys.argv[1]) as out:
    out.write(b"x" * 100000)
    out.flush()
    os.kill(os.getpid(), 9)
"""


def test_killed(tmp_path: Path) -> None:
    path = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
