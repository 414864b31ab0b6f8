"""Somebody who has a record of their own: the package of docs/handlers.md, installed, in every
command that knows handlers."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from tests.builders.plugin import install
from tests.builders.samples import EXAMPLE, ROOT, context_bytes
from tests.builders.streams import hvm, libxl, record


def ticket(number: int, text: bytes) -> bytes:
    return struct.pack("<II", number, len(text)) + text


class Installed:
    """The command in a Python that has the package."""

    def __init__(self, place: Path, *more: str) -> None:
        self.place = install(place, *more)

    def __call__(self, *arguments: object, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "hvmctx", *map(str, arguments)], capture_output=True, text=True,
            check=False, env={**os.environ, "PYTHONPATH": f"{self.place}:{ROOT}"},
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        self.said = done.stderr
        return done.stdout


@pytest.fixture
def command(tmp_path: Path) -> Installed:
    place = tmp_path / "site"
    place.mkdir()
    return Installed(place)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    whole = HvmContext.from_bytes(context_bytes())
    whole.entries[-1:] = [Record(99, 0, ticket(7, b"hello")), Record("END", 0)]
    path = tmp_path / "guest.hvm"
    path.write_bytes(whole.to_bytes())
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """With a record of the stream, and a device model of which nothing else is known."""
    saved = struct.pack("<II", 7, 0) + ticket(3, b"model")
    stream = hvm(record(0x80000020, ticket(2, b"stream")), record(9, context_bytes()))
    path = tmp_path / "guest.libxl"
    path.write_bytes(libxl(record(1), stream, record(3, saved)))
    return path


def test_records_of_a_context(command: Installed, context: Path, tmp_path: Path) -> None:
    text = command("dump", context)
    assert "type 99 instance 0, length 13\n    ticket 7: hello\n" in text
    assert "Don't understand type 99" in command("dump", context, "--release", "4.17")
    assert "ticket 7: hello" in command("info", context)
    assert "ticket" not in command("verify", context, status=1), "only that no Xen loads it"
    assert command("get", context, "context:99.text") == "hello\n"
    new, other = tmp_path / "new", tmp_path / "other"
    command("set", context, "context:99.number=0", "context:99/0.text=good bye", "-o", new)
    assert "[ticket-number]" in command("verify", new, status=1)
    plain = json.loads(command("to-json", new, "-o", "-"))
    (ours,) = (each for each in plain["context"]["records"] if each["typecode"] == 99)
    assert ours["decoded"] == {"number": 0, "text": "good bye"}
    ours["decoded"]["text"] = "hello"
    del ours["length"]
    document = tmp_path / "new.json"
    document.write_text(json.dumps(plain))
    command("from-json", document, "-o", other)
    command("set", other, "context:99.number=7", "-o", new, "--force")
    assert new.read_bytes() == context.read_bytes()


def test_records_of_a_stream_and_a_device_model(
    command: Installed, image: Path, tmp_path: Path
) -> None:
    assert "ticket 3: model" in command("dump", image)
    facts = command("info", image)
    assert "ticket 3: model" in facts
    new = tmp_path / "new"
    command("set", image, "EMULATOR_CONTEXT.number=0", "EMULATOR_CONTEXT.text=m", "-o", new)
    assert command("get", new, "EMULATOR_CONTEXT.text") == "m\n"
    assert "EMULATOR_CONTEXT: the number of a ticket is 0" in command("verify", new, status=1)
    document, other = tmp_path / "new.json", tmp_path / "other"
    document.write_text(command("to-json", new, "-o", "-"))
    assert '"decoded"' in document.read_text()
    command("from-json", document, "-o", other)
    assert other.read_bytes() == new.read_bytes()


def test_without_the_package(
    image: Path, context: Path, tmp_path: Path, command: Installed
) -> None:
    """Its documents are refused in words, and images are as they always are."""
    document = tmp_path / "new.json"
    document.write_text(command("to-json", context, "-o", "-"))
    done = subprocess.run(
        [sys.executable, "-m", "hvmctx", "from-json", document, "-o", tmp_path / "x"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode
    assert "no handler of context:0x63 is installed" in done.stderr


def test_an_unknown_layer(tmp_path: Path, context: Path) -> None:
    place = tmp_path / "site"
    place.mkdir()
    command = Installed(place, "libxd:5 = demo_handler:Ticket")
    command("info", context)
    assert "unknown layer 'libxd', expected libxc, libxl, xapi, context, emulator" in command.said


def test_nothing_is_looked_for_where_all_is_known(command: Installed) -> None:
    """No package is asked, and the lookup itself not imported."""
    code = (
        "import sys; from hvmctx.cli import main; status = main(sys.argv[1:]); "
        "assert 'demo_handler' not in sys.modules and 'importlib.metadata' not in sys.modules; "
        "sys.exit(status)"
    )
    for name in ("dump", "info", "verify"):
        done = subprocess.run(
            [sys.executable, "-c", code, name, str(EXAMPLE)], capture_output=True, text=True,
            check=False, env={**os.environ, "PYTHONPATH": f"{command.place}:{ROOT}"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
