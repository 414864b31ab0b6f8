#!/usr/bin/env python3
"""Write every generated file anew. `--check` writes nothing and names those that would change.

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


def generated() -> dict[str, str]:
    """All of them: contents by path."""
    found: dict[str, str] = {}
    for module in pkgutil.iter_modules([os.path.join(ROOT, "tools")]):
        if module.name.isidentifier() and module.name != "generate":
            script = importlib.import_module(f"tools.{module.name}")
            found.update(script.files() if hasattr(script, "files") else {})
    return found


def stale() -> dict[str, str]:
    """Those whose file is missing, or holds something else."""
    return {
        name: text
        for name, text in generated().items()
        if not (path := Path(ROOT, name)).is_file() or path.read_text(encoding="utf-8") != text
    }


def main() -> int:
    changed = stale()
    for name, text in changed.items():
        print(name)
        if sys.argv[1:] != ["--check"]:
            path = Path(ROOT, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return int(sys.argv[1:] == ["--check"] and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
