"""The C reference: what its answers look like, and what fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvmctx.abi.vmport import XEN_4_5_V6
from hvmctx.errors import InputError
from hvmctx.fuzz.reference import Case, Reference
from tests.builders.vmport import record_of, sent


def test_a_reference_that_does_not_compile(tmp_path: Path) -> None:
    bad = tmp_path / "bad\udcff.c"  # the compiler names it
    bad.write_text("no C at all")
    with pytest.raises(InputError, match=r"does not compile|needs a compiler"):
        Reference(str(tmp_path), source=str(bad))


def test_answers(reference: Reference) -> None:
    """One of each kind, and of no record at all."""
    good, violating = record_of(), sent("send", 9, 8)
    empty = "00" * (12 + 6 * (32 + 4 * 9))
    records = [good, violating, record_of(version=5), good]
    found = reference.verdicts([Case(record) for record in records], XEN_4_5_V6)
    assert found == [
        f"ok 472 10 2 {empty} {good.hex()}",
        "violation 473 472 send_buf source",
        "errno EINVAL 472",
        f"ok 472 10 2 {empty} {good.hex()}",
    ]
    assert reference.verdicts([], XEN_4_5_V6) == []


def test_a_reference_that_dies() -> None:
    """The message says after how many records."""
    broken = Reference.__new__(Reference)
    broken._path = "/bin/false"
    with pytest.raises(InputError, match="failed after 0 records"):
        broken.verdicts([Case(record_of())], XEN_4_5_V6)


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="needs a compiler, gcc or clang"):
        Reference(str(tmp_path))
