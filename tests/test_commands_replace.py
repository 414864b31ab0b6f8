"""replace as a user types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hvmctx.image import open_image
from tests.samples import DATA, EXAMPLE, context_bytes

WHATS = [
    "hvm-context",
    "emulator",
    "record:CPU/0",
    "record:X86_TSC_INFO",
    "record:EMULATOR_CONTEXT",
]


@pytest.mark.parametrize("what", WHATS)
def test_replace_with_itself(what: str, run: Callable[..., Any], tmp_path: Path) -> None:
    payload, out = tmp_path / "payload", tmp_path / "out"
    assert run("extract", EXAMPLE, "-o", payload, "--what", what)[0] == 0
    assert run("replace", EXAMPLE, payload, "-o", out, "--what", what)[0] == 0
    assert out.read_bytes() == EXAMPLE.read_bytes()


@pytest.mark.parametrize("what", WHATS)
def test_replace_with_another_length(what: str, run: Callable[..., Any], tmp_path: Path) -> None:
    payload, out, back = tmp_path / "payload", tmp_path / "out", tmp_path / "back"
    payload.write_bytes(b"other payload")
    assert run("replace", EXAMPLE, payload, "-o", out, "--what", what)[0] == 0
    with open_image(out) as image:
        assert image.complete and not image.notes
    assert run("extract", out, "-o", back, "--what", what)[0] in (0, 1)
    assert back.read_bytes() == b"other payload"


def test_replace_in_a_bare_context(run: Callable[..., Any], tmp_path: Path) -> None:
    payload, out = tmp_path / "payload", tmp_path / "out"
    payload.write_bytes(bytes(8))
    context = DATA / "images" / "hvm1.hvmctx.bin"
    assert run("replace", context, payload, "-o", out, "--what", "record:TSC_ADJUST")[0] == 0
    assert len(out.read_bytes()) == len(context_bytes())
    status, said = run("replace", context, tmp_path / "absent", "-o", out, "--force")
    assert status == 1 and "No such file" in said.err
