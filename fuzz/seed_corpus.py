#!/usr/bin/env python3
"""The seeds of every target: `seed_corpus.py DIR` writes DIR/TARGET/seed-N."""

from __future__ import annotations

import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from hvmctx.fuzz.targets import TARGETS


def main() -> None:
    for name, target in TARGETS.items():
        place = os.path.join(sys.argv[1], name)
        os.makedirs(place, exist_ok=True)
        for number, data in enumerate(target.seeds(random.Random(1))):
            with open(os.path.join(place, f"seed-{number}"), "wb") as file:
                file.write(data)


if __name__ == "__main__":
    main()
