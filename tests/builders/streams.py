"""Streams made by hand: records, heads, whole ones that a restore takes, and from which tests
make others."""

from __future__ import annotations

import io
import struct

from hvmctx.abi import streams
from tests.builders.samples import context_bytes


def record(
    number: int, body: bytes = b"", *, length: int | None = None, pad: bytes = b"\0"
) -> bytes:
    """A stream record. `length` lies about the body on request."""
    claimed = len(body) if length is None else length
    return streams.RECORD_HEADER.pack(number, claimed) + body + pad * (-len(body) % 8)


def libxc_head(
    version: int = 3,
    guest: int = streams.GUEST_X86_HVM,
    options: int = 0,
    marker: int = streams.LIBXC_MARKER,
    page_shift: int = 12,
) -> bytes:
    image = streams.IMAGE_HEADER.encode(
        dict(marker=marker, id=streams.LIBXC_ID, version=version, options=options,
             reserved1=0, reserved2=0)
    )  # fmt: skip
    return image + streams.DOMAIN_HEADER.encode(
        dict(type=guest, page_shift=page_shift, reserved=0, xen_major=4, xen_minor=17)
    )


def libxl_head(version: int = 2, options: int = 0, ident: int = streams.LIBXL_IDENT) -> bytes:
    return streams.LIBXL_HEADER.encode(dict(ident=ident, version=version, options=options))


def xl_head(data: bytes = b"", flags: int = 3, byteorder: int = streams.XL_BYTEORDER) -> bytes:
    fields = dict(
        byteorder=byteorder, mandatory_flags=flags, optional_flags=0, optional_data_len=len(data)
    )
    return streams.XL_MAGIC + streams.XL_HEADER.encode(fields) + data


def word(pfn: int, page_type: int = 0) -> int:
    return page_type << streams.PAGE_TYPE_SHIFT | pfn


def page_data(*words: int, fill: int = 0x5A) -> bytes:
    """A PAGE_DATA record; page n is filled with `fill` + n."""
    data = b"".join(
        bytes(((fill + at) & 0xFF,)) * streams.PAGE_SIZE
        for at, one in enumerate(words)
        if one >> streams.PAGE_TYPE_SHIFT in streams.PAGE_TYPES_WITH_DATA
    )
    body = struct.pack(f"<II{len(words)}Q", len(words), 0, *words) + data
    return record(streams.LIBXC_PAGE_DATA, body)


def libxc_stream(*records: bytes, end: bool = True) -> bytes:
    return libxc_head() + b"".join(records) + (record(streams.LIBXC_END) if end else b"")


class Pipe(io.RawIOBase):
    """Bytes that can be read once, at most `most` at a time."""

    def __init__(self, data: bytes, most: int = 1 << 60) -> None:
        self._data = io.BytesIO(data)
        self._most = most

    def readable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        return self._data.read(min(count, self._most))


TSC = record(streams.LIBXC_X86_TSC_INFO, struct.pack("<IIQII", 0, 2_600_000, 5, 1, 0))
CONTEXT = record(streams.LIBXC_HVM_CONTEXT, context_bytes())
SMALL = (
    xl_head(b"\3\0\0\0{}\0") + libxl_head() + record(1) + libxc_head() + record(16)
    + page_data(word(1), word(2, 0xF)) + record(8, bytes(24)) + CONTEXT
    + record(10, struct.pack("<II2Q", 1, 0, 17, 5)) + record(0)
    + record(3, struct.pack("<II", 2, 0) + b"QEVM\0\0\0\3\0") + record(0)
)  # fmt: skip
"""An xl file with a little of everything."""
_LONG = [range(at + 200, at + 4000) for at in (SMALL.index(libxc_head()), SMALL.index(CONTEXT))]
"""Within its page, and within its context."""
CUTS = [at for at in range(len(SMALL)) if at % 31 == 0 or not any(at in long for long in _LONG)]
"""Where to cut it off: everywhere, but in steps where there is much of one thing."""


def hvm(*records: bytes, version: int = 3, end: bool = True) -> bytes:
    """The least that a restore takes, with these records before the context."""
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


def in_xl(config: bytes) -> bytes:
    """An xl file with that configuration."""
    return xl_head(struct.pack("<I", len(config) + 1) + config + b"\0") + libxl()


CPUID = struct.pack("<6I", 1, 0, 0, 0, 0, 0)
MSR = struct.pack("<IIQ", 0x48, 0, 0)
PARAMS = struct.pack("<IIQQQQ", 2, 0, 1, 3, 17, 2)
STATIC = record(17, CPUID), record(18, MSR), record(16)
MEMORY = page_data(word(0), word(1), word(2), word(3))


def checkpointed() -> bytes:
    """A libxl stream of COLO's: two checkpoints, and what comes between them."""
    return (
        libxl_head()
        + record(streams.LIBXL_LIBXC_CONTEXT)
        + libxc_head(2)
        + record(streams.LIBXC_X86_TSC_INFO, bytes(24))
        + record(streams.LIBXC_CHECKPOINT)
        + record(streams.LIBXL_EMULATOR_CONTEXT, bytes(8) + b"state")
        + record(streams.LIBXL_CHECKPOINT_END)
        + record(streams.LIBXL_CHECKPOINT_STATE, bytes(4))
        + record(streams.LIBXC_X86_PV_VCPU_EXTENDED, bytes(136))
        + record(streams.LIBXC_CHECKPOINT)
        + record(streams.LIBXL_CHECKPOINT_END)
        + record(streams.LIBXC_END)
        + record(streams.LIBXL_END)
    )


def strict_hvm(
    *memory: bytes,
    static: tuple[bytes, ...] = STATIC,
    state: tuple[bytes, ...] = (TSC, CONTEXT, record(10, PARAMS)),
    tail: bytes = b"",
) -> bytes:
    """One with everything that Xen sends, of which the strict view has nothing to say."""
    body = b"".join((*static, *(memory or (MEMORY,)), *state))
    return libxc_head() + body + record(0) + tail


def strict_libxl(*records: bytes, stream: bytes | None = None) -> bytes:
    inner = strict_hvm() if stream is None else stream
    return libxl_head() + record(1) + inner + b"".join(records) + record(0)


GOOD = strict_hvm()
