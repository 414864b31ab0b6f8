"""All benchmarks, one after the other: `python benchmarks/run.py`, or `make bench`."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import benchmarks


def main() -> None:
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name not in ("run", "measure", "sparse"):
            importlib.import_module(f"benchmarks.{module.name}").main()


if __name__ == "__main__":
    main()
