"""One small guest in the wrappers of xl, XAPI and libvirt: every command says and does the same."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hvmctx.cli import main
from hvmctx.image.image import open_image
from tests.builders.wrappers import WRAPPED, libxc_of

Run = Callable[[str, str], tuple[int, str, bytes]]
"""Of a wrapper and a command line: exit status, what it printed, what it wrote."""


@pytest.fixture
def run(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """IN is the image, OTHER the same with another rip, OUT the output."""
    for name, data in WRAPPED.items():
        (tmp_path / name).write_bytes(data)
        path = str(tmp_path / name)
        main(["set", path, "CPU/0.rip=0x1234", "-o", f"{path}.other"])
        main(["extract", path, "-o", f"{path}.hvm"])
        main(["to-json", path, "-o", f"{path}.json"])
    capfdbinary.readouterr()

    def of(name: str, line: str) -> tuple[int, str, bytes]:
        path = tmp_path / name
        out = tmp_path / "out"
        out.unlink(missing_ok=True)
        names = {"IN": path, "OTHER": f"{path}.other", "OUT": out, "CONTEXT": f"{path}.hvm",
                 "JSON": f"{path}.json"}  # fmt: skip
        status = main([str(names.get(word, word)) for word in line.split()])
        sys.stdout.flush()
        said = b"".join(capfdbinary.readouterr()).decode().replace(str(path), "IN")
        return status, said, out.read_bytes() if out.exists() else b""

    return of


def without_offsets(text: str) -> str:
    """The context lies elsewhere in each file; and a line says which it is."""
    text = re.sub(r"(xl|xapi|libvirt) image", "image", text)
    return re.sub(r'offset(": | 0x)[0-9a-f]+', "offset", text)


def streams_of(data: bytes) -> bytes:
    """What is the same in each wrapper of a written image: its libxc stream."""
    return libxc_of(data)


SAID = (
    "IN", "dump IN", "dump IN --release 4.13 --record CPU", "dump IN --format json",
    "dump IN --format table", "get IN CPU/0.rip HVM_PARAMS.CONSOLE_PFN", "verify IN",
    "repair IN --release 4.17", "repair OTHER --release 4.13",
    "policy IN", "policy IN --format json",
    "verify IN --as verifier", "verify IN --as strict --vcpus 1", "restore IN",
    "restore IN --release 4.17 --format json", "restore OTHER --release 4.10",
    "diff IN OTHER", "diff IN CONTEXT", "extract IN --what hvm-context -o OUT",
    "extract IN --what emulator -o OUT", "extract IN --what record:CPU/0 -o OUT",
    "extract IN --what record:X86_TSC_INFO -o OUT", "extract IN --what memory -o OUT",
    "extract IN --what memory --format elf -o OUT",
    "build --base IN --layer libxl --release 4.17 --param STORE_PFN=1 -o OUT --force-inconsistent",
)  # fmt: skip
WRITTEN = (
    "set IN CPU/0.rip=5 HVM_PARAMS.CONSOLE_PFN=7 -o OUT",
    "replace IN CONTEXT -o OUT", "replace OTHER CONTEXT -o OUT", "strip IN -o OUT",
    "strip IN --keep-holes -o OUT", "from-json JSON -o OUT",
)  # fmt: skip


@pytest.mark.parametrize("wrapper", ["xapi", "libvirt"])
def test_every_command_says_the_same(wrapper: str, run: Run) -> None:
    for line in SAID:
        expected, found = run("xl", line), run(wrapper, line)
        assert expected[0] in (0, 1), line
        assert found[0] == expected[0] and found[2] == expected[2], line
        assert without_offsets(found[1]) == without_offsets(expected[1]), line


@pytest.mark.parametrize("wrapper", ["xapi", "libvirt"])
def test_every_command_does_the_same(wrapper: str, run: Run) -> None:
    """And leaves the rest of the wrapper as it is."""
    for line in WRITTEN:
        expected, found = run("xl", line), run(wrapper, line)
        assert found[:2] == expected[:2] and expected[0] == 0, line
        made, whole = libxc_of(found[2]), found[2]
        assert made == libxc_of(expected[2]), line
        before, after = WRAPPED[wrapper].split(libxc_of(WRAPPED[wrapper]))
        assert whole.startswith(before) and whole.endswith(after), line
        assert len(whole) == len(before) + len(made) + len(after)


ALIKE = """complete guest memory pv tsc params policies device_models xenstore context checkpoints
verifies decoded problems notes"""


@pytest.mark.parametrize("wrapper", ["xapi", "libvirt"])
def test_info(wrapper: str, run: Run) -> None:
    facts = [json.loads(run(name, "info IN --format json")[1]) for name in ("xl", wrapper)]
    config = [each.pop("config") for each in facts]
    assert config[1] == {**config[0], "form": {"xapi": "S-expression", "libvirt": "XML"}[wrapper]}
    for name in ALIKE.split():
        assert facts[0][name] == facts[1][name], name
    assert run(wrapper, "info IN --records")[0] == 0


def test_json_both_ways(run: Run) -> None:
    for name, data in WRAPPED.items():
        assert run(name, "from-json JSON -o OUT") == (0, "", data)


def test_that_the_tables_have_every_command() -> None:
    """But those that take no image, or write one kind of file only."""
    from hvmctx.cli import COMMANDS

    tried = {line.split()[0] for line in (*SAID, *WRITTEN)} | {"info", "to-json"}
    assert set(COMMANDS) - tried <= {"convert", "save", "load", "host", "fuzz", "plan", "place"}


def test_bytes_after_the_footer() -> None:
    """A suspend VDI is longer than its image."""
    for rest in (b"\0", bytes(4096), WRAPPED["xapi"], b"\xff" * 100):
        with open_image(WRAPPED["xapi"] + rest) as image:
            assert image.complete and not image.problems and image.end == len(WRAPPED["xapi"])
            assert [note.kind for note in image.notes] == ["trailing"]


def test_from_a_pipe() -> None:
    class Once(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.data = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def read(self, count: int = -1) -> bytes:
            return self.data.read(min(count, 1000))

    for data in WRAPPED.values():
        with open_image(Once(data)) as piped, open_image(data) as image:
            assert piped.context.to_bytes() == image.context.to_bytes()
            assert [r.name for r in piped.records] == [r.name for r in image.records]
            assert piped.config == image.config and piped.emulators == image.emulators
            assert piped.complete and not piped.problems
