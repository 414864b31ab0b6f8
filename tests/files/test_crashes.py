"""No command loses or halves a file, whatever happens while it writes: `builders.faults`."""

from __future__ import annotations

import os
from pathlib import Path
from shutil import which

import pytest

from tests.builders.faults import FAULTS, FULL, KILL, Torture, file_system

COMMANDS = (
    "extract", "extract emulator", "extract record", "extract memory", "extract core", "set",
    "set parameter", "set among pages", "set in a context", "replace", "replace record", "strip",
    "strip stream", "to-json", "from-json", "build", "build of memory", "convert",
    "convert to libxc", "fuzz generate", "save",
)  # fmt: skip
WAYS = (
    "extract",
    "set",
    "set among pages",
    "strip stream",
    "build of memory",
    "fuzz generate",
    "save",
)
"""Of the ways to write a file one each; what is killed is run again, which takes its time."""


@pytest.fixture(scope="module")
def torture(tmp_path_factory: pytest.TempPathFactory) -> Torture:
    return Torture(tmp_path_factory.mktemp("torture"))


def test_all_commands_are_here(torture: Torture) -> None:
    assert tuple(torture.commands) == COMMANDS[: None if which("gcc") else -1]


@pytest.mark.parametrize(
    ("name", "fault"), [(name, FULL) for name in COMMANDS] + [(name, KILL) for name in WAYS]
)
def test_a_new_file(name: str, fault: str, torture: Torture) -> None:
    if name not in torture.commands:
        pytest.skip("no compiler")
    assert torture.run(name, fault) > 3


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["set", "build"])
def test_a_file_that_is_replaced(name: str, fault: str, torture: Torture) -> None:
    assert torture.run(name, fault, replaces=True) > 3


@pytest.mark.long
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_all_faults_in_all_commands(kind: str, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    with file_system(kind, tmp_path / "place") as place:
        torture = Torture(place)
        for name, command in torture.commands.items():
            for fault in FAULTS:
                for replaces in (False, True)[: 1 if command.is_directory else 2]:
                    torture.run(name, fault, replaces=replaces)
    print(kind, torture.cases.total(), "cases")


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts small file systems")
def test_disks_that_are_really_full(tmp_path: Path) -> None:
    torture = Torture(tmp_path)
    for name, command in torture.commands.items():
        if command.is_directory:
            continue
        room = 4096
        while torture.run_in(room, name).status:
            room += 8192
        assert room > 4096, name
    print(torture.cases.total(), "cases")
