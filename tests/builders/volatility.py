"""Guests for volatility3: memory with known contents, and page tables that map it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

from hvmctx.context.hvm_context import HvmContext
from hvmctx.save.build import build
from hvmctx.save.guests import MemoryFileSource
from tests.builders.contexts import cpu
from tests.builders.samples import context_bytes

PAGE = 0x1000
TABLES = 0x1000
BANNER = b"Linux version 6.1.0-known (known@contents) #1 SMP"
BANNER_AT = 0x400000 - 30
"""Across the border of two batches of 1024 pages."""
LONG_MODE = dict(cr0=0x80050033, cr3=TABLES, cr4=0x20, msr_efer=0xD01)
KERNEL = 0xFFFF888000000000
"""Where the guest has all of its memory, besides at 0."""
END = 0x500000


def _entries(*addresses: int) -> bytes:
    return struct.pack(f"<{len(addresses)}Q", *(address | 3 for address in addresses))


def contents() -> dict[int, bytes]:
    """Address -> bytes."""
    top, directory, first = TABLES + PAGE, TABLES + 2 * PAGE, TABLES + 3 * PAGE
    return {
        TABLES: _entries(top),
        TABLES + 8 * (KERNEL >> 39 & 511): _entries(top),
        top: _entries(directory),
        directory: _entries(*range(first, first + 3 * PAGE, PAGE)),
        first: _entries(*range(0, END, PAGE)),
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
