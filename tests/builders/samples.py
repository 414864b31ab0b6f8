"""The samples in tests/data, and streams and cores built by hand for what no sample has.

Where they come from is in tests/data/README.md.
"""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

from hvmctx.abi import streams
from hvmctx.stream.elf import Note, Segment, head_size, serialise_head, serialise_notes

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT / "tests" / "data"
EXAMPLE = ROOT / "examples" / "hvm1.save"
CONTEXTS = sorted((DATA / "hvmctx").rglob("*.bin"))
STREAMS = sorted((DATA / "streams").glob("*.xc"))
IMAGES = sorted((DATA / "images").glob("*.save"))


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def expected_text(context: Path) -> str:
    """What the genuine xen-hvmctx printed on stdout for a context of tests/data/hvmctx."""
    for suffix in (".stdout.txt", ".txt"):
        text = context.with_name(context.name.removesuffix(".bin") + suffix)
        if text.exists():
            return text.read_text()
    raise AssertionError(f"no text beside {context}")


def release_of(context: Path) -> str:
    """The release whose tool printed it."""
    return context.relative_to(DATA / "hvmctx").parts[0].removeprefix("debian-")


def domid_of(text: str) -> int:
    return int(text.partition("\n")[0].rpartition(" ")[2])


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


def context_bytes() -> bytes:
    """A genuine context of one vcpu: 4112 bytes, 18 records."""
    return (DATA / "images" / "hvm1.hvmctx.bin").read_bytes()


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


def core_of(sizes: list[tuple[int, int, bytes]], notes: list[Note]) -> bytes:
    """(address, size, contents) of each segment."""
    packed = serialise_notes(notes)
    at, segments = head_size(len(sizes), packed), []
    for address, size, contents in sizes:
        segments.append(Segment(address, at, len(contents), size))
        at += len(contents)
    return serialise_head(segments, packed) + b"".join(contents for _, _, contents in sizes)
