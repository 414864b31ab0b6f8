"""diff as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.samples import DATA, EXAMPLE


def test_command(run: Callable[..., Any], tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert run("set", EXAMPLE, "CPU.rax=0x1234", "-o", other)[0] == 0
    status, said = run("diff", EXAMPLE, other)
    assert (status, said.out) == (1, "CPU/0.rax: 0x0 -> 0x1234\n")
    assert run("diff", EXAMPLE, EXAMPLE)[0] == 0
    status, said = run("diff", EXAMPLE, other, "--format", "json")
    assert json.loads(said.out) == [{"path": "CPU/0.rax", "before": "0x0", "after": "0x1234"}]
    context = DATA / "images" / "hvm1.hvmctx.bin"
    status, said = run("diff", context, other)
    assert status == 1 and "CPU/0.rax: 0x0 -> 0x1234" in said.out
    assert run("diff", EXAMPLE, "/no/such/file")[0] == 2
    assert run("diff", EXAMPLE, DATA / "streams" / "legacy_hvm_w64.in.bin")[0] == 2
    assert run("diff", "-", "-")[0] == 2
    cut = tmp_path / "cut"
    cut.write_bytes(EXAMPLE.read_bytes()[:-9])
    status, said = run("diff", EXAMPLE, cut)
    assert status == 2 and said.err.count("\n") == 1 and "EMULATOR_CONTEXT" in said.err
