"""Guests for volatility3: memory with known contents, and page tables that map it."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from hvmctx.context.hvm_context import HvmContext
from hvmctx.save.build import build
from hvmctx.save.guests import MemoryFileSource
from tests.builders.contexts import cpu
from tests.builders.paging import PAGE, REGISTERS, Tables
from tests.builders.samples import context_bytes

TABLES = 0x1000
BANNER = b"Linux version 6.1.0-known (known@contents) #1 SMP"
BANNER_AT = 0x400000 - 30
"""Across the border of two batches of 1024 pages."""
LONG_MODE = {**REGISTERS["4-level"], "cr3": TABLES}
KERNEL = 0xFFFF888000000000
"""Where the guest has all of its memory, besides at 0."""
END = 0x500000


@cache
def _tables() -> dict[int, bytes]:
    """Those that map it: address -> bytes."""
    tables = Tables("4-level", TABLES)
    for address in range(0, END, PAGE):
        tables.map(address, address)
    low, high = tables.entry_at(0, 39), tables.entry_at(KERNEL, 39)
    assert low is not None and high is not None
    tables.put(high, tables.get(low))
    return {pfn * PAGE: bytes(page) for pfn, page in tables.memory.items()}


def contents() -> dict[int, bytes]:
    """Address -> bytes."""
    return {
        **_tables(),
        0x3FE000: bytes(range(256)) * 32,
        BANNER_AT: BANNER + b"\0",
        0x401000: b"x" * 2 * PAGE,
    }


def make_guest(
    path: Path,
    layer: str = "xl",
    *,
    more: dict[int, bytes] | None = None,
    fields: dict[str, int] | None = None,
) -> bytearray:
    """Writes an image; returns its memory, zeros where it has none. `fields` are those of its
    CPU record, `more` of its memory."""
    context = HvmContext.from_bytes(context_bytes())
    cpu(**{**LONG_MODE, **(fields or {})})(context)
    memory = bytearray(END)
    ram = path.with_suffix(".ram")
    with open(ram, "wb") as file:
        for address, data in {**contents(), **(more or {})}.items():
            memory[address : address + len(data)] = data
            file.seek(address)
            file.write(data)
        file.truncate(len(memory))
    guest = MemoryFileSource(str(ram), context=context.to_bytes())
    with open(path, "wb") as out:
        build(guest, out, layer=layer, without_emulator=True, blank_specials=False)
    guest.close()
    ram.unlink()
    return memory


_RUN = """
import sys
from volatility3.cli import CommandLine
plugins = sys.argv[1]
for line in sys.stdin.read().splitlines():
    sys.argv = ["vol", "-q", "-p", plugins, *line.split("\\t")]
    CommandLine().run()
    print("\\f", flush=True)
"""


def vol(folder: Path, plugins: str, *lines: tuple[object, ...]) -> list[str]:
    """What volatility3 prints to each of these command lines, in one process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, plugins], cwd=folder, text=True, check=False,
        input="".join("\t".join(map(str, line)) + "\n" for line in lines),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "XDG_CACHE_HOME": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout.split("\f\n")[:-1]
