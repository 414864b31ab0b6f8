"""The recipes of SECURITY.md: run as they stand there, and looked at from within."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders.documents import BLOCKS
from tests.builders.running import ROOT, Run
from tests.builders.samples import EXAMPLE

RECIPES = [
    block.code
    for block in BLOCKS
    if block.document.name == "SECURITY.md" and block.language == "sh"
]
(BWRAP,) = (code for code in RECIPES if "bwrap" in code)
(SYSTEMD,) = (code for code in RECIPES if "systemd-run" in code)
PROGRAM = "restore - --release 4.17"


def python_of_the_system() -> str:
    """One that /usr has all of: the recipe shows nothing else."""
    for path in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        told = "import sys, venv; sys.exit(sys.version_info < (3, 10))"
        done = path.startswith("/usr/") and subprocess.run([path, "-c", told], check=False)
        if done and done.returncode == 0:
            return path
    pytest.skip("no Python 3.10 with its venv module in /usr")


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """hvmctx in a virtual environment, where everybody may read it: what pip would make."""
    if os.geteuid() != 0:
        pytest.skip("the recipe is for root")
    if shutil.which("bwrap") is None:
        pytest.skip("no bubblewrap")
    probe = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
    if subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        os.chmod(place, 0o755)
        folder = Path(place) / "hvmctx"
        subprocess.run([python_of_the_system(), "-m", "venv", "--without-pip", folder], check=True)
        (packages,) = folder.glob("lib/python3*/site-packages")
        shutil.copytree(
            ROOT / "hvmctx", packages / "hvmctx", ignore=shutil.ignore_patterns("__pycache__")
        )
        script = folder / "bin" / "hvmctx"
        script.write_text(
            f"#!{folder}/bin/python3\nimport sys\nfrom hvmctx.cli import main\nsys.exit(main())\n"
        )
        script.chmod(0o755)
        yield folder


class Cage:
    """The recipe, with a program of one's own in the place of the last line's."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.recipe = BWRAP.replace("hvmctx=/opt/hvmctx", f"hvmctx={folder}")
        self.place = place
        assert str(folder) in self.recipe
        (place / "guest.save").write_bytes(EXAMPLE.read_bytes())
        (place / "guest.save").chmod(0o600)

    def run(self, *changes: tuple[str, str]) -> subprocess.CompletedProcess[str]:
        recipe = self.recipe
        for old, new in changes:
            assert old in recipe
            recipe = recipe.replace(old, new)
        return subprocess.run(
            ["sh", "-eu", "-c", recipe], cwd=self.place, capture_output=True, text=True, check=False
        )

    def python(self, code: str, *changes: tuple[str, str]) -> Any:
        """What the code prints, as JSON."""
        (self.place / "code").write_text(f"import json, os, socket\n{code}")
        program = ("$hvmctx/bin/hvmctx " + PROGRAM, "$hvmctx/bin/python3 - 3< guest.save")
        done = self.run(program, ("3< guest.save < guest.save", "3< guest.save < code"), *changes)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)


@pytest.fixture
def cage(installed: Path, tmp_path: Path) -> Cage:
    return Cage(installed, tmp_path)


def test_as_it_stands_there(cage: Cage, run: Run) -> None:
    done = cage.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == run(*PROGRAM.replace("-", str(EXAMPLE), 1).split()).out


@pytest.mark.parametrize("arguments", ["dump -", "verify - --as strict", "get - CPU/0.rip"])
def test_commands(cage: Cage, run: Run, arguments: str) -> None:
    done = cage.run((PROGRAM, arguments))
    expected = run(*arguments.replace("-", str(EXAMPLE), 1).split())
    assert (done.returncode, done.stdout, done.stderr) == (expected.status, *expected.said)


def test_a_refusal_is_its_exit_status(cage: Cage) -> None:
    (cage.place / "guest.save").write_bytes(b"no image\n")
    done = cage.run()
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("hvmctx: input: ")


def test_an_output(cage: Cage, run: Run) -> None:
    done = cage.run((PROGRAM, "extract - -o -"), ("< guest.save", "< guest.save > context"))
    assert (done.returncode, done.stderr) == (0, "")
    made = cage.place / "context"
    assert run("extract", EXAMPLE, "-o", cage.place / "same").status == 0
    assert made.read_bytes() == (cage.place / "same").read_bytes()
    assert made.stat().st_mode & 0o777 == 0o600


def test_a_second_file(cage: Cage) -> None:
    """As the text says."""
    text = " ".join((ROOT / "SECURITY.md").read_text().split())
    before, after = re.findall(r"`(--ro-bind-data 3 /second)`.*?`(3< other\.save)`", text)[0]
    (cage.place / "other.save").write_bytes(EXAMPLE.read_bytes())
    done = cage.run(
        ("$hvmctx/bin/hvmctx " + PROGRAM, f"{before} $hvmctx/bin/hvmctx diff - /second"),
        ("< guest.save", f"< guest.save {after}"),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_who_and_where_it_is(cage: Cage, installed: Path) -> None:
    found = cage.python(
        """
found = {"ids": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups()}
found["caps"] = [l.split()[1] for l in open("/proc/self/status") if l.startswith("Cap")]
found["root"] = sorted(os.listdir("/"))
found["tmp"] = os.listdir("/tmp")
found["pids"] = [int(name) for name in os.listdir("/proc") if name.isdigit()]
found["env"] = sorted(os.environ)
found["fds"] = []
for fd in (0, 3):
    try:
        os.write(fd, b"x")
    except OSError as error:
        found["fds"].append(error.strerror)
print(json.dumps(found))
"""
    )
    assert found["ids"] == [64999] * 6
    assert set(found["groups"]) <= {64999, 65534}
    assert {int(caps, 16) for caps in found["caps"][:3]} == {0}  # inheritable, permitted, effective
    assert set(found["root"]) == {"dev", "lib", "lib64", "proc", "tmp", "usr", installed.parts[1]}
    assert found["tmp"] == [] and len(found["pids"]) <= 3 and max(found["pids"]) < 10
    assert set(found["env"]) <= {"PWD", "LC_CTYPE"}
    assert found["fds"] == ["Bad file descriptor"] * 2


def test_it_is_nobody_outside_either(cage: Cage) -> None:
    """A file of root's that is shown to it it cannot read: its uid is not another name for 0."""
    code = "print(json.dumps([os.path.exists('/x'), os.access('/x', os.R_OK)]))"
    assert cage.python(code, ("--tmpfs /tmp", "--tmpfs /tmp --ro-bind /etc/shadow /x")) == [
        True, False,
    ]  # fmt: skip


def test_no_other_file_is_there(cage: Cage, installed: Path) -> None:
    paths = [
        str(ROOT), str(cage.place), "/etc/passwd", "/root", "/home", "/run", "/sys", "/var/log",
        "/boot", "/dev/vda", "/dev/sda", "/dev/mem", "/dev/kmsg", "/proc/1/root/etc",
    ]  # fmt: skip
    found = cage.python(
        f"""
writes = []
for path in ("/usr/x", "{installed}/x", "{installed}/bin/hvmctx", "/lib/x", "/dev/x/y"):
    try:
        open(path, "ab").close()
        writes.append(path)
    except OSError:
        pass
there = [path for path in {paths!r} if os.path.exists(path)]
beside = [os.listdir(path) for path in {[str(path) for path in installed.parents[:-1]]}]
print(json.dumps([writes, there, beside]))
"""
    )
    writes, there, beside = found
    assert (writes, there) == ([], [])
    assert beside == [[path.name] for path in (installed, *installed.parents[:-2])]


def test_there_is_no_network(cage: Cage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()[:2], 1).close()  # it can be reached
        found = cage.python(
            f"""
reached = []
for address in ({server.getsockname()!r}, ("192.0.2.1", 80), ("1.1.1.1", 53)):
    try:
        socket.create_connection(address, 2).close()
        reached.append(address)
    except OSError:
        pass
print(json.dumps([reached, [name for _, name in socket.if_nameindex()]]))
"""
        )
    assert found == [[], ["lo"]]


def test_it_is_bounded(cage: Cage) -> None:
    found = cage.python(
        """
import resource
found = []
try:
    bytearray(3 << 30)
except MemoryError:
    found.append("memory")
with open("/tmp/x", "wb") as file:
    try:
        file.truncate(2 << 30)
    except OSError as error:
        found.append(error.strerror)
space = os.statvfs("/tmp")
found += [space.f_blocks * space.f_frsize]
found += [resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
          for name in ("AS", "FSIZE", "CPU", "NOFILE", "NPROC", "CORE")]
print(json.dumps(found))
"""
    )
    assert found[:3] == ["memory", "File too large", 1 << 30]
    limits = [2 << 30, 1 << 30, 600, 64, 64, 0]
    assert found[3:] == [[limit, limit] for limit in limits]


def test_it_ends_in_time(cage: Cage) -> None:
    done = cage.run(("20m", "1"), (f"hvmctx {PROGRAM}", 'python3 -c "import time; time.sleep(60)"'))
    assert done.returncode == 124
    done = cage.run(
        ("--cpu=600", "--cpu=1"), (f"hvmctx {PROGRAM}", 'python3 -c "while True: pass"')
    )
    assert done.returncode in {128 + 9, 128 + 24}


# ------------------------------------------------------------------------------------- systemd

PROPERTIES = re.findall(r"-p (\w+=\S*)", SYSTEMD)


def test_what_the_systemd_recipe_promises() -> None:
    assert {"DynamicUser=yes", "PrivateNetwork=yes", "ProtectSystem=strict"} <= set(PROPERTIES)
    assert {name.partition("=")[0] for name in PROPERTIES} >= {"MemoryMax", "RuntimeMaxSec"}
    assert SYSTEMD.count(" -p ") == len(PROPERTIES)


def test_systemd_knows_the_properties(tmp_path: Path) -> None:
    """They are those of a unit file. Whether they hold what they promise nobody tests here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    unit = tmp_path / "hvmctx.service"
    for more, said in (
        ([], ""),
        (["MemoryMost=2G"], "MemoryMost"),
        (["MemoryMax=2Q"], "memory limit"),
    ):
        lines = ["[Service]", "Type=exec", "ExecStart=/bin/true", *PROPERTIES, *more]
        unit.write_text("\n".join(lines) + "\n")
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert said in done.stderr and bool(said) == bool(done.stderr), done.stderr


def test_systemd_run_takes_the_options(tmp_path: Path) -> None:
    if shutil.which("systemd-run") is None:
        pytest.skip("no systemd-run")
    options = re.findall(r" (--\w+)", SYSTEMD.partition("-p ")[0])
    told = subprocess.run(["systemd-run", "--help"], capture_output=True, text=True, check=True)
    assert options and all(f" {option} " in told.stdout for option in options)


def test_the_systemd_recipe_runs(installed: Path, tmp_path: Path, run: Run) -> None:
    if not Path("/run/systemd/system").is_dir():
        pytest.skip("systemd has not booted this machine")
    cage = Cage(installed, tmp_path)
    cage.recipe = SYSTEMD.replace("/opt/hvmctx", str(installed))
    done = cage.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == run(*PROGRAM.replace("-", str(EXAMPLE), 1).split()).out
