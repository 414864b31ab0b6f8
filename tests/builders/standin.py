"""A stand-in for Xen's libraries (tests/live/standin.c), compiled, the made-up domain behind it
(`StandIn`), and a made-up device model (`FakeQemu`)."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import socket
import subprocess
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

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
    subprocess.run(["gcc", "-w", "-shared", "-fPIC", *flags, "-o", path, SOURCE], check=True)
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


class FakeQemu(threading.Thread):
    """QEMU's side of a QMP socket at `path`. `heard` are the commands; `refuses` is one that
    fails, `silent` one that is not answered."""

    def __init__(self, path: Path, *, refuses: str = "", silent: str = "") -> None:
        super().__init__(daemon=True)
        self.heard: list[str] = []
        self.running = True
        self.logging = False
        self.state = b"QEVM made up"
        self.refuses, self.silent = refuses, silent
        self._fds: dict[int, int] = {}
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(4)

    def run(self) -> None:
        with suppress(OSError):
            while True:
                self._serve(self._server.accept()[0])

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.join(10)

    def _serve(self, peer: socket.socket) -> None:
        version = {"qemu": {"major": 7, "minor": 2, "micro": 22}}
        self._say(peer, {"QMP": {"version": version, "capabilities": []}})
        while True:
            data, fds, _, _ = socket.recv_fds(peer, 65536, 4)
            if not data:
                break
            for line in data.splitlines():
                request = json.loads(line)
                name = request["execute"]
                self.heard.append(name)
                if name == self.silent:
                    continue
                if name == self.refuses:
                    self._say(peer, {"error": {"class": "GenericError", "desc": "not today"}})
                    continue
                self._say(peer, {"event": "SOMETHING"})
                self._say(peer, {"return": self._do(name, request.get("arguments", {}), fds)})
        peer.close()

    def _do(self, name: str, arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        if name == "query-status":
            return {"running": self.running}
        if name == "stop":
            self.running = False
        if name == "cont":
            self.running = True
        if name == "xen-set-global-dirty-log":
            self.logging = arguments["enable"]
        if name == "add-fd":
            self._fds[3] = fds[0]
            return {"fdset-id": 3, "fd": fds[0]}
        if name == "xen-save-devices-state":
            assert arguments == {"filename": "/dev/fdset/3", "live": arguments["live"]}
            os.write(self._fds[3], self.state)
        if name == "remove-fd":
            os.close(self._fds.pop(3))
        return {}

    @staticmethod
    def _say(peer: socket.socket, answer: dict[str, Any]) -> None:
        peer.sendall(json.dumps(answer).encode() + b"\r\n")
