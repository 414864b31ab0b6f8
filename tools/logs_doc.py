#!/usr/bin/env python3
"""Make examples/logs/README.md: what `hvmctx diagnose` says of each log there."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, ROOT)

from hvmctx.cli import main  # noqa: E402

DOCUMENT = "examples/logs/README.md"
HEAD = """\
# Logs of restores that failed

Genuine ones. Debian's Xen 4.17 and 4.20 on AMD were asked to restore images in which one thing
had been changed with hvmctx (`examples/hvm1.save` and a guest of 2 vcpus saved by Xen 4.20),
with `xl -vvv restore -p`. Each file is what xl printed, without the debug lines of libxl, then
`xl dmesg`. File names are the release and what was changed.

Below is what `hvmctx diagnose` says of each; with the image it also says what mends it.
"""


def said(path: Path) -> str:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        main(["diagnose", str(path)])
    return out.getvalue() + err.getvalue()


def document() -> str:
    parts = [HEAD]
    for path in sorted(Path(ROOT, "examples", "logs").glob("*.log")):
        parts.append(f"\n## {path.name}\n\n```text\n{said(path)}```\n")
    return "".join(parts)


def files() -> dict[str, str]:
    return {DOCUMENT: document()}


if __name__ == "__main__":
    sys.stdout.write(document())
