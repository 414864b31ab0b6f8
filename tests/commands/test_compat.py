"""compat as a user types it."""

from __future__ import annotations

import json

from tests.builders.running import Run

TEXT = """\
A context of the one on the other:
  LAPIC: 4.18 on 4.17: taken -> refused: 32 bytes, where 24 are known
Records and their lengths:
  LAPIC: bytes: 24 -> 32 (since 4.18)
2 changes from Xen 4.17 to 4.18
"""
MARKDOWN = """\
# From Xen 4.17 to 4.18

## A context of the one on the other

| record | what | 4.17 | 4.18 | since |
|---|---|---|---|---|
| LAPIC | 4.18 on 4.17 | taken | refused: 32 bytes, where 24 are known |  |

## Records and their lengths

| record | what | 4.17 | 4.18 | since |
|---|---|---|---|---|
| LAPIC | bytes | 24 | 32 | 4.18 |
"""


def test_forms(run: Run) -> None:
    arguments = ("compat", "4.17", "4.18", "--records", "LAPIC,PIC")
    assert run(*arguments) == (0, (TEXT, ""))
    assert run(*arguments, "--format", "markdown") == (0, (MARKDOWN, ""))
    found = json.loads(run(*arguments, "--format", "json").out)
    assert found[1] == {
        "topic": "lengths", "record": "LAPIC", "what": "bytes", "first": "24", "second": "32",
        "since": "4.18",
    }  # fmt: skip


def test_nothing_changed(run: Run) -> None:
    assert run("compat", "4.18", "4.18").out == "0 changes from Xen 4.18 to 4.18\n"
    assert json.loads(run("compat", "4.18", "4.18", "--format", "json").out) == []


def test_tags_and_mistakes(run: Run) -> None:
    assert run("compat", "RELEASE-4.17.0", "4.17").out.startswith("What a restore refuses:\n")
    for words in (("4.17",), ("4.17", "9"), ("4.17", "4.18", "--records", "x")):
        result = run("compat", *words)
        assert result.status == 2 and result.err.count("\n") == 1 and not result.out
