"""The blocks and lines of the repository's documents that are run by the suite, and the files that
they speak of."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from hvmctx.cli import main
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import to_record
from tests.builders.hosts import CPUID, INFO
from tests.builders.kernels import SYMBOLS, kernel_image
from tests.builders.samples import DATA, EXAMPLE, ROOT, context_bytes
from tests.builders.streams import hvm, libxl_head, record
from tests.builders.vmport import busy_state
from tests.builders.volatility import make_guest
from tests.builders.wrappers import WRAPPED, XML
from tools.policies import held

DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "examples" / "README.md",
        ROOT / "fuzz" / "README.md",
    ]
)
PROGRAMS = ("hvmctx ", "python ", "python3 ", ".venv/bin/python ", "make ", "pip ")


class Block(NamedTuple):
    """A fenced or indented block of code: `language` is empty without a fence. `section` is the
    heading that it stands under, `said` the paragraph before it."""

    document: Path
    line: int
    language: str
    code: str
    section: str
    said: str

    @property
    def place(self) -> str:
        return f"{self.document.relative_to(ROOT).as_posix()}:{self.line}"


def blocks(document: Path) -> Iterator[Block]:
    """Those of a document, in order; `line` counts from 1 and is that of the first line of code."""
    section, paragraphs, code = "", [""], list[str]()
    fence, start, before = None, 0, ""

    def block(language: str) -> Block:
        made = Block(document, start, language, "\n".join(code) + "\n", section, paragraphs[-1])
        code.clear()
        return made

    for number, line in enumerate([*document.read_text().splitlines(), ""], 1):
        if fence is not None:
            if line == "```":
                yield block(fence)
                fence = None
            else:
                code.append(line)
        elif opened := re.fullmatch(r"```(\w*)", line):
            fence, start = opened[1], number + 1
        elif line.startswith("    ") and (code or not before):
            start = start if code else number
            code.append(line[4:])
        else:
            if code:
                yield block("")
            if line.startswith("#"):
                section = line.lstrip("# ")
            elif line:
                paragraphs += [] if before else [""]
                paragraphs[-1] += f" {line}"
        before = line


def command_lines(block: Block) -> Iterator[Block]:
    """The lines of a shell block that start one of the programs, each a block, continued ones
    joined."""
    if block.language not in ("", "sh", "console"):
        return
    number, whole = block.line, ""
    for offset, line in enumerate(block.code.splitlines()):
        if not whole:
            number = block.line + offset
        whole += line.removesuffix("\\")
        if not line.endswith("\\"):
            if whole.startswith(PROGRAMS):
                yield block._replace(line=number, code=whole.strip())
            whole = ""


def _is_recipe(block: Block) -> bool:
    """Whether `tests/test_contributing.py` tries it."""
    return block.document.name == "CONTRIBUTING.md" and block.section.startswith("Add ")


def _shown(language: str, section: str) -> Maker:
    """A file whose contents a document shows."""

    def make(path: Path) -> object:
        found = (b for b in BLOCKS if (b.language, b.section) == (language, section))
        return path.write_text(next(found).code)

    return make


BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
RECIPES = [block for block in BLOCKS if _is_recipe(block)]
PYTHON = [block for block in BLOCKS if block.language == "python" and not _is_recipe(block)]
LINES = [line for block in BLOCKS if not _is_recipe(block) for line in command_lines(block)]


Maker = Callable[[Path], object]


def _of(sample: Path) -> Maker:
    return lambda path: shutil.copy(sample, path)


def _with(data: bytes) -> Maker:
    return lambda path: path.write_bytes(data)


def _core(path: Path) -> None:
    _of(DATA / "qemu" / "core-head.bin")(path)
    os.truncate(path, 0x648 + 0x4040000)  # its memory is a hole


NOT_RUN = {
    "hvmctx 7": "needs a running domain and libxenctrl",
    "hvmctx load": "needs a running domain and libxenctrl",
    "hvmctx fuzz diff --kind context --count 20000 --against": "needs a running Xen",
    "hvmctx save": "needs a running domain and libxenctrl",
    "hvmctx host": "needs a running Xen, or what its tools have printed",
    "hvmctx fuzz diff --kind image": "needs the genuine restore, over a fake hypervisor",
    "hvmctx fuzz campaign": "takes the minutes that it is given",
    "hvmctx scan /var/lib/xen/save": "needs such a directory",
    "hvmctx scan '/srv": "needs pyarrow, which is an extra",
    "hvmctx scan https://": "needs a server",
    "hvmctx scan '/nfs": "needs a Dask cluster",
    "pip install": "needs a network",
    "python fuzz/fuzz_target.py": "needs atheris, which has no package for every Python",
}
"""Beginnings of lines, and why a machine may be unable to run them. Those of hvmctx must still be
what its parser takes."""


def _host(path: Path) -> None:
    path.write_text(json.dumps(held()[0].host.as_dict()))


def _hosts(path: Path) -> None:
    path.mkdir()
    _host(path / "new.json")
    _of(EXAMPLE)(path / "old.save")


FILES: dict[str, Maker] = {
    "guest.save": _of(EXAMPLE),
    "hvm1.save": _of(EXAMPLE),
    "new.save": _of(EXAMPLE),
    "kernel.save": _with(kernel_image(0x18200000)),
    "System.map": _with(SYMBOLS),
    "linux.save": make_guest,
    "guest.xc": _of(DATA / "streams" / "13-one-page.xc"),
    "old.save": _of(DATA / "streams" / "legacy_hvm_w64_xl.in.bin"),
    "suspend.img": _with(WRAPPED["xapi"]),
    "virsh.save": _with(WRAPPED["libvirt"]),
    "guest.xml": _with(XML),
    "web.save": _of(EXAMPLE),
    "db.save": _of(EXAMPLE),
    "other.save": _of(EXAMPLE),
    "other.pol": _with(bytes(8)),
    "host.json": _host,
    "hosts": _hosts,
    "first.json": _with(b'{"cpuid": []}'),
    "a.pol": _with(bytes(8)),
    "b.pol": _with(bytes(8)),
    "context.bin": _with(context_bytes()),
    "example.bin": _with(
        HvmContext(
            [
                *HvmContext.from_bytes(context_bytes()).entries[:-1],
                Record(22, 0, bytes(range(16))),
                Record(0, 0),
            ]
        ).to_bytes()
    ),
    "example.xc": _with(hvm(record(0x13, bytes(range(8))))),
    "example.img": lambda path: path.write_bytes(
        struct.pack(">8sII", b"Example!", 1, 0)
        + libxl_head()[:8]
        + EXAMPLE.read_bytes().partition(libxl_head()[:8])[2]
    ),
    "vmport.bin": _with(HvmContext([to_record(busy_state()), Record(0, 0)]).to_bytes()),
    "ram.raw": _with(b"m" * 4096 * 5),
    "qemu.state": _of(DATA / "qemu" / "pc-stopped.xendev"),
    "qemu.core": _core,
    "guest.hvm": _with(context_bytes()),
    "legacy.save": _of(DATA / "streams" / "legacy_hvm_w64_xl.in.bin"),
    "legacy.stream": _of(DATA / "streams" / "legacy_hvm_w64.in.bin"),
    "xen-cpuid.txt": _with(CPUID),
    "xl-info.txt": _with(INFO),
    "config.json": _with(b'{"c_info": {"name": "guest"}}'),
    "crash-1234": _with(context_bytes()),
    "restore.log": _of(ROOT / "examples" / "logs" / "4.20-tsc-aux.log"),
    "loader.c": _shown("c", "Another loader"),
    "check.py": _shown("py", "Another loader"),
}
"""What a document's lines may name, if it is not made by the line itself; JSON files are made by
to-json."""
JSON = {"guest.json": "guest.save", "edited.json": "context.bin"}


def shorter(line: str) -> str:
    """A line of `fuzz` with numbers that take no minutes: that it runs is what is looked at."""
    line = re.sub(r"--count \d+", "--count 8", line)
    return re.sub(r"--time \w+", "--time 0.1s", line)


def make_files(words: list[str], folder: Path) -> None:
    """What a line names, and the folders of what it writes."""
    outputs = {after for word, after in pairwise(words) if word in ("-o", "--html")}
    for word in {*" ".join(words).split(" ")} - outputs:
        if word in FILES:
            FILES[word](folder / word)
        elif word in JSON:
            FILES[JSON[word]](folder / "source")
            assert main(["to-json", str(folder / "source"), "-o", str(folder / word)]) == 0
    for word in outputs:
        (folder / word).parent.mkdir(exist_ok=True)
