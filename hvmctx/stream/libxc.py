"""The bodies of libxc records (streams version 2 and 3), each with `parse` and
`serialise` side by side. Little-endian throughout.

Source: docs/specs/libxc-migration-stream.pandoc and tools/libs/guest/xg_sr_*, 4.6 to
c447b730. Parsing takes apart; it refuses only what cannot be taken apart: a body too
short for its fixed part, or a count that its length contradicts.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, field
from typing import ClassVar

from hvmctx.abi import streams
from hvmctx.errors import LengthError, TruncatedError
from hvmctx.stream.pages import bytes_of, data_pages, words_of

LAYER = "libxc"


def _need(body: bytes | memoryview, size: int, record: str) -> None:
    if len(body) < size:
        raise TruncatedError(
            "too short", layer=LAYER, offset=0, record=record,
            found=f"{len(body)} bytes", expected=f"{size} at least",
        )  # fmt: skip


def _multiple(body: bytes | memoryview, size: int, record: str, start: int = 0) -> None:
    if (len(body) - start) % size:
        raise LengthError(
            "not a whole number of entries", layer=LAYER, offset=0, record=record,
            found=f"{len(body)} bytes",
            expected=f"{f'{start} + ' if start else ''}a multiple of {size}",
        )  # fmt: skip


_PAGE_HEAD = struct.Struct("<II")


@dataclass
class PageData:
    """PAGE_DATA: one word a page (type << 60 | pfn), and behind the words 4096 bytes for
    each word whose type carries data."""

    words: array[int]
    pages: bytes | memoryview = b""
    reserved: int = 0

    HEAD_SIZE: ClassVar[int] = _PAGE_HEAD.size

    @classmethod
    def parse(cls, body: bytes | memoryview) -> PageData:
        """Raises TruncatedError or LengthError where count and length contradict; types
        are not judged."""
        count, reserved = cls.parse_head(body)
        start = cls.HEAD_SIZE + 8 * count
        if start > len(body):
            raise LengthError(
                "the count says more words than there are", layer=LAYER, offset=0,
                record="PAGE_DATA", found=f"count {count} in {len(body)} bytes",
                expected=f"{(len(body) - cls.HEAD_SIZE) // 8} at most",
            )  # fmt: skip
        words = words_of(body[cls.HEAD_SIZE : start])
        tops = bytes(body[cls.HEAD_SIZE + 7 : start : 8])
        expected = start + streams.PAGE_SIZE * data_pages(tops)
        if len(body) != expected:
            raise LengthError(
                "the page data do not match the words", layer=LAYER, offset=start,
                record="PAGE_DATA", found=f"{len(body)} bytes of body", expected=str(expected),
            )  # fmt: skip
        return cls(words, body[start:], reserved)

    @staticmethod
    def parse_head(body: bytes | memoryview) -> tuple[int, int]:
        """(count, reserved) of the first eight bytes."""
        _need(body, _PAGE_HEAD.size, "PAGE_DATA")
        count, reserved = _PAGE_HEAD.unpack_from(body)
        return count, reserved

    def serialise(self) -> bytes:
        return b"".join(
            (_PAGE_HEAD.pack(len(self.words), self.reserved), bytes_of(self.words), self.pages)
        )


@dataclass
class PvInfo:
    """X86_PV_INFO: guest_width in bytes (4, 8), pt_levels (3, 4)."""

    guest_width: int
    pt_levels: int
    reserved: bytes = bytes(6)

    @classmethod
    def parse(cls, body: bytes | memoryview) -> PvInfo:
        _need(body, 8, "X86_PV_INFO")
        return cls(body[0], body[1], bytes(body[2:]))

    def serialise(self) -> bytes:
        return bytes((self.guest_width, self.pt_levels)) + self.reserved


@dataclass
class PvP2mFrames:
    """X86_PV_P2M_FRAMES: the frames that hold the p2m for pfns start to end, inclusive."""

    start_pfn: int
    end_pfn: int
    frames: array[int]

    @classmethod
    def parse(cls, body: bytes | memoryview) -> PvP2mFrames:
        _need(body, 8, "X86_PV_P2M_FRAMES")
        _multiple(body, 8, "X86_PV_P2M_FRAMES")
        start_pfn, end_pfn = struct.unpack_from("<II", body)
        return cls(start_pfn, end_pfn, words_of(body[8:]))

    def serialise(self) -> bytes:
        return struct.pack("<II", self.start_pfn, self.end_pfn) + bytes_of(self.frames)


@dataclass
class PvVcpu:
    """X86_PV_VCPU_BASIC, _EXTENDED, _XSAVE: a vcpu's opaque state."""

    vcpu: int
    state: bytes | memoryview = field(repr=False)
    reserved: int = 0

    @classmethod
    def parse(cls, body: bytes | memoryview) -> PvVcpu:
        _need(body, 8, "X86_PV_VCPU")
        vcpu, reserved = struct.unpack_from("<II", body)
        return cls(vcpu, body[8:], reserved)

    def serialise(self) -> bytes:
        return struct.pack("<II", self.vcpu, self.reserved) + self.state


@dataclass
class PvVcpuMsrs:
    """X86_PV_VCPU_MSRS: (index, reserved, value) triples."""

    vcpu: int
    msrs: list[tuple[int, int, int]]
    reserved: int = 0

    @classmethod
    def parse(cls, body: bytes | memoryview) -> PvVcpuMsrs:
        _need(body, 8, "X86_PV_VCPU_MSRS")
        _multiple(body, 16, "X86_PV_VCPU_MSRS", 8)
        vcpu, reserved = struct.unpack_from("<II", body)
        return cls(vcpu, list(struct.iter_unpack("<IIQ", body[8:])), reserved)

    def serialise(self) -> bytes:
        head = struct.pack("<II", self.vcpu, self.reserved)
        return head + b"".join(struct.pack("<IIQ", *msr) for msr in self.msrs)


@dataclass
class SharedInfo:
    """SHARED_INFO: the guest's shared page as it was."""

    page: bytes | memoryview = field(repr=False)

    @classmethod
    def parse(cls, body: bytes | memoryview) -> SharedInfo:
        if len(body) != streams.PAGE_SIZE:
            raise LengthError(
                "not one page", layer=LAYER, offset=0, record="SHARED_INFO",
                found=f"{len(body)} bytes", expected=str(streams.PAGE_SIZE),
            )  # fmt: skip
        return cls(body)

    def serialise(self) -> bytes:
        return bytes(self.page)


@dataclass
class TscInfo:
    """X86_TSC_INFO: mode (0 default, 1 always emulate, 2 never emulate), frequency in
    kHz, elapsed time in ns, and how often the guest was restored."""

    mode: int
    khz: int
    nsec: int
    incarnation: int
    reserved: int = 0

    FORMAT: ClassVar[struct.Struct] = struct.Struct("<IIQII")

    @classmethod
    def parse(cls, body: bytes | memoryview) -> TscInfo:
        if len(body) != cls.FORMAT.size:
            raise LengthError(
                "wrong length", layer=LAYER, offset=0, record="X86_TSC_INFO",
                found=f"{len(body)} bytes", expected=str(cls.FORMAT.size),
            )  # fmt: skip
        return cls(*cls.FORMAT.unpack(body))

    def serialise(self) -> bytes:
        return self.FORMAT.pack(self.mode, self.khz, self.nsec, self.incarnation, self.reserved)


@dataclass
class HvmParams:
    """HVM_PARAMS: (index, value) pairs, in stream order; names in `abi.streams`."""

    params: list[tuple[int, int]]
    reserved: int = 0

    @classmethod
    def parse(cls, body: bytes | memoryview) -> HvmParams:
        _need(body, 8, "HVM_PARAMS")
        count, reserved = struct.unpack_from("<II", body)
        if len(body) != 8 + 16 * count:
            raise LengthError(
                "length and count contradict", layer=LAYER, offset=0, record="HVM_PARAMS",
                found=f"count {count} in {len(body)} bytes", expected=f"8 + 16 * {count}",
            )  # fmt: skip
        return cls(list(struct.iter_unpack("<QQ", body[8:])), reserved)

    def serialise(self) -> bytes:
        head = struct.pack("<II", len(self.params), self.reserved)
        return head + b"".join(struct.pack("<QQ", *param) for param in self.params)


@dataclass
class DirtyPfnList:
    """CHECKPOINT_DIRTY_PFN_LIST, from a secondary back to its primary. 4.18 and later
    write eight more bytes before the pfns than the length counts (a leaked pointer), so
    such a list starts with a pfn 0 that is none, and lacks its last."""

    pfns: array[int]

    @classmethod
    def parse(cls, body: bytes | memoryview) -> DirtyPfnList:
        _multiple(body, 8, "CHECKPOINT_DIRTY_PFN_LIST")
        return cls(words_of(body))

    def serialise(self) -> bytes:
        return bytes_of(self.pfns)


@dataclass
class CpuidPolicy:
    """X86_CPUID_POLICY (4.14+): (leaf, subleaf, eax, ebx, ecx, edx) rows. A subleaf of
    all ones means that the leaf has none."""

    leaves: list[tuple[int, int, int, int, int, int]]

    @classmethod
    def parse(cls, body: bytes | memoryview) -> CpuidPolicy:
        _multiple(body, 24, "X86_CPUID_POLICY")
        return cls(list(struct.iter_unpack("<6I", body)))

    def serialise(self) -> bytes:
        return b"".join(struct.pack("<6I", *leaf) for leaf in self.leaves)


@dataclass
class MsrPolicy:
    """X86_MSR_POLICY (4.14+): (index, flags, value) rows."""

    msrs: list[tuple[int, int, int]]

    @classmethod
    def parse(cls, body: bytes | memoryview) -> MsrPolicy:
        _multiple(body, 16, "X86_MSR_POLICY")
        return cls(list(struct.iter_unpack("<IIQ", body)))

    def serialise(self) -> bytes:
        return b"".join(struct.pack("<IIQ", *msr) for msr in self.msrs)
