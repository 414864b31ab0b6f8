"""The stream of Xen 4.5 and older, taken apart: `LegacyReader`.

It has no magic and no version. Little-endian; a "long" has 4 or 8 bytes, as the sending
toolstack was built (`stream.detect.legacy_width` tells). Source: tools/libxc/xg_save_restore.h
and xc_domain_save.c of 4.5, and what the genuine converter takes.

    long p2m_size; PV: extended info, p2m frame list; chunks up to one of id 0; then the
    tail: HVM: three pfns, the context, the device model's record; PV: vcpus, shared info.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, field

from hvmctx.abi import streams
from hvmctx.errors import FormatError, LengthError, TruncatedError, UnsupportedError
from hvmctx.stream.libxc import TscInfo
from hvmctx.stream.pages import words_of
from hvmctx.stream.reader import LEGACY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvmctx.files.source import Source

__all__ = [
    "CHUNKS", "FILE_TAIL", "MAX_BATCH", "MAX_VCPU_ID", "PARAM_CHUNKS", "RECORD_TAIL",
    "SIGNATURES", "XAPI_TAIL", "Batch", "DeviceModel", "ExtendedInfo", "Frames", "HvmTail",
    "Item", "LegacyReader", "Param", "SharedPage", "Toolstack", "VcpuState",
]  # fmt: skip

MAX_BATCH = 1024
MAX_VCPU_ID = 4095
_ABSENT = 0xF0000000
_EXTENDED_VCPU = 128

PARAM_CHUNKS = {
    -3: streams.HVM_PARAM_IDENT_PT,
    -4: streams.HVM_PARAM_VM86_TSS,
    -8: streams.HVM_PARAM_CONSOLE_PFN,
    -10: streams.HVM_PARAM_ACPI_IOPORTS_LOCATION,
    -11: streams.HVM_PARAM_VIRIDIAN,
    -14: streams.HVM_PARAM_VM_GENERATION_ID_ADDR,
    -15: streams.HVM_PARAM_PAGING_RING_PFN,
    -16: streams.HVM_PARAM_MONITOR_RING_PFN,
    -17: streams.HVM_PARAM_SHARING_RING_PFN,
    -19: streams.HVM_PARAM_IOREQ_SERVER_PFN,
    -20: streams.HVM_PARAM_NR_IOREQ_SERVER_PAGES,
    -21: streams.HVM_PARAM_X87_FIP_WIDTH,
}
"""Chunks that carry an HVM parameter: id -> its index. -21 (X87_FIP_WIDTH) came with the
last releases of 4.5; the genuine converter does not know it."""
CHUNKS = {
    0: "end", -1: "verify", -2: "vcpu info", -5: "tmem", -6: "tmem extra", -7: "TSC info",
    -9: "last checkpoint", -12: "compressed data", -13: "enable compression", -18: "toolstack",
}  # fmt: skip
_GIVEN_UP = (-5, -6, -12, -13)

SIGNATURES = (b"DeviceModelRecord0002", b"RemusDeviceModelState", b"QemuDeviceModelRecord")
"""What stands before the device model's state. After the first two a length, after the
third everything up to the end of the file."""
_SIGNATURE_SIZE = 21
FILE_TAIL, XAPI_TAIL, RECORD_TAIL = range(3)
"""What follows an HVM guest's context: the device model's record up to the end of the file; the
one of XAPI's legacy images, with a length; one of those with a length, or none, and then records
of XAPI's."""


@dataclass
class ExtendedInfo:
    """A PV guest's extended info: bytes of a vcpu's context (it tells the guest's word: 0x1430 of
    64 bits, 0xaf0 of 32), whether extended contexts follow, bytes of an xsave record."""

    basic_size: int = 0
    extended: bool = False
    xsave_size: int = 0

    @property
    def width(self) -> int:
        """Bytes of the guest's long."""
        return 8 if self.basic_size == 0x1430 else 4


@dataclass
class Batch:
    """Pages: pfn and type of each (type << 60 | pfn, absent ones left out), and the contents
    of those that have any. `count` is what the chunk said, absent ones included."""

    words: array[int]
    pages: bytes | memoryview
    count: int


@dataclass
class Param:
    """An HVM parameter."""

    index: int
    value: int


@dataclass
class Toolstack:
    """libxl's record of the device model's memory: what becomes xenstore keys."""

    pairs: list[tuple[bytes, bytes]] = field(default_factory=list)


@dataclass
class VcpuState:
    """A vcpu's state: basic context, extended context, xsave; empty where there is none."""

    vcpu: int
    basic: bytes
    extended: bytes
    xsave: bytes


@dataclass
class Frames:
    """The frames that hold a PV guest's p2m."""

    pfns: array[int]


@dataclass
class HvmTail:
    """IOREQ_PFN, BUFIOREQ_PFN, STORE_PFN, and the HVM context."""

    ioreq: int
    bufioreq: int
    store: int
    context: bytes | memoryview


@dataclass
class DeviceModel:
    """The device model's state, and the signature before it."""

    signature: bytes
    data: bytes | memoryview


@dataclass
class SharedPage:
    """The shared info page of a PV guest, as it was."""

    data: bytes


Item = (
    ExtendedInfo | Frames | Batch | TscInfo | Param | Toolstack | VcpuState | SharedPage | HvmTail
    | DeviceModel
)  # fmt: skip


class LegacyReader:
    """Reads a source forwards. `width` is 8 or 4, `pv` the kind of guest, `tail` what follows.

    `items` are, in the stream's order: PV: ExtendedInfo, Frames; then what the chunks hold;
    then PV: VcpuState ..., SharedPage; HVM: HvmTail, DeviceModel (if there is one).
    """

    def __init__(self, source: Source, width: int, pv: bool, tail: int = FILE_TAIL) -> None:
        self._tail = tail
        self._source = source
        self._width = width
        self._pv = pv
        self._what = "p2m size"
        self.p2m_size = 0
        self._info = ExtendedInfo()
        self._online: list[int] = []

    def items(self) -> Iterator[Item]:
        """Raises FormatError."""
        (self.p2m_size,) = self._longs(1)
        if self._pv:
            self._what = "extended info"
            self._info = self._extended_info()
            yield self._info
            self._what = "p2m frame list"
            per_page = streams.PAGE_SIZE // self._info.width
            yield Frames(self._longs((self.p2m_size - 1) // per_page + 1 if self.p2m_size else 0))
        yield from self._chunks()
        if self._pv:
            yield from self._pv_tail()
        else:
            yield from self._hvm_tail()

    def _wrong(
        self, problem: str, found: str, expected: str, kind: type[FormatError] = FormatError
    ) -> FormatError:
        return kind(
            problem, layer=LEGACY, offset=self._source.position, record=self._what, found=found,
            expected=expected,
        )  # fmt: skip

    def _bytes(self, count: int) -> bytes | memoryview:
        data = self._source.read(count)
        if len(data) < count:
            raise self._wrong("the stream ends", f"{len(data)} bytes", str(count), TruncatedError)
        return data

    def _blob(self, count: int) -> bytes | memoryview:
        if count > self._source.limits.legacy_part:
            raise self._too_long()
        return self._bytes(count)

    def _too_long(self) -> FormatError:
        return self._source.limits.over(
            "legacy_part", "bytes", layer=LEGACY, offset=self._source.position, record=self._what
        )

    def _unpack(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self._bytes(struct.calcsize(layout)))

    def _longs(self, count: int) -> array[int]:
        data = self._blob(count * self._width)
        if self._width == 8:
            return words_of(data)
        return array("Q", (value for (value,) in struct.iter_unpack("<I", data)))

    def _extended_info(self) -> ExtendedInfo:
        (mark,) = self._longs(1)
        if mark != (1 << 8 * self._width) - 1:
            raise self._wrong("extended info is missing", f"{mark:#x}", "all ones")
        (total,) = self._unpack("<I")
        info, so_far = ExtendedInfo(), 0
        while so_far < total:
            name = bytes(self._bytes(4))
            (size,) = self._unpack("<I")
            data = bytes(self._blob(size))
            so_far += 8 + size
            if name == b"vcpu":
                if size not in (0x1430, 0xAF0):
                    raise self._wrong(
                        "unknown size of a vcpu's context", f"{size:#x}", "0x1430 or 0xaf0"
                    )
                info.basic_size = size
            elif name == b"extv":
                info.extended = True
            elif name == b"xcnt" and size >= 4:
                info.xsave_size = int.from_bytes(data[:4], "little")
            else:
                raise self._wrong("unknown block", repr(name), "vcpu, extv or xcnt")
        if so_far != total:
            raise self._wrong(
                "the blocks are longer than their total", f"{so_far} bytes", str(total)
            )
        if not info.basic_size:
            raise self._wrong("no vcpu block", "none", "one")
        return info

    def _chunks(self) -> Iterator[Item]:
        while True:
            self._what = "chunk"
            (number,) = self._unpack("<i")
            self._what = "page batch" if number > 0 else CHUNKS.get(number, f"chunk {number}")
            if number == 0:
                return
            if number > 0:
                yield self._batch(number)
            elif number in PARAM_CHUNKS:
                if self._pv:
                    raise self._wrong("an HVM parameter in a PV stream", str(number), "none")
                _, value = self._unpack("<IQ")
                yield Param(PARAM_CHUNKS[number], value)
            elif number == -2:
                self._vcpu_info()
            elif number == -7:
                mode, elapsed, frequency, times = self._unpack("<IQII")
                yield TscInfo(mode, frequency, elapsed, times)
            elif number == -18:
                (size,) = self._unpack("<I")
                if size:
                    yield self._toolstack(bytes(self._blob(size)))
            elif number in _GIVEN_UP:
                raise self._wrong(
                    "cannot be converted; the genuine converter stops here, too", str(number),
                    "a stream without tmem and compression", UnsupportedError,
                )  # fmt: skip
            elif number not in (-1, -9):
                raise self._wrong("unknown chunk", str(number), "one of Xen 4.5 or older")

    def _batch(self, count: int) -> Batch:
        if count > MAX_BATCH:
            raise self._wrong("too many pages", str(count), f"{MAX_BATCH} at most", LengthError)
        words = array(
            "Q",
            [
                (word >> 28 & 0xF) << streams.PAGE_TYPE_SHIFT | word & 0x0FFFFFFF
                for word in self._longs(count)
                if word != _ABSENT
            ],
        )
        if len(set(words)) != len(words):
            raise self._wrong("a page occurs twice in one batch", f"{count} pages", "each once")
        with_data = sum(word >> streams.PAGE_TYPE_SHIFT < streams.PAGE_BROKEN for word in words)
        return Batch(words, self._bytes(with_data * streams.PAGE_SIZE), count)

    def _vcpu_info(self) -> None:
        (largest,) = self._unpack("<i")
        if not 0 <= largest <= MAX_VCPU_ID:
            raise self._wrong("vcpu id out of range", str(largest), f"0 to {MAX_VCPU_ID}")
        for number, word in enumerate(self._unpack(f"<{largest // 64 + 1}Q")):
            self._online += [64 * number + bit for bit in range(64) if word >> bit & 1]

    def _toolstack(self, data: bytes) -> Toolstack:
        """Version 1; a 64-bit sender leaks four bytes after each name."""
        version, count = struct.unpack_from("<II", data.ljust(8, b"\0"))
        if len(data) < 8 or version != 1:
            raise self._wrong("unknown version", f"{version} in {len(data)} bytes", "1")
        found, at = Toolstack(), 8
        for _ in range(count):
            if at + 28 > len(data):
                raise self._wrong("an entry is truncated", f"{len(data) - at} bytes", "28 at least")
            phys, start, size, name_size = struct.unpack_from("<QQQI", data, at)
            name = data[at + 28 : at + 28 + name_size]
            at += 28 + name_size + (4 if self._width == 8 else 0)
            if not name or at > len(data) or name[-1]:
                raise self._wrong("a name is not terminated", repr(name[:40]), "a NUL at its end")
            key = f"physmap/{phys:x}".encode()
            found.pairs += [
                (key + b"/start_addr", b"%x" % start),
                (key + b"/size", b"%x" % size),
                (key + b"/name", name[:-1]),
            ]
        return found

    def _hvm_tail(self) -> Iterator[Item]:
        self._what = "HVM tail"
        ioreq, bufioreq, store = self._unpack("<QQQ")
        (size,) = self._unpack("<I")
        self._what = "HVM context"
        yield HvmTail(ioreq, bufioreq, store, self._blob(size))
        self._what = "device model"
        head = self._source.peek(_SIGNATURE_SIZE)
        if not head or (self._tail == RECORD_TAIL and head not in SIGNATURES[:2]):
            return
        if self._tail == XAPI_TAIL:
            yield self._xapi_model()
            return
        signature = bytes(self._bytes(_SIGNATURE_SIZE))
        if signature not in SIGNATURES:
            raise self._wrong(
                "unknown signature", repr(signature), SIGNATURES[0].decode(), UnsupportedError
            )
        if signature == SIGNATURES[2]:
            most = self._source.limits.legacy_part
            data = self._source.read(most + 1)
            if len(data) > most:
                raise self._too_long()
            yield DeviceModel(signature, data)
            return
        (size,) = self._unpack("<I")
        yield DeviceModel(signature, self._blob(size))

    def _xapi_model(self) -> DeviceModel:
        expected = streams.XAPI_QEMU_SIGNATURE
        signature = bytes(self._bytes(len(expected)))
        if signature != expected:
            raise self._wrong("unknown signature", repr(signature), repr(expected))
        (size,) = self._unpack(">I")
        return DeviceModel(SIGNATURES[2], self._blob(size))

    def _pv_tail(self) -> Iterator[Item]:
        self._what = "unmapped pfns"
        (unmapped,) = self._unpack("<I")
        size = unmapped * self._width
        if self._source.skip(size) < size:
            raise self._wrong("the stream ends", "nothing more", f"{unmapped} pfns", TruncatedError)
        info = self._info
        for vcpu in self._online:
            self._what = f"vcpu {vcpu}"
            basic = bytes(self._bytes(info.basic_size))
            extended = bytes(self._bytes(_EXTENDED_VCPU)) if info.extended else b""
            xsave = b""
            if info.xsave_size:
                _, size = self._unpack("<QQ")
                if size != info.xsave_size - 16:
                    raise self._wrong(
                        "wrong size of the xsave state", str(size), str(info.xsave_size - 16)
                    )
                xsave = bytes(self._blob(size))
            yield VcpuState(vcpu, basic, extended, xsave)
        self._what = "shared info"
        yield SharedPage(bytes(self._bytes(streams.PAGE_SIZE)))
