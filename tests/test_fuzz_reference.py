"""The C reference: what its answers look like, and what fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvmctx.errors import InputError
from hvmctx.fuzz.reference import Reference


def test_a_reference_that_does_not_compile(tmp_path: Path) -> None:
    bad = tmp_path / "bad.c"
    bad.write_text("no C at all")
    with pytest.raises(InputError, match=r"does not compile|needs a compiler"):
        Reference(str(tmp_path), source=str(bad))
