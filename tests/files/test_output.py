from __future__ import annotations

# ruff: noqa: PLW1509 - no threads when the children start
import ctypes
import errno
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from hvmctx.cli import main
from hvmctx.errors import InputError
from hvmctx.files import output
from hvmctx.files.access import Access
from hvmctx.files.output import is_temporary, replacing, sweep
from tests.builders.running import Run, no_disposition_of_ours
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
    """vfat has none, but a rename that replaces nothing; others lack that too."""

    def link(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    path = tmp_path / "out"
    for attribute in ("no change", "CDLL"):
        monkeypatch.setattr(ctypes, attribute, lambda *_, **__: None, raising=False)
        with replacing(str(path)) as out:
            out.write(b"x")
        assert path.read_bytes() == b"x" and os.listdir(tmp_path) == ["out"]
        path.unlink()
        with pytest.raises(InputError, match="exists"), replacing(str(path)) as out:
            path.write_bytes(b"theirs")
        assert path.read_bytes() == b"theirs" and os.listdir(tmp_path) == ["out"]
        path.unlink()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/no/such/place/out", "/no/such/place: No such file|No such file or directory"),
        ("/", "/: Is a directory"), ("a\0b", "embedded null byte"),
        ("", "the name of the output file is empty"), (".", r"\.: Is a directory"),
        ("\ud800", r"ud800.*can't encode"),
    ],
)  # fmt: skip
def test_what_cannot_be_written(path: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason), replacing(path, force=True):
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
        capture_output=True, text=True, check=False, preexec_fn=no_disposition_of_ours,
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


def test_what_replaces_its_input_is_on_the_disk_before_it_does(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what the disk says counts."""

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    path, other = tmp_path / "image", tmp_path / "other"
    path.write_bytes(EXAMPLE.read_bytes())
    monkeypatch.setattr(os, "fsync", fail)
    for _ in range(2):
        assert run("set", path, "CPU.rax=1", "-o", other, "--force").status == 0
    result = run("set", path, "CPU.rax=1", "-o", path, "--force")
    assert result == (1, ("", f"hvmctx: {path}: Input/output error\n"))
    assert path.read_bytes() == EXAMPLE.read_bytes()
    monkeypatch.undo()
    assert run("set", path, "CPU.rax=1", "-o", path, "--force").status == 0
    assert path.read_bytes() == other.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["image", "other"]


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
        stderr=subprocess.DEVNULL, preexec_fn=no_disposition_of_ours,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.wait() == (-number if number == signal.SIGINT else 128 + number)
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


@pytest.fixture(params=[0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


def access(mode: int, uid: int = os.geteuid(), gid: int = os.getegid()) -> Access:
    return Access(uid, gid, mode)


MODES = [
    # inputs, replaced, the mode under umask 022
    ([0o600], None, 0o600),
    ([0o640], None, 0o640),
    ([0o644], None, 0o644),
    ([0o666], None, 0o644),
    ([0o400], None, 0o400),
    ([0o644, 0o640], None, 0o640),
    ([0o640, 0o604], None, 0o600),
    ([0o644, None], None, 0o600),
    ([None], None, 0o600),
    ([], None, 0o600),
    ([0o644], 0o600, 0o600),
    ([0o600], 0o644, 0o600),
    ([0o644], 0o666, 0o644),
    ([0o666], 0o664, 0o664),
    ([], 0o640, 0o640),
    ([None], 0o640, 0o640),
    ([0o7777], 0o6755, 0o755),
]


@pytest.mark.parametrize(("inputs", "replaced", "mode"), MODES)
def test_modes(
    inputs: list[int | None], replaced: int | None, mode: int, umask: int, tmp_path: Path
) -> None:
    """Never wider than any input, and private until it is whole."""
    path = tmp_path / "out"
    if replaced is None:
        mode &= ~umask
    else:
        path.write_bytes(b"old")
        path.chmod(replaced)
    like = [each if each is None else access(each) for each in inputs]
    with replacing(str(path), force=True, like=like) as out:
        assert os.fstat(out.fileno()).st_mode & 0o7777 == 0o600
        out.write(b"new")
    assert path.stat().st_mode & 0o7777 == mode
    assert os.umask(umask) == umask


@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_no_command_gives_away_its_input(
    name: str, mode: int, umask: int, run: Run, tmp_path: Path
) -> None:
    json = tmp_path / "json"
    assert run("to-json", EXAMPLE, "-o", json).status == 0
    arguments: list[object] = []
    for argument in WRITING[name]:
        if argument == "JSON" or isinstance(argument, Path):
            copied = tmp_path / f"copied-{len(arguments)}"
            copied.write_bytes(Path(json if argument == "JSON" else argument).read_bytes())
            copied.chmod(mode)
            arguments.append(copied)
        else:
            arguments.append(argument)
    assert run(*arguments, "-o", tmp_path / "out").status == 0
    assert (tmp_path / "out").stat().st_mode & 0o7777 == mode & ~umask


def test_all_that_goes_into_it_counts(run: Run, tmp_path: Path) -> None:
    """The strictest of them."""
    files = {"base": EXAMPLE, "context": CONTEXT, "config": tmp_path / "json"}
    (tmp_path / "json").write_text("{}")
    files["emulator"] = tmp_path / "emulator"
    assert run("extract", EXAMPLE, "--what", "emulator", "-o", files["emulator"]).status == 0
    stream = DATA / "streams" / "13-one-page.xc"
    files["memory"] = tmp_path / "memory"
    assert run("extract", stream, "--what", "memory", "-o", files["memory"]).status == 0
    files["policy"] = EXAMPLE
    for name, path in files.items():
        copied = tmp_path / f"copied-{name}"
        copied.write_bytes(path.read_bytes())
        files[name] = copied
    for private in files:
        for name, path in files.items():
            path.chmod(0o600 if name == private else 0o644)
        options = [word for name, path in files.items() for word in (f"--{name}", path)]
        result = run("build", *options, "--force-inconsistent", "-o", tmp_path / "out", "--force")
        assert result.status == 0
        assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600, private
        (tmp_path / "out").unlink()
    for private in ("base", "context"):
        for name, path in files.items():
            path.chmod(0o600 if name == private else 0o644)
        run("replace", files["base"], files["context"], "-o", tmp_path / "out")
        assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600, private
        (tmp_path / "out").unlink()


def test_what_is_generated(run: Run, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.write_bytes(EXAMPLE.read_bytes())
    for mode, options in ((0o640, ("--base", base)), (0o600, ())):
        base.chmod(0o640)
        place = tmp_path / f"{mode:o}"
        result = run("fuzz", "generate", "--count", 2, "--release", "4.17", *options, "-o", place)
        assert result.status == 0
        assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {mode}


def test_the_mode_is_that_of_whoever_is_known_at_the_end(tmp_path: Path) -> None:
    like: list[Access | None] = []
    with replacing(str(tmp_path / "out"), like=like):
        like.append(access(0o640))
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


def test_another_group_gets_what_others_have(tmp_path: Path) -> None:
    with replacing(str(tmp_path / "out"), like=[access(0o640, gid=os.getegid() + 1)]):
        pass
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")


@as_root
@pytest.mark.parametrize(("mode", "owner"), [(0o600, 0), (0o644, 1234)])
def test_the_owner_of_what_is_replaced(mode: int, owner: int, tmp_path: Path) -> None:
    """Gets the new file if the input was readable to anybody, or was theirs too."""
    path = tmp_path / "out"
    path.write_bytes(b"old")
    os.chown(path, 1234, 1234)
    with replacing(str(path), force=True, like=[access(mode)]):
        pass
    assert (path.stat().st_uid, path.stat().st_gid) == (owner, 1234)
    os.chown(path, 1234, 1234)
    path.chmod(0o600)
    with replacing(str(path), force=True, like=[access(0o600, uid=1234, gid=1234)]):
        pass
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (1234, 0o600)


def test_a_directory_cannot_give_it_to_others(tmp_path: Path) -> None:
    """A default ACL that lets user 1234 read and write what is made in the directory."""
    nobody = 0xFFFFFFFF
    entries = [(1, 7, nobody), (2, 7, 1234), (4, 5, nobody), (16, 7, nobody), (32, 5, nobody)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", acl)
    except OSError:  # no file system for it
        return
    with replacing(str(tmp_path / "out"), like=[access(0o660)]) as out:
        assert os.fstat(out.fileno()).st_mode & 0o777 == 0o600
    assert "system.posix_acl_access" not in os.listxattr(tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode & 0o777 & ~0o660 == 0


def sticky(path: Path) -> Path:
    path.mkdir()
    path.chmod(0o1777)
    return path


@as_root
@pytest.mark.parametrize("force", [True, False])
def test_a_link_of_another_user_in_a_sticky_directory(force: bool, tmp_path: Path) -> None:
    shared, own = sticky(tmp_path / "shared"), tmp_path / "own"
    own.write_bytes(b"old")
    (shared / "theirs").symlink_to(own)
    os.lchown(shared / "theirs", 1234, 1234)
    (shared / "ours").symlink_to("theirs")
    (tmp_path / "outside").symlink_to("shared/ours")
    for name in (shared / "theirs", shared / "ours", tmp_path / "outside"):
        with pytest.raises(InputError, match="another user"), replacing(str(name), force=force):
            raise AssertionError("not reached")
    assert own.read_bytes() == b"old"
    os.lchown(shared / "theirs", 0, 0)
    with replacing(str(tmp_path / "outside"), force=True) as out:
        out.write(b"new")
    assert own.read_bytes() == b"new" and (shared / "ours").is_symlink()


@as_root
def test_what_another_user_has_put_into_a_sticky_directory(tmp_path: Path) -> None:
    """A FIFO would tell them what is written, and the file that replaces theirs be theirs."""
    shared = sticky(tmp_path / "shared")
    os.mkfifo(shared / "fifo")
    (shared / "file").write_bytes(b"old")
    for name in ("fifo", "file"):
        os.chown(shared / name, 1234, 1234)
        with (
            pytest.raises(InputError, match="another user"),
            replacing(str(shared / name), force=True),
        ):
            raise AssertionError("not reached")
    assert sorted(os.listdir(shared)) == ["fifo", "file"]
    for mode in (0o1755, 0o755):  # in which others have no business
        shared.chmod(mode)
        os.chown(shared / "file", 1234, 1234)
        with replacing(str(shared / "file"), force=True) as out:
            out.write(b"%o" % mode)
        assert (shared / "file").read_bytes() == b"%o" % mode


def test_what_is_opened_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO that becomes a link or a file between a look at it and its opening."""
    secret, fifo = tmp_path / "secret", tmp_path / "fifo"
    secret.write_bytes(b"secret")
    for swap, reason in (
        (lambda: fifo.symlink_to(secret), "fifo: Too many levels of symbolic links"),
        (lambda: os.link(secret, fifo), "fifo: has become another file"),
    ):
        os.mkfifo(fifo)
        opened = os.open

        def swapped(
            path: str, *rest: Any, swap: Any = swap, opened: Any = opened, **how: Any
        ) -> Any:
            if path == "fifo":
                fifo.unlink()
                swap()
            return opened(path, *rest, **how)

        monkeypatch.setattr(os, "open", swapped)
        with pytest.raises(InputError, match=reason), replacing(str(fifo)):
            raise AssertionError("not reached")
        monkeypatch.undo()
        assert secret.read_bytes() == b"secret"
        fifo.unlink()


def test_a_fifo_waits_for_its_reader(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE)
    with replacing(str(fifo)) as out:
        out.write(b"contents")
    assert reader.communicate()[0] == b"contents"


def test_links_to_what_has_no_name(tmp_path: Path) -> None:
    """/dev/stdout, or >(command) of a shell."""
    reader, writer = os.pipe()
    (tmp_path / "link").symlink_to(f"/proc/self/fd/{writer}")
    for path in (f"/dev/fd/{writer}", tmp_path / "link"):
        with replacing(str(path)) as out:
            out.write(b"contents")
        assert os.read(reader, 100) == b"contents"
    os.close(reader)
    os.close(writer)


def test_links_to_files_that_have_been_removed(tmp_path: Path) -> None:
    """Its text is `.../name (deleted)`: no file is to be made of that name."""
    with (tmp_path / "name").open("wb") as file:
        (tmp_path / "name").unlink()
        path = f"/proc/self/fd/{file.fileno()}"
        with pytest.raises(InputError, match="removed"), replacing(path, force=True):
            raise AssertionError("not reached")
    assert not list(tmp_path.iterdir())


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("later")
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(InputError, match="exists"), replacing(str(tmp_path / "dangling")):
        raise AssertionError("not reached")
    with replacing(str(tmp_path / "dangling"), force=True) as out:
        out.write(b"x")
    assert (tmp_path / "later").read_bytes() == b"x"
    with pytest.raises(InputError, match="links"), replacing(str(tmp_path / "round"), force=True):
        raise AssertionError("not reached")


def test_a_directory_that_is_moved_away(tmp_path: Path) -> None:
    """The file goes into the directory that was looked at."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    with replacing(str(tmp_path / "one" / "out")) as out:
        (tmp_path / "one").rename(tmp_path / "moved")
        (tmp_path / "one").symlink_to("other")
        out.write(b"x")
    assert os.listdir(tmp_path / "moved") == ["out"] and os.listdir(tmp_path / "other") == []


def test_names_that_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is planted, another name is tried, a few times."""
    with replacing(str(tmp_path / "out")):
        (name,) = os.listdir(tmp_path)
    planted = tmp_path / f"{name[:16]}-{'01' * 8}.tmp"
    planted.symlink_to("elsewhere")
    numbers = iter([b"\1" * 8, b"\1" * 8, b"\2" * 8])
    monkeypatch.setattr(os, "urandom", lambda count: next(numbers))
    with replacing(str(tmp_path / "out"), force=True) as out:
        out.write(b"contents")
    assert (tmp_path / "out").read_bytes() == b"contents" and planted.is_symlink()
    monkeypatch.setattr(os, "urandom", lambda count: b"\1" * count)
    with pytest.raises(InputError, match="no name"), replacing(str(tmp_path / "out"), force=True):
        raise AssertionError("not reached")
    assert sorted(os.listdir(tmp_path)) == [planted.name, "out"]


def left_behind(path: Path) -> list[str]:
    """What a killed run into a path leaves."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    return [name for name in os.listdir(path.parent) if is_temporary(name)]


def test_what_a_kill_leaves_is_swept_by_the_next_run(tmp_path: Path) -> None:
    others = left_behind(tmp_path / "other")
    assert len(left_behind(tmp_path / "out")) == 2
    with replacing(str(tmp_path / "out")) as out:
        out.write(b"new")
    assert sorted(os.listdir(tmp_path)) == sorted(["out", *others])
    sweep(str(tmp_path))
    assert os.listdir(tmp_path) == ["out"]


def test_what_is_not_swept(tmp_path: Path) -> None:
    """What is being written; what only looks like ours; what is another user's."""
    path = tmp_path / "out"
    with replacing(str(path)):
        (being,) = os.listdir(tmp_path)
        pretended = being.replace(".tmp", "0.tmp")
        secret = tmp_path / "secret"
        secret.write_bytes(b"secret")
        (tmp_path / pretended).symlink_to(secret)
        theirs = being.replace(".tmp", "1.tmp")
        (tmp_path / theirs).write_bytes(b"theirs")
        if os.geteuid() == 0:
            os.chown(tmp_path / theirs, 1234, 1234)
        os.mkfifo(tmp_path / being.replace(".tmp", "2.tmp"))
        with pytest.raises(ZeroDivisionError), replacing(str(path)):
            _ = 1 // 0
        assert being in os.listdir(tmp_path)
    assert path.exists() and secret.exists() and pretended in os.listdir(tmp_path)
    assert (theirs in os.listdir(tmp_path)) == (os.geteuid() == 0)


def test_swept_while_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run may sweep between the making of a file and its lock."""
    import fcntl

    locked = fcntl.flock
    seen: list[int] = []

    def late(fd: int, how: int) -> None:
        if not seen:
            seen.append(fd)
            for name in os.listdir(tmp_path):
                os.unlink(tmp_path / name)
        locked(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with replacing(str(tmp_path / "out"), tidy=False) as out:
        out.write(b"x")
    assert seen and (tmp_path / "out").read_bytes() == b"x"


def test_file_systems_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    left_behind(tmp_path / "out")
    monkeypatch.setattr(fcntl, "flock", refuse)
    with replacing(str(tmp_path / "out")) as out:
        out.write(b"x")
    assert len(os.listdir(tmp_path)) == 2 and (tmp_path / "out").read_bytes() == b"x"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_ignored_signals_stay_ignored(number: signal.Signals, tmp_path: Path) -> None:
    """As SIGHUP is under nohup."""
    script = (
        "import os, sys\nfrom hvmctx.files.output import replacing\n"
        "with replacing(sys.argv[1]) as out:\n"
        "    out.write(b'one')\n    os.kill(os.getpid(), int(sys.argv[2]))\n"
        "    out.write(b'two')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "out", str(int(number))], check=False,
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
    )  # fmt: skip
    assert done.returncode == 0 and (tmp_path / "out").read_bytes() == b"onetwo"


def test_dispositions_are_given_back(tmp_path: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(ZeroDivisionError), replacing(str(tmp_path / "out")):
        _ = 1 // 0
    assert [signal.getsignal(number) for number in numbers] == before


def test_an_interrupt_while_it_gets_its_name_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def interrupted(*names: Any, **how: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        link(*names, **how)

    monkeypatch.setattr(os, "link", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job behind `&` has none
    with pytest.raises(KeyboardInterrupt), replacing(str(tmp_path / "out")) as out:
        out.write(b"x")
    signal.signal(signal.SIGINT, before)
    assert (tmp_path / "out").read_bytes() == b"x" and os.listdir(tmp_path) == ["out"]


def test_an_interrupt_at_every_step(tmp_path: Path) -> None:
    """Ctrl-C at the n-th line of `replacing` and what it calls: the old file or the new one,
    and no temporary file."""
    path = tmp_path / "out"
    steps = finished = 0
    while not finished:
        steps += 1
        path.write_bytes(b"old")
        left = steps

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal left
            if frame.f_code.co_filename != output.__file__:
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    signal.raise_signal(signal.SIGINT)
            return trace

        try:
            sys.settrace(trace)
            with replacing(str(path), force=True) as out:
                out.write(b"new")
            finished = left > 0
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        assert path.read_bytes() in (b"old", b"new")
        assert os.listdir(tmp_path) == ["out"]
    assert steps > 50


def test_a_reader_that_goes_away_is_no_fault_of_the_input(tmp_path: Path) -> None:
    """The command ends quietly then: the error stays what it is, also of the file's own."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(BrokenPipeError), replacing(str(fifo)) as out:
        os.close(reading)
        out.write(b"contents")
        out.flush()
    with pytest.raises(BrokenPipeError), replacing(str(tmp_path / "out")):
        raise BrokenPipeError
    assert os.listdir(tmp_path) == ["fifo"]


def test_a_dash_is_standard_output(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with replacing("-") as out:
        out.write(b"contents")
        assert not os.listdir(tmp_path)
    assert capfdbinary.readouterr().out == b"contents"


def test_file_systems_without_acls_owners_and_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    (tmp_path / "out").write_bytes(b"old")
    for name in ("removexattr", "fchown", "fchmod"):
        monkeypatch.setattr(os, name, refuse)
    with replacing(str(tmp_path / "out"), force=True) as out:
        out.write(b"new")
    monkeypatch.delattr(os, "removexattr")
    with replacing(str(tmp_path / "out"), force=True) as out:
        out.write(b"newer")
    assert (tmp_path / "out").read_bytes() == b"newer" and os.listdir(tmp_path) == ["out"]


def test_a_file_that_cannot_be_opened_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a directory that is ours; the new one is no more readable."""
    (tmp_path / "out").write_bytes(b"old")
    (tmp_path / "out").chmod(0o640)
    opened = os.open

    def refuse(path: Any, flags: int, *rest: Any, **how: Any) -> int:
        if path == "out":
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *rest, **how)

    monkeypatch.setattr(os, "open", refuse)
    with replacing(str(tmp_path / "out"), force=True) as out:
        out.write(b"new")
    monkeypatch.undo()
    status = (tmp_path / "out").stat()
    assert (tmp_path / "out").read_bytes() == b"new" and status.st_mode & 0o777 == 0o640


def test_without_hard_links_nothing_is_replaced_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Linux's rename that replaces nothing, not by one that does."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    with replacing(str(tmp_path / "out")) as out:
        out.write(b"new")
    with pytest.raises(InputError, match="exists"), replacing(str(tmp_path / "late")) as out:
        (tmp_path / "late").write_bytes(b"theirs")
    assert (tmp_path / "out").read_bytes() == b"new"
    assert (tmp_path / "late").read_bytes() == b"theirs"
    assert sorted(os.listdir(tmp_path)) == ["late", "out"]


def test_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no descriptors of directories."""
    monkeypatch.setattr("hvmctx.files.output._DIR_FD", False)
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), replacing(str(out)) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    for data in (b"first", b"second"):
        with replacing(str(out), force=data == b"second") as file:
            file.write(data)
            assert not out.exists() or out.read_bytes() == b"first"
        assert out.read_bytes() == data and list(tmp_path.iterdir()) == [out]
    link = tmp_path / "link"
    link.symlink_to("gone")
    for name, reason in (
        (str(out), "exists; --force"),
        (str(link), "exists; --force"),
        (str(tmp_path), "Is a directory"),
        (str(tmp_path / "none" / "out"), "No such file"),
        ("", "is empty"),
        ("a\0b", "null byte"),
    ):
        with pytest.raises(InputError, match=reason), replacing(name):
            pass
    link.unlink()
    assert out.read_bytes() == b"second" and list(tmp_path.iterdir()) == [out]
