#!/usr/bin/env python3
"""Make docs/torture.md from what tools/torture.py has measured."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from tools.markdown import table_row

MEASURED = Path(sys.path[0]) / "tests" / "data" / "torture.json"
HEAD = """\
# Under attack, in figures

Made by tools/torture_doc.py from `tests/data/torture.json`, which `make torture` measures anew;
parts of it run in the suite. What is promised is in [SECURITY.md](../SECURITY.md), the bounds
are in [limits.md](limits.md), and the longer search for new faults is in
[fuzzing.md](fuzzing.md).
"""
LOAD = """
## Load

Each row is an input of about {size} MiB with very many of one thing, as small as it can be,
and what the commands take of it that take the most: {runs:,} runs on {date}, each a process of
its own. The second half of the columns is the same input by zstd. The aim is {memory} MiB at most:
what takes more is in bold. Seconds are those of a core.

| flood | of | bytes | longest | MiB | zstd bytes | longest | MiB |
|---|---|---|---|---|---|---|---|
"""
FAULTS = """
## Faults

Each command that writes is ended at each call that writes, renames, links or sets a mode: by
SIGKILL (nothing may be half written, the next run succeeds and sweeps up), by a full disk and by
the signals that ask it to end (no temporary file may be left). {date}, on {where}.

| command | faults tried | wrong |
|---|---|---|
"""
INPUTS = """
## Inputs

Altered contexts, images, JSON, legacy streams, device models' files, cores and profiles, each
through one command. Right is an exit status of 0, 1 or 2 and at most a line for each problem on
stderr. {tried:,} on {date}, by command:

| command | inputs tried |
|---|---|
"""


def document(told: dict[str, Any]) -> str:
    """The whole page."""
    return HEAD + "".join(part(told[name]) for name, part in _PARTS.items() if name in told)


def _load(told: dict[str, Any]) -> str:
    rows = told["rows"]
    text = LOAD.format(
        size=told["size"] >> 20, runs=len(rows), date=told["date"], memory=told["memory"]
    )
    for name in dict.fromkeys(one["flood"] for one in rows):
        of_one = [one for one in rows if one["flood"] == name]
        columns: list[object] = [name, f"{of_one[0]['count']:,}"]
        for packed in ("", "zstd"):
            some = [one for one in of_one if one["packed"] == packed]
            slow = max(some, key=lambda one: float(one["seconds"]))
            columns += [
                f"{some[0]['size']:,}",
                f"{slow['seconds']} s {slow['command']}",
                _memory(max(some, key=lambda one: int(one["memory"])), told["memory"]),
            ]
        text += table_row(*columns)
    return text


def _memory(run: dict[str, Any], most: int) -> str:
    used = run["memory"]
    return f"**{used} {run['command']}**" if used > most else str(used)


def _faults(told: dict[str, Any]) -> str:
    text = FAULTS.format(date=told["date"], where=told["where"])
    tried = told["tried"]
    return text + "".join(table_row(name, f"{count:,}", 0) for name, count in tried.items())


def _inputs(told: dict[str, Any]) -> str:
    tried = told["tried"]
    text = INPUTS.format(tried=sum(tried.values()), date=told["date"])
    return text + "".join(table_row(name, f"{count:,}") for name, count in tried.items())


_PARTS = {"load": _load, "faults": _faults, "inputs": _inputs}


def files() -> dict[str, str]:
    """What `make generate` is to write."""
    return {"docs/torture.md": document(json.loads(MEASURED.read_text(encoding="utf-8")))}
