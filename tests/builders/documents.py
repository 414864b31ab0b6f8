"""The blocks and lines of the repository's documents that are run by the suite."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.builders.samples import ROOT

DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "examples" / "README.md",
        ROOT / "fuzz" / "README.md",
    ]
)


class Block(NamedTuple):
    """A fenced or indented block of code: `language` is empty without a fence."""

    document: Path
    line: int
    language: str
    code: str

    @property
    def place(self) -> str:
        return f"{self.document.relative_to(ROOT).as_posix()}:{self.line}"


def blocks(document: Path) -> Iterator[Block]:
    """Those of a document, in order; `line` counts from 1 and is that of the first line of code."""
    fence, start, code, before = None, 0, list[str](), ""
    for number, line in enumerate([*document.read_text().splitlines(), ""], 1):
        if fence is not None:
            if line.strip() == "```":
                yield Block(document, start, fence, "\n".join(code) + "\n")
                fence, code = None, []
            else:
                code.append(line)
        elif opened := re.fullmatch(r"```(\w*)", line):
            fence, start = opened[1], number + 1
        elif line.startswith("    ") and (code or not before):
            start = start if code else number
            code.append(line[4:])
        elif code:
            yield Block(document, start, "", "\n".join(code) + "\n")
            code = []
        before = line


def command_lines(block: Block) -> Iterator[Block]:
    """The lines of a shell block, each a block, continued ones joined; none for other languages."""
    if block.language not in ("", "sh", "console"):
        return
    number, whole = block.line, ""
    for offset, line in enumerate(block.code.splitlines()):
        if not whole:
            number = block.line + offset
        whole += line.removesuffix("\\")
        if not line.endswith("\\"):
            yield block._replace(line=number, code=whole.strip())
            whole = ""


BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
LINES = [line for block in BLOCKS for line in command_lines(block)]
