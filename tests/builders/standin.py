"""A stand-in for Xen's libraries (tests/live/standin.c), compiled, and the made-up domain behind
it: `StandIn`."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
from functools import cache
from pathlib import Path

from hvmctx.live.libraries import LIBRARY_VARIABLE
from tests.builders.samples import context_bytes

SOURCE = Path(__file__).parent.parent / "live" / "standin.c"
PAGES, SPECIAL, P2M = 96, 0xFE, 0x100
DOMAIN = 7
HVM, SHUTDOWN, PAUSED, HAP = 2, 4, 8, 0x100


class State(ctypes.Structure):
    """As in the source."""

    _fields_ = (
        *(
            (name, ctypes.c_uint32)
            for name in (
                "flags", "reason", "logging", "maps", "writes", "answers", "callback",
                "unmappable", "resumed", "loaded", "released", "version", "slow", "logged",
                "context_size",
            )
        ),
        ("control", ctypes.c_char * 64),
        ("type", ctypes.c_char * 16),
        ("dirty", ctypes.c_uint8 * (P2M // 8)),
        ("log", ctypes.c_char * 8192),
        ("context", ctypes.c_uint8 * 65536),
        ("memory", ctypes.c_uint8 * 4096 * (PAGES + 2)),
    )  # fmt: skip

    flags: int
    reason: int
    logging: int
    maps: int
    writes: int
    answers: int
    callback: int
    unmappable: int
    resumed: int
    loaded: int
    released: int
    version: int
    slow: int
    control: bytes
    type: bytes


@cache
def library(place: Path, *, old: bool = False) -> Path:
    """The path of the stand-in, compiled once; by its name it is of no release, or of 4.6."""
    place.mkdir(exist_ok=True)
    path = place / ("libxenctrl.so.4.6" if old else "libxenctrl.so")
    flags = ["-DOLD"] if old else []
    subprocess.run(
        ["gcc", "-w", "-shared", "-fPIC", *flags, "-o", path, SOURCE], check=True
    )
    for name in ("xenguest", "xenforeignmemory", "xenstore"):
        (place / path.name.replace("xenctrl", name)).symlink_to(path)
    return path


class StandIn:
    """The made-up domain: `state` is seen by the libraries, in whatever process."""

    def __init__(self, path: Path, *, version: tuple[int, int] = (4, 17)) -> None:
        self.path = path
        path.write_bytes(bytes(ctypes.sizeof(State)))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.state = state = State.from_buffer(self._map)
        state.flags = HVM | HAP
        state.version = version[0] << 16 | version[1]
        state.answers = 1
        state.type = b"pvh"
        context = context_bytes()
        state.context_size = len(context)
        ctypes.memmove(state.context, context, len(context))
        for pfn in range(PAGES + 2):
            ctypes.memset(state.memory[pfn], pfn + 1, 4096)

    def memory(self, pfn: int) -> bytes:
        """A page as it is now."""
        return bytes(self.state.memory[pfn if pfn < PAGES else PAGES + pfn - SPECIAL])

    def environment(self, library: Path) -> dict[str, str]:
        return {LIBRARY_VARIABLE: str(library), "STAND_IN": str(self.path)}
