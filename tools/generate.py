#!/usr/bin/env python3
"""Write every generated file anew, or those of the scripts named: `generate.py [--check]
[SCRIPT...]`. `--check` writes nothing and names those that would change.

A script in this folder that makes files has a function `files`, which returns their contents by
their path from the root of the repository; that is all that it needs to be run from here.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from pathlib import Path

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, ROOT)


LAST = "console"
SCRIPTS = sorted(
    (
        each.name
        for each in pkgutil.iter_modules([os.path.join(ROOT, "tools")])
        if each.name.isidentifier() and each.name != "generate"
    ),
    key=lambda name: name == LAST,
)
"""What may make files; last what runs sessions in pages that others have made."""


def generated(script: str) -> dict[str, str]:
    """What it makes: contents by path."""
    module = importlib.import_module(f"tools.{script}")
    found: dict[str, str] = module.files() if hasattr(module, "files") else {}
    return found


def stale(script: str) -> dict[str, str]:
    """Those whose file is missing, or holds something else."""
    return {
        name: text
        for name, text in generated(script).items()
        if not (path := Path(ROOT, name)).is_file() or path.read_text(encoding="utf-8") != text
    }


def main() -> int:
    arguments = sys.argv[1:]
    check = arguments[:1] == ["--check"]
    any_stale = False
    for script in arguments[check:] or SCRIPTS:
        for name, text in stale(script).items():
            any_stale = True
            print(name)
            if not check:
                path = Path(ROOT, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    return int(check and any_stale)


if __name__ == "__main__":
    sys.exit(main())
