"""extract as a user types it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from hvmctx.image.image import open_image
from tests.builders.running import Run, bare
from tests.builders.samples import DATA, EXAMPLE
from tests.builders.streams import SMALL, record

WHATS = {
    "hvm-context": 4112,
    "emulator": 6102,
    "record:CPU": 1032,
    "record:pic/1": 8,
    "record:X86_TSC_INFO": 24,
    "record:EMULATOR_CONTEXT/0": 6110,
}


@pytest.mark.parametrize("what", WHATS)
def test_extract(what: str, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("extract", EXAMPLE, "-o", out, "--what", what).status == 0
    assert out.stat().st_size == WHATS[what]
    again = run("extract", EXAMPLE, "-o", out, "--what", what)
    assert again.status == 1 and "exists; --force replaces it" in again.err
    assert run("extract", EXAMPLE, "-o", out, "--what", what, "--force").status == 0


@pytest.mark.parametrize(
    ("what", "status", "reason"),
    [
        (
            "bogus",
            2,
            "memory, a path, or record:TYPE/INSTANCE",
        ),
        ("record:", 2, "expected hvm-context"),
        ("record:NOPE", 2, "unknown record type"),
        ("record:CPU/x", 2, "is not an instance"),
        ("record:CPU/7", 1, "no CPU/7 record"),
        ("record:HVM_PARAMS/7", 1, "no HVM_PARAMS/7 record; it has 1"),
    ],
)
def test_extract_what_is_not_there(
    what: str, status: int, reason: str, run: Run, tmp_path: Path
) -> None:
    result = run("extract", EXAMPLE, "-o", tmp_path / "out", "--what", what)
    assert result.status == status and reason in result.err and result.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_extract_emulator_of_a_pvh_guest(run: Run, tmp_path: Path) -> None:
    result = run(
        "extract", DATA / "images" / "pvhx.save", "-o", tmp_path / "o", "--what", "emulator"
    )
    assert result.status == 1 and "no EMULATOR_CONTEXT" in result.err


def test_numbers_name_records(run: Run, tmp_path: Path) -> None:
    data = SMALL.replace(record(8, bytes(24)), record(8, bytes(24)) + record(0x80000020, b"mine"))
    path = tmp_path / "image"
    path.write_bytes(data)
    cases = (
        ("record:libxc:0x80000020", b"mine"), ("record:libxl:3/0", b"\2"),
        ("record:context:2/0", b""), ("record:2", b""), ("record:PAGE_DATA", b"\2"),
    )  # fmt: skip
    out = tmp_path / "out"
    for what, start in cases:
        assert run("extract", path, "--what", what, "-o", out, "--force").status == 0, what
        assert out.read_bytes().startswith(start) and out.stat().st_size
    for what in ("record:libxm:1", "record:libxc:x", "record:libxc:-1"):
        assert run("extract", path, "--what", what, "-o", tmp_path / "no").status == 2
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(data))
    result = run("extract", packed, "--what", "record:PAGE_DATA", "-o", out, "--force")
    assert result.status == 0 and out.stat().st_size == 8 + 16 + 4096


def test_a_domid_that_is_a_file_of_that_name(run: Run, tmp_path: Path) -> None:
    path, out = tmp_path / "7", tmp_path / "out"
    path.write_bytes(EXAMPLE.read_bytes())
    assert run("extract", path, "-o", out) == (0, ("", ""))
    assert out.read_bytes() == context_bytes_of(EXAMPLE)


def context_bytes_of(path: Path) -> bytes:
    with open_image(path) as image:
        return image.context.to_bytes()


def test_a_pipe_gives_what_a_file_gives(run: Run, tmp_path: Path) -> None:
    for what in ("hvm-context", "emulator", "record:PAGE_DATA/1", "record:CPU"):
        out = tmp_path / what.replace("/", "-")
        assert run("extract", EXAMPLE, "-o", out, "--what", what).status == 0
        done = bare("extract", "-", "-o", "-", "--what", what, stdin=EXAMPLE.read_bytes())
        assert (done.returncode, done.stdout, done.stderr) == (0, out.read_bytes(), b"")


def test_what_there_is_of_a_damaged_image(run: Run, tmp_path: Path) -> None:
    cut, out = tmp_path / "cut", tmp_path / "out"
    cut.write_bytes(EXAMPLE.read_bytes()[:-9])
    result = run("extract", cut, "-o", out)
    assert result.status == 1 and result.err.count("\n") == 1
    assert out.read_bytes() == context_bytes_of(EXAMPLE)
