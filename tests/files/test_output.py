from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hvmctx.cli import main
from hvmctx.errors import InputError
from hvmctx.files.output import replacing
from tests.builders.samples import DATA, EXAMPLE


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


def test_links_stay_links(tmp_path: Path) -> None:
    path, link = tmp_path / "out", tmp_path / "link"
    path.write_bytes(b"old")
    link.symlink_to(path)
    with pytest.raises(InputError, match="exists"), replacing(str(link)):
        raise AssertionError("not reached")
    with replacing(str(link), force=True) as out:
        out.write(b"new")
    assert link.is_symlink() and path.read_bytes() == b"new"


@pytest.mark.parametrize("force", [True, False])
def test_devices_and_fifos_are_written_to(force: bool, tmp_path: Path) -> None:
    """A renamed file in the place of /dev/null would be the end of many programs."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with replacing(str(fifo), force=force) as out:
        out.write(b"contents")
    assert os.read(reader, 100) == b"contents"
    os.close(reader)
    with replacing("/dev/null", force=force) as out:
        out.write(b"contents")
    assert Path("/dev/null").is_char_device()
    assert os.listdir(tmp_path) == ["fifo"]


def test_a_full_device(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="/dev/full: No space left"), replacing("/dev/full") as out:
        out.write(b"contents")


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


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, getattr(signal, sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from hvmctx.cli import main
sys.exit(main(sys.argv[2:]))
"""
CONTEXT = DATA / "images" / "hvm1.hvmctx.bin"
WRITING = {
    "strip": ("strip", EXAMPLE),
    "set": ("set", EXAMPLE, "CPU.rax=1"),
    "replace": ("replace", EXAMPLE, CONTEXT),
    "extract": ("extract", EXAMPLE),
    "extract raw memory": ("extract", DATA / "streams" / "13-one-page.xc", "--what", "memory"),
    "extract an ELF core": (
        "extract", DATA / "streams" / "13-one-page.xc", "--what", "memory", "--format", "elf",
    ),
    "to-json": ("to-json", EXAMPLE),
    "from-json": ("from-json", "JSON"),
    "build": ("build", "--base", EXAMPLE),
    "convert": ("convert", DATA / "streams" / "legacy_hvm_w64.in.bin"),
}  # fmt: skip


def limited(name: str, action: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """A writing command that may write 1,000 bytes. Beyond them the system says that the
    file is too large, or, where `action` is SIG_DFL, kills the process."""
    (tmp_path / "out").mkdir()
    json = tmp_path / "json"
    if "JSON" in WRITING[name]:
        assert main(["to-json", str(EXAMPLE), "-o", str(json)]) == 0
    arguments = [str(json) if a == "JSON" else str(a) for a in WRITING[name]]
    return subprocess.run(
        [sys.executable, "-c", LIMITED, action, *arguments, "-o", str(tmp_path / "out" / "file")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", WRITING)
def test_disk_full(name: str, tmp_path: Path) -> None:
    done = limited(name, "SIG_IGN", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"hvmctx: {tmp_path / 'out' / 'file'}: File too large"
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("name", WRITING)
def test_killed_while_writing(name: str, tmp_path: Path) -> None:
    """What is left has another name."""
    assert limited(name, "SIG_DFL", tmp_path).returncode == -signal.SIGXFSZ
    assert not (tmp_path / "out" / "file").exists()


KILLED = """
import os, sys
from hvmctx.files.output import replacing
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


def test_what_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with replacing(str(path), force=True) as out:
        out.write(b"new")
    assert path.stat().st_mode & 0o777 == 0o640


def test_names_as_long_as_they_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    with replacing(str(path)) as out:
        out.write(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_nothing_is_left_by_a_kill(number: signal.Signals, tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom hvmctx.files.output import replacing\n"
        "with replacing(sys.argv[1]) as out:\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "out"], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.wait() != 0
    process.stdout.close()
    assert os.listdir(tmp_path) == []


def test_in_another_thread(tmp_path: Path) -> None:
    def work() -> None:
        with replacing(str(tmp_path / "out")) as out:
            out.write(b"x")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (tmp_path / "out").read_bytes() == b"x"
