"""info as a user types it."""

from __future__ import annotations

import json

from tests.running import Run
from tests.samples import DATA, EXAMPLE


def test_info(run: Run) -> None:
    result = run("info", EXAMPLE)
    assert result.status == 0 and "device model: qemu-upstream" in result.out
    plain = json.loads(run("info", EXAMPLE, "--format", "json").out)
    assert plain["memory"]["populated"] == 4092 * 4096
    result = run("info", DATA / "streams" / "handbuilt" / "truncated.bin")
    assert result.status == 1 and "problem: libxc: offset 0x2130" in result.out
