#!/usr/bin/env python3
"""One target under AFL++, by python-afl: `py-afl-fuzz ... -- python fuzz/afl_target.py TARGET`.
Every input is run in this process, and read from standard input."""

from __future__ import annotations

import os
import sys

import afl

from hvmctx.fuzz.targets import TARGETS

_INPUTS = 2000
"""Then AFL++ starts another process."""


def main() -> None:
    target = TARGETS[sys.argv[1]]
    while afl.loop(_INPUTS):
        sys.stdin.seek(0)
        target.run(sys.stdin.buffer.read())  # what escapes is a crash
    os._exit(0)  # nothing is left to tidy up


if __name__ == "__main__":
    main()
