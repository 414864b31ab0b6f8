#!/usr/bin/env python3
"""One target under atheris: `fuzz_target.py TARGET [libFuzzer's arguments]`. Every five seconds
it writes how many of the target's rules were reached to the file that REPORT names."""

from __future__ import annotations

import json
import os
import random
import sys
import time

import atheris

with atheris.instrument_imports(include=["hvmctx"]):
    from hvmctx.fuzz.targets import TARGETS

# a build has a program for each target, named after it: fuzz_context.py, fuzz_context.pkg
_NAME = os.path.basename(sys.argv[0]).removeprefix("fuzz_").partition(".")[0]
TARGET = TARGETS[_NAME] if _NAME in TARGETS else TARGETS[sys.argv.pop(1)]
REACHED: set[str] = set()
STARTED = time.monotonic()
COUNT = [0]
REPORTED = [STARTED]


def run(data: bytes) -> None:
    COUNT[0] += 1
    REACHED.update(TARGET.run(data))
    if time.monotonic() - REPORTED[0] > 5:  # libFuzzer exits without notice
        REPORTED[0] = time.monotonic()
        report()


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Half of the time an edit that knows the format, otherwise one that does not."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        made: bytes = atheris.Mutate(data, max_size)
        return made
    try:
        return TARGET.mutate(data, rng)[:max_size]
    except Exception:  # noise may be no input for an edit
        return bytes(atheris.Mutate(data, max_size))


def report() -> None:
    seconds = time.monotonic() - STARTED
    figures = {
        "target": TARGET.name, "executions": COUNT[0], "seconds": round(seconds),
        "a_second": round(COUNT[0] / seconds), "rules_reached": len(REACHED & TARGET.known),
        "rules_known": len(TARGET.known), "missing": sorted(TARGET.known - REACHED),
    }  # fmt: skip
    if "REPORT" in os.environ:
        with open(os.environ["REPORT"], "w", encoding="ascii") as file:
            file.write(json.dumps(figures, indent=1) + "\n")


def main() -> None:
    atheris.Setup(sys.argv, run, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
