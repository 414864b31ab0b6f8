"""The bodies of libxc records (streams version 2 and 3), each with `parse` and
`serialise` side by side. Little-endian throughout.

Source: docs/specs/libxc-migration-stream.pandoc and tools/libs/guest/xg_sr_*, 4.6 to
c447b730. Parsing takes apart; it refuses only what cannot be taken apart: a body too
short for its fixed part, or a count that its length contradicts.
"""

from __future__ import annotations

import struct
from array import array
from ctypes import sizeof
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from hvmctx.abi import streams
from hvmctx.errors import LengthError, TruncatedError, UnsupportedError
from hvmctx.stream.pages import bytes_of, length_of, pages_start, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LAYER = "libxc"
MOST_ROWS = 1 << 16
"""Of a list of parameters, leaves or MSRs: Xen's have some hundreds at most."""
_Vcpu = TypeVar("_Vcpu", bound="PvVcpu")


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


def _few(body: bytes | memoryview, size: int, record: str) -> None:
    """For bodies that become Python objects, row by row."""
    if len(body) > MOST_ROWS * size:
        raise LengthError(
            "more entries than any Xen writes", layer=LAYER, offset=0, record=record,
            found=f"{len(body) // size}", expected=f"{MOST_ROWS} at most",
        )  # fmt: skip


@dataclass
class PageData:
    """PAGE_DATA: one word a page (type << 60 | pfn), and behind the words 4096 bytes for
    each word whose type carries data."""

    words: array[int]
    pages: bytes | memoryview = b""
    reserved: int = 0

    @classmethod
    def parse(cls, body: bytes | memoryview) -> PageData:
        """Raises TruncatedError or LengthError where count and length contradict; types
        are not judged."""
        count, reserved = cls.parse_head(body)
        start = pages_start(count)
        if start > len(body):
            raise LengthError(
                "the count says more words than there are", layer=LAYER, offset=0,
                record="PAGE_DATA", found=f"count {count} in {len(body)} bytes",
                expected=f"{(len(body) - streams.PAGE_HEAD_SIZE) // 8} at most",
            )  # fmt: skip
        words = words_of(body[streams.PAGE_HEAD_SIZE : start])
        expected = length_of(count, bytes(body[streams.PAGE_HEAD_SIZE + 7 : start : 8]))
        if len(body) != expected:
            raise LengthError(
                "the page data do not match the words", layer=LAYER, offset=start,
                record="PAGE_DATA", found=f"{len(body)} bytes of body", expected=str(expected),
            )  # fmt: skip
        return cls(words, body[start:], reserved)

    @staticmethod
    def parse_head(body: bytes | memoryview) -> tuple[int, int]:
        """(count, reserved) of the first eight bytes."""
        _need(body, streams.PAGE_HEAD_SIZE, "PAGE_DATA")
        count, reserved = struct.unpack_from("<II", body)
        return count, reserved

    def serialise(self) -> bytes:
        return b"".join(
            (
                streams.pack(
                    "PAGE_DATA", "<II", len(self.words), self.reserved, names="count reserved"
                ),
                bytes_of(self.words),
                self.pages,
            )
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
        levels = self.guest_width, self.pt_levels
        return streams.pack("X86_PV_INFO", "<BB", *levels, names="guest_width pt_levels") + (
            self.reserved
        )


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
        pfns = self.start_pfn, self.end_pfn
        head = streams.pack("X86_PV_P2M_FRAMES", "<II", *pfns, names="start_pfn end_pfn")
        return head + bytes_of(self.frames)


def _as_struct(kind: Any, data: bytes | memoryview, record: str) -> Any:
    _need(data, sizeof(kind), record)
    return kind.from_buffer_copy(data)


def _of_width(kinds: dict[int, Any], guest_width: int, record: str) -> Any:
    if guest_width not in kinds:
        raise UnsupportedError(
            "no width that a guest has", layer=LAYER, offset=0, record=record,
            found=f"{guest_width} bytes", expected="4 or 8",
        )  # fmt: skip
    return kinds[guest_width]


@dataclass
class PvVcpu:
    """What the records of a PV vcpu have in common: u32 vcpu, u32 reserved, then `state`."""

    vcpu: int
    state: bytes | memoryview = field(repr=False)
    reserved: int = 0

    RECORD: ClassVar[str] = "X86_PV_VCPU"

    @classmethod
    def parse(cls: type[_Vcpu], body: bytes | memoryview) -> _Vcpu:
        """Raises TruncatedError below 8 bytes; the state is not looked at."""
        _need(body, 8, cls.RECORD)
        vcpu, reserved = struct.unpack_from("<II", body)
        return cls(vcpu, body[8:], reserved)

    def serialise(self) -> bytes:
        """The body. Raises FieldError for a number of more than 32 bits."""
        head = streams.pack(self.RECORD, "<II", self.vcpu, self.reserved, names="vcpu reserved")
        return head + self.state


@dataclass
class PvVcpuBasic(PvVcpu):
    """X86_PV_VCPU_BASIC: registers and tables."""

    RECORD: ClassVar[str] = "X86_PV_VCPU_BASIC"

    def context(self, guest_width: int) -> Any:
        """The state as `abi.pv.VCPU_CONTEXTS` has it, for a guest with words of 4 or 8
        bytes (`PvInfo.guest_width`): a copy. Raises TruncatedError for a state that is too
        short, UnsupportedError for another width."""
        from hvmctx.abi import pv

        kind = _of_width(pv.VCPU_CONTEXTS, guest_width, self.RECORD)
        return _as_struct(kind, self.state, self.RECORD)


@dataclass
class PvVcpuExtended(PvVcpu):
    """X86_PV_VCPU_EXTENDED: callbacks of 32-bit system calls, machine check banks."""

    RECORD: ClassVar[str] = "X86_PV_VCPU_EXTENDED"

    def context(self) -> Any:
        """The state as `abi.pv.xen_domctl_ext_vcpucontext`: a copy. Raises TruncatedError."""
        from hvmctx.abi.pv import xen_domctl_ext_vcpucontext

        return _as_struct(xen_domctl_ext_vcpucontext, self.state, self.RECORD)


@dataclass
class PvVcpuXsave(PvVcpu):
    """X86_PV_VCPU_XSAVE: u64 xcr0, u64 xcr0_accum, and an xsave image, uncompressed (none,
    or 576 bytes and more)."""

    RECORD: ClassVar[str] = "X86_PV_VCPU_XSAVE"

    @property
    def xcr0(self) -> int:
        """Raises TruncatedError, as the other two."""
        return self._parts()[0]

    @property
    def xcr0_accum(self) -> int:
        return self._parts()[1]

    @property
    def area(self) -> bytes | memoryview:
        return self._parts()[2]

    def _parts(self) -> tuple[int, int, bytes | memoryview]:
        _need(self.state, 16, self.RECORD)
        return *struct.unpack_from("<QQ", self.state), self.state[16:]


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
        _few(body, 16, "X86_PV_VCPU_MSRS")
        vcpu, reserved = struct.unpack_from("<II", body)
        return cls(vcpu, list(struct.iter_unpack("<IIQ", body[8:])), reserved)

    def serialise(self) -> bytes:
        numbers = self.vcpu, self.reserved
        head = streams.pack("X86_PV_VCPU_MSRS", "<II", *numbers, names="vcpu reserved")
        return head + streams.pack_rows(
            "X86_PV_VCPU_MSRS", "<IIQ", self.msrs, "msrs index reserved value"
        )


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

    def head(self, guest_width: int) -> Any:
        """What Xen and the guest agree on, as `abi.pv.SHARED_INFOS` has it: a copy. Raises
        UnsupportedError for a width that is neither 4 nor 8."""
        from hvmctx.abi import pv

        kind = _of_width(pv.SHARED_INFOS, guest_width, "SHARED_INFO")
        return _as_struct(kind, self.page, "SHARED_INFO")


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
        return streams.pack(
            "X86_TSC_INFO", "<IIQII",
            self.mode, self.khz, self.nsec, self.incarnation, self.reserved,
            names="mode khz nsec incarnation reserved",
        )  # fmt: skip


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
        _few(body, 16, "HVM_PARAMS")
        return cls(list(struct.iter_unpack("<QQ", body[8:])), reserved)

    def serialise(self) -> bytes:
        numbers = len(self.params), self.reserved
        head = streams.pack("HVM_PARAMS", "<II", *numbers, names="count reserved")
        return head + streams.pack_rows("HVM_PARAMS", "<QQ", self.params, "params index value")


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
        _few(body, 24, "X86_CPUID_POLICY")
        return cls(list(struct.iter_unpack("<6I", body)))

    def serialise(self) -> bytes:
        return streams.pack_rows(
            "X86_CPUID_POLICY", "<IIIIII", self.leaves, "leaves leaf subleaf eax ebx ecx edx"
        )


@dataclass
class MsrPolicy:
    """X86_MSR_POLICY (4.14+): (index, flags, value) rows."""

    msrs: list[tuple[int, int, int]]

    @classmethod
    def parse(cls, body: bytes | memoryview) -> MsrPolicy:
        _multiple(body, 16, "X86_MSR_POLICY")
        _few(body, 16, "X86_MSR_POLICY")
        return cls(list(struct.iter_unpack("<IIQ", body)))

    def serialise(self) -> bytes:
        return streams.pack_rows("X86_MSR_POLICY", "<IIQ", self.msrs, "msrs index flags value")
