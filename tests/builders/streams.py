"""Streams that a restore takes, from which tests make others; and altered ones, with the word of
Debian's Xen 4.17 on each."""

from __future__ import annotations

import json
import struct
import tarfile
from collections.abc import Iterator
from typing import Any

from hvmctx.abi import streams
from tests.builders.samples import (
    DATA,
    context_bytes,
    libxc_head,
    libxl_head,
    page_data,
    record,
    word,
)


def _altered() -> Iterator[tuple[dict[str, Any], bytes]]:
    with tarfile.open(DATA / "streams" / "bad.tar.xz") as archive:
        files = {
            member.name.rpartition("/")[2]: file.read()
            for member in archive.getmembers()
            if (file := archive.extractfile(member)) is not None
        }
    for entry in json.loads(files["index.json"]):
        yield entry, files[f"{entry['name']}.xc"]


def altered() -> list[tuple[str, bool, bytes]]:
    """(what was done, whether Debian's Xen 4.17 took it, the stream)."""
    return [(entry["what"], entry["accepted"], data) for entry, data in _altered()]


def altered_said() -> list[tuple[str, bool, bytes]]:
    """(what was done, whether Debian's verifier refused it, the stream)."""
    return [(entry["what"], entry["verify_exit"] != 0, data) for entry, data in _altered()]


def hvm(*records: bytes, version: int = 3, end: bool = True) -> bytes:
    static = record(16) if version == 3 else b""
    tail = record(streams.LIBXC_HVM_CONTEXT, context_bytes()) + record(0) if end else b""
    return libxc_head(version) + static + b"".join(records) + tail


PV_INFO = record(2, b"\x08\x04" + bytes(6))
FRAMES = record(3, struct.pack("<IIQ", 0, 511, 7))
VCPU0 = record(4, bytes(8) + bytes(5168))


def pv(
    *records: bytes, info: bytes = PV_INFO, frames: bytes = FRAMES, vcpu: bytes = VCPU0
) -> bytes:
    head = libxc_head(guest=streams.GUEST_X86_PV)
    return head + info + record(16) + frames + b"".join(records) + vcpu + record(0)


def libxl(*records: bytes, guest: int = streams.GUEST_X86_HVM) -> bytes:
    libxc = hvm() if guest == streams.GUEST_X86_HVM else pv()
    return libxl_head() + record(1) + libxc + b"".join(records) + record(0)


CPUID = struct.pack("<6I", 1, 0, 0, 0, 0, 0)
MSR = struct.pack("<IIQ", 0x48, 0, 0)
TSC = record(8, bytes(24))
PARAMS = struct.pack("<IIQQQQ", 2, 0, 1, 3, 17, 2)
STATIC = record(17, CPUID), record(18, MSR), record(16)
MEMORY = page_data(word(0), word(1), word(2), word(3))
CONTEXT = record(9, context_bytes())


def strict_hvm(
    *memory: bytes,
    static: tuple[bytes, ...] = STATIC,
    state: tuple[bytes, ...] = (TSC, CONTEXT, record(10, PARAMS)),
    tail: bytes = b"",
) -> bytes:
    body = b"".join((*static, *(memory or (MEMORY,)), *state))
    return libxc_head() + body + record(0) + tail


def strict_libxl(*records: bytes, stream: bytes | None = None) -> bytes:
    inner = strict_hvm() if stream is None else stream
    return libxl_head() + record(1) + inner + b"".join(records) + record(0)


GOOD = strict_hvm()
"""Of which strict has nothing to say."""
