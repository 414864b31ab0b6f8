"""extract as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.running import Run
from tests.samples import DATA, EXAMPLE

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
        ("bogus", 2, "expected hvm-context, emulator or record:TYPE/INSTANCE"),
        ("record:", 2, "expected hvm-context"),
        ("record:NOPE", 2, "no record type is called"),
        ("record:CPU/x", 2, "is not an instance"),
        ("record:CPU/7", 1, "no CPU/7 record"),
        ("record:HVM_PARAMS/7", 1, "has 1 HVM_PARAMS records, no number 7"),
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
