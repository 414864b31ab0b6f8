"""Inputs with very many of one thing, each by its name: `FLOODS["context-records"](1000)`.

What is in them is as small as it can be, so that they cost their readers the most for a byte.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

from hvmctx.abi import streams, x86
from tests.builders.samples import context_bytes
from tests.builders.streams import (
    CONTEXT,
    TSC,
    hvm,
    libxc_head,
    libxl_head,
    record,
    xl_head,
)
from tests.builders.wrappers import in_xapi, libvirt, xapi_record

Flood = Callable[[int], bytes]


def descriptors(typecode: int, count: int, body: bytes = b"") -> bytes:
    """Records of a context, all of instance 0."""
    return (x86.DESCRIPTOR.pack(typecode, 0, len(body)) + body) * count


def _context(records: bytes) -> bytes:
    """The genuine context with these records before its END."""
    whole = context_bytes()
    return whole[:-8] + records + whole[-8:]


def _stream_with(context: bytes) -> bytes:
    return libxc_head() + record(16) + record(streams.LIBXC_HVM_CONTEXT, context) + record(0)


def _batch(words: bytes) -> bytes:
    """Page data without pages, out of words of types that have none."""
    return record(streams.LIBXC_PAGE_DATA, struct.pack("<II", len(words) // 8, 0) + words)


def _words(first: int, count: int, step: int = 1, kind: int = streams.PAGE_XTAB) -> bytes:
    top = kind << streams.PAGE_TYPE_SHIFT
    return struct.pack(f"<{count}Q", *(top | first + step * n for n in range(count)))


def _vcpus(count: int) -> bytes:
    """A context with a TSC_ADJUST record for each vcpu."""
    return b"".join(x86.DESCRIPTOR.pack(19, n & 0xFFFF, 8) + bytes(8) for n in range(count))


def _libxl(body: bytes) -> bytes:
    return libxl_head() + record(1) + hvm() + body + record(0)


def _json(text: str) -> bytes:
    return f'{{"context": {{"records": [{{"typecode": 99, "body": {text}}}]}}}}'.encode()


FLOODS: dict[str, Flood] = {
    # of a bare context
    "context-records": lambda n: _context(descriptors(19, n, bytes(8))),
    "context-unknown": lambda n: _context(descriptors(99, n)),
    "context-empty": lambda n: _context(descriptors(2, n)),
    "context-cpus": lambda n: _context(descriptors(2, n, bytes(x86.CPU.size))),
    "vcpus": lambda n: _context(_vcpus(n)),
    "vmport-records": lambda n: _context(descriptors(21, n)),
    # of a wrapper
    "xapi-records": lambda n: in_xapi(hvm(), xapi_record(streams.XAPI_SWTPM0) * n),
    "xml-elements": lambda n: libvirt(
        libxl_head() + record(1) + hvm() + record(0), b"<domain>" + b"<a b=''/>" * n + b"</domain>"
    ),
    # of a stream
    "stream-context": lambda n: _stream_with(_context(descriptors(19, n, bytes(8)))),
    "stream-records": lambda n: hvm(record(streams.LIBXC_VERIFY) * n),
    "stream-optional": lambda n: hvm(record(0x80000020) * n),
    "stream-mandatory": lambda n: hvm(record(0x20) * n),
    "stream-padding": lambda n: hvm(record(streams.LIBXC_VERIFY, b"\0", pad=b"\1") * n),
    "checkpoints": lambda n: hvm(record(streams.LIBXC_CHECKPOINT) * n),
    "params": lambda n: hvm(
        record(streams.LIBXC_HVM_PARAMS, struct.pack("<II", n, 0) + bytes(16) * n)
    ),
    "params-records": lambda n: hvm(record(streams.LIBXC_HVM_PARAMS, bytes(8)) * n),
    "policies": lambda n: libxc_head() + record(17, bytes(24) * n) + record(18, bytes(16) * n)
    + record(16) + TSC + CONTEXT + record(0),
    "batches-short": lambda n: hvm(b"".join(_batch(_words(at, 1)) for at in range(n))),
    "batches": lambda n: hvm(b"".join(_batch(_words(256 * at, 256)) for at in range(n))),
    "runs": lambda n: hvm(_batch(_words(0, n, 2))),
    "runs-again": lambda n: hvm(_batch(_words(0, n, 2)) * 2),
    "findings": lambda n: hvm(record(streams.LIBXC_HVM_PARAMS, b"\0") * n),
    "xenstore": lambda n: _libxl(record(2, struct.pack("<II", 2, 0) + b"a\0b\0" * n)),
    "sections": lambda n: _libxl(
        record(
            3, struct.pack("<II", 2, 0) + b"QEVM\0\0\0\3"
            + b"".join(struct.pack(">BIB", 4, at & 0xFFFF, 2) + b"ab" + bytes(8) for at in range(n))
        )
    ),
    "config": lambda n: xl_head(struct.pack("<I", 3 * n + 1) + b"[" + b"{}," * n)
    + libxl_head() + record(1) + hvm() + record(0),
    # JSON
    "json-depth": lambda n: _json("[" * n + "]" * n),
    "json-width": lambda n: _json("[" + "0," * n + "0]"),
    "json-records": lambda n: json.dumps(
        {"context": {"records": [{"typecode": 99, "body": ""}] * n}}
    ).encode(),
}  # fmt: skip
"""By the name of what there is much of."""
