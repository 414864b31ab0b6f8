"""Hypothesis profiles for the suite, and the fixtures that several modules use."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from hvmctx.cli import main
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import Slots, VmportState, to_record
from hvmctx.fuzz.reference import Reference
from tests.builders.running import Result, Run, Said
from tests.builders.samples import DATA
from tests.builders.standin import StandIn, library
from tests.builders.vmport import busy_state

settings.register_profile(
    "suite",
    max_examples=40,
    deadline=None,
    derandomize=True,  # the same verdict for the same code, on every machine
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", settings.get_profile("suite"), derandomize=False)
settings.register_profile("explore-long", settings.get_profile("explore"), max_examples=3000)
settings.load_profile("suite")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command: its exit status, and what it said on stdout and stderr."""

    def call(*arguments: object) -> Result:
        status = main([str(argument) for argument in arguments])
        said = capfd.readouterr()
        return Result(status, Said(said.out, said.err))

    return call


@pytest.fixture
def busy_context(tmp_path: Path) -> Path:
    """A context with a VMPORT record that has a little of everything."""
    path = tmp_path / "context"
    path.write_bytes(HvmContext([to_record(busy_state()), Record(0, 0)]).to_bytes())
    return path


@pytest.fixture
def vmport(tmp_path: Path) -> Path:
    """A context whose VMPORT record has 59 keys, as many as load safely."""
    state = VmportState.empty()
    state.guestinfo = Slots({b"k%d" % n: b"v" for n in range(59)})
    state.guestinfo[b"\xff"] = b"bytes"
    del state.guestinfo[b"k0"]
    path = tmp_path / "vmport"
    path.write_bytes(HvmContext([to_record(state), Record(0, 0)]).to_bytes())
    return path


@pytest.fixture
def qemus_own(tmp_path: Path) -> Path:
    """A core of QEMU's dump-guest-memory, of two vcpus; its memory is a hole."""
    path = tmp_path / "core"
    path.write_bytes((DATA / "qemu" / "core-head.bin").read_bytes())
    with open(path, "r+b") as file:
        file.truncate(0x648 + 0x4040000)
    return path


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The loader of VMPORT records in C, under AddressSanitizer."""
    if shutil.which("gcc") is None:
        pytest.skip("no compiler")
    return Reference(str(tmp_path_factory.mktemp("reference")))


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for Xen's libraries, with today's signatures."""
    if shutil.which("gcc") is None:
        pytest.skip("no compiler")
    return library(tmp_path_factory.mktemp("stand-in") / "new")


@pytest.fixture(scope="session")
def old_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with those of Xen 4.6."""
    if shutil.which("gcc") is None:
        pytest.skip("no compiler")
    return library(tmp_path_factory.mktemp("stand-in") / "old", old=True)


@pytest.fixture
def stand_in(libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Domain 7 of a made-up Xen 4.17."""
    made = StandIn(tmp_path / "stand-in")
    for name, value in made.environment(libraries).items():
        monkeypatch.setenv(name, value)
    return made
