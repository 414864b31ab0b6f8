#!/usr/bin/env python3
"""Load, faults and altered inputs in numbers: how every command bears them on this machine.

`torture.py [--minutes N] [--jobs N] [PART...]` runs the parts named, by default all: `load` (each
flood of tests/builders/floods.py, plain or compressed, through the commands), `faults` (each
writing command ended at each of its writes, by tests/builders/faults.py), `inputs` (altered
inputs by tests/builders/altered.py, for that many minutes). It writes `tests/data/torture.json`,
of which `make generate` makes docs/torture.md. Exits with 1 where anything went wrong, and prints
what; an altered input of that kind is left in the working directory.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import zstandard

from tests.builders import altered
from tests.builders.faults import FAULTS, Torture, file_system
from tests.builders.floods import FLOODS
from tests.builders.running import TOOL
from tests.builders.samples import EXAMPLE

ROOT = Path(sys.path[0])
MEASURED = ROOT / "tests" / "data" / "torture.json"

SIZE = 4 << 20
"""Bytes of a flood, about: more of anything than a limit allows, but of bytes."""
MOST_MEMORY, LONGEST = 300, 60
"""In MiB, and in seconds of a core: what a command may take of a flood."""
OF_IMAGES = {
    "": (
        ("get", "IN", "CPU/0.rip"), ("verify", "IN", "--as", "strict"),
        ("verify", "IN", "--as", "verifier"), ("diff", "IN", str(EXAMPLE)),
        ("extract", "IN", "-o", "OUT"), ("extract", "IN", "--what", "memory", "-o", "OUT"),
        ("report", "IN", "-o", "OUT"), ("set", "IN", "CPU/0.rip=0", "-o", "OUT"),
        ("build", "--base", "IN", "-o", "OUT"),
    ),
    "zstd": (
        ("dump", "IN"), ("info", "IN"), ("verify", "IN"), ("restore", "IN"),
        ("to-json", "IN", "-o", "OUT"), ("strip", "IN", "-o", "OUT"),
    ),
}  # fmt: skip
"""What is tried of a plain flood, and what of a compressed one, which can be read only once."""
OF_JSON = (("from-json", "IN", "-o", "OUT"),)


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("part", nargs="*", choices=[*PARTS, []])  # argparse checks an empty list
    args = parser.parse_args(words)
    args.part = args.part or list(PARTS)
    return args


def main() -> int:
    args = arguments(sys.argv[1:])
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    wrong: list[str] = []
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        for part in args.part:
            figures, more = PARTS[part](pool, args)
            measured[part] = {"date": str(datetime.date.today()), **figures}
            MEASURED.write_text(json.dumps(measured, indent=1) + "\n")
            wrong += more
    print(*wrong, f"{len(wrong)} went wrong", sep="\n")
    return int(bool(wrong))


def _load(pool: ProcessPoolExecutor, _: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    rows: list[dict[str, Any]] = []
    wrong: list[str] = []
    for of_one, more in pool.map(flooded, FLOODS):
        rows += of_one
        wrong += more
    return {"rows": rows, "size": SIZE, "memory": MOST_MEMORY}, wrong


def _faults(pool: ProcessPoolExecutor, _: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    with tempfile.TemporaryDirectory() as place:
        names = list(Torture(Path(place)).commands)
    tried: dict[str, int] = {}
    wrong: list[str] = []
    for name, (count, more) in zip(names, pool.map(faulted, names), strict=True):
        tried[name] = count
        wrong += more
    return {"tried": tried, "where": ", ".join(_systems())}, wrong


def _systems() -> tuple[str, ...]:
    """Where files are written: what can be mounted, for which one has to be root."""
    return ("tmpfs", "ext4") if os.geteuid() == 0 else ("tmpfs",)


def faulted(name: str) -> tuple[int, list[str]]:
    """One writing command with every fault at every call: how many, and what went wrong."""
    tried, wrong = 0, []
    for kind in _systems():
        with (
            tempfile.TemporaryDirectory() as directory,
            file_system(kind, Path(directory)) as place,
        ):
            torture = Torture(place)
            for fault in FAULTS:
                for replaces in (False, True):
                    if replaces and torture.commands[name].is_directory:
                        continue
                    try:
                        torture.run(name, fault, replaces=replaces)
                    except AssertionError as error:
                        wrong.append(f"{kind}: {error}")
            tried += sum(torture.cases.values())
    return tried, wrong


def flooded(name: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Each command on that flood: plain, and what took the most of it also compressed."""
    make = FLOODS[name]
    count = SIZE * 1000 // (len(make(2000)) - len(make(1000)))
    data = make(count)
    rows: list[dict[str, Any]] = []
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "in")
        for packed, commands in OF_IMAGES.items():
            if packed:
                data = zstandard.compress(data)
            path.write_bytes(data)
            for words in OF_JSON if name.startswith("json") else commands:
                row = measured_run(words, path)
                row |= {"flood": name, "count": count, "size": len(data), "packed": packed}
                rows.append(row)
                if row["wrong"]:
                    wrong.append(f"{name} {packed} {' '.join(words)}: {row['wrong']}")
    return rows, wrong


def measured_run(words: tuple[str, ...], path: Path) -> dict[str, Any]:
    """One run of a command on that file: seconds of a core, peak of memory in MiB, and what is
    wrong."""
    files = {"IN": str(path), "OUT": os.devnull}
    arguments = [sys.executable, TOOL, *(files.get(word, word) for word in words)]
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            ["prlimit", f"--cpu={LONGEST}", *arguments], stdout=subprocess.DEVNULL, stderr=said
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        lines = said.read().decode(errors="replace").splitlines()
    row: dict[str, Any] = {
        "command": " ".join(word for word in words if word not in files and "/" not in word),
        "status": child.returncode,
        "seconds": round(used.ru_utime + used.ru_stime, 1),
        "memory": used.ru_maxrss >> 10,
        "lines": len(lines),
    }
    row["wrong"] = wrong_with(row, lines)
    return row


def wrong_with(row: dict[str, Any], lines: list[str]) -> str:
    if row["status"] not in (0, 1, 2):
        return f"exit status {row['status']}: {lines[-1:]}"
    if row["memory"] > MOST_MEMORY:
        return f"{row['memory']} MiB"
    odd = altered.odd_messages(lines)
    return f"messages: {odd[:3]}" if odd else ""


def _inputs(
    pool: ProcessPoolExecutor, args: argparse.Namespace
) -> tuple[dict[str, Any], list[str]]:
    first = random.randrange(1 << 32)
    tried: Counter[str] = Counter()
    wrong: list[str] = []
    for some, more in pool.map(
        attacked, range(first, first + args.jobs), [args.minutes] * args.jobs
    ):
        tried += some
        wrong += more
    return {"tried": dict(sorted(tried.items()))}, wrong


def attacked(seed: int, minutes: float) -> tuple[Counter[str], list[str]]:
    """Altered inputs for so long: how many each command has had, and what went wrong."""
    rng = random.Random(seed)
    until = time.monotonic() + 60 * minutes
    tried: Counter[str] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        while time.monotonic() < until:
            command = rng.choice(altered.COMMANDS)
            tried[command[0]] += 1
            problem = altered.attack(command, rng, Path(place))
            if problem:
                kept = f"torture-{seed}-{len(wrong)}.in"
                Path(kept).write_bytes(Path(place, "in").read_bytes())
                wrong.append(f"{' '.join(command)}: {kept}: {problem}")
    return tried, wrong


PARTS = {"load": _load, "faults": _faults, "inputs": _inputs}

if __name__ == "__main__":
    sys.exit(main())
