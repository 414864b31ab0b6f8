"""The bodies of libxc records (streams version 2 and 3), each declared once: see `stream.body`.

Source: docs/specs/libxc-migration-stream.pandoc and tools/libs/guest/xg_sr_*, 4.6 to
c447b730.
"""

from __future__ import annotations

from ctypes import c_uint8, sizeof

from hvmctx.abi import streams
from hvmctx.abi.bodies import cpuid_leaf, hvm_param, policy_msr, vcpu_msr, vcpu_xsave
from hvmctx.abi.declare import SaveStructure
from hvmctx.abi.streams import LIBXC
from hvmctx.errors import LengthError, UnsupportedError
from hvmctx.limits import DEFAULT
from hvmctx.stream.body import Body, Bytes, Rows, WordArray, Words, u8, u32, u64
from hvmctx.stream.pages import length_of, pages_start, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Annotated, TypeVar

    from hvmctx.abi import pv
    from hvmctx.limits import Limits

    _Kind = TypeVar("_Kind", bound=SaveStructure)
    _T = TypeVar("_T")

__all__ = [
    "CpuidPolicy", "DirtyPfnList", "HvmParams", "MsrPolicy", "PageData", "PvInfo", "PvP2mFrames",
    "PvVcpu", "PvVcpuBasic", "PvVcpuExtended", "PvVcpuMsrs", "PvVcpuXsave", "SharedInfo",
    "TscInfo",
]  # fmt: skip


class PageData(Body, layer=LIBXC, number=streams.LIBXC_PAGE_DATA, head=streams.PAGE_DATA_HEAD):
    """PAGE_DATA: one word a page (type << 60 | pfn), and after the words 4096 bytes for
    each word whose type carries data."""

    words: Annotated[WordArray, Words(count="count")]
    pages: Annotated[bytes | memoryview, Bytes()] = b""
    reserved: u32 = 0

    @classmethod
    def from_bytes(cls, body: bytes | memoryview, limits: Limits = DEFAULT) -> PageData:
        """Raises TruncatedError or LengthError where count and length do not match; types
        are not judged."""
        count, reserved = cls.parse_head(body)
        start, size = pages_start(count), streams.PAGE_DATA_HEAD.size
        if start > len(body):
            raise LengthError(
                "more words counted than there are", layer=LIBXC, offset=0,
                record="PAGE_DATA", found=f"count {count} in {len(body)} bytes",
                expected=f"{(len(body) - size) // Words.element} at most",
            )  # fmt: skip
        expected = length_of(count, bytes(body[size + 7 : start : Words.element]))
        if len(body) != expected:
            raise LengthError(
                "the page data do not match the words", layer=LIBXC, offset=start,
                record="PAGE_DATA", found=f"{len(body)} bytes of body", expected=str(expected),
            )  # fmt: skip
        return cls(words_of(body[size:start]), body[start:], reserved)

    @classmethod
    def parse_head(cls, body: bytes | memoryview) -> tuple[int, int]:
        """(count, reserved) of the first eight bytes."""
        cls.TYPE.need(body, streams.PAGE_DATA_HEAD.size)
        count, reserved = streams.PAGE_DATA_HEAD.unpack_from(body)
        return count, reserved


class PvInfo(Body, layer=LIBXC, number=streams.LIBXC_X86_PV_INFO):
    """X86_PV_INFO: guest_width in bytes (4, 8), pt_levels (3, 4)."""

    guest_width: u8
    pt_levels: u8
    reserved: Annotated[bytes | memoryview, Bytes(least=6)] = bytes(6)


class PvP2mFrames(Body, layer=LIBXC, number=streams.LIBXC_X86_PV_P2M_FRAMES):
    """X86_PV_P2M_FRAMES: the frames that hold the p2m for pfns start to end, inclusive."""

    start_pfn: u32
    end_pfn: u32
    frames: Annotated[WordArray, Words()]


def _of_width(kinds: dict[int, _T], guest_width: int, record: str) -> _T:
    if guest_width not in kinds:
        raise UnsupportedError(
            "unknown guest width", layer=LIBXC, offset=0, record=record,
            found=f"{guest_width} bytes", expected="4 or 8",
        )  # fmt: skip
    return kinds[guest_width]


class PvVcpu(Body, layer=LIBXC, name="X86_PV_VCPU"):
    """What the records of a PV vcpu have in common: its number, then its state, which is not
    looked at."""

    vcpu: u32
    state: Annotated[bytes | memoryview, Bytes()]
    reserved: u32 = 0

    def state_as(self, kind: type[_Kind]) -> _Kind:
        """The state as a ctypes structure: a copy. Raises TruncatedError for one that is too
        short."""
        self.TYPE.need(self.state, sizeof(kind))
        return kind.from_buffer_copy(self.state)


class PvVcpuBasic(PvVcpu, layer=LIBXC, number=streams.LIBXC_X86_PV_VCPU_BASIC):
    """X86_PV_VCPU_BASIC: registers and tables."""

    def context(
        self, guest_width: int
    ) -> pv.vcpu_guest_context_x86_64 | pv.vcpu_guest_context_x86_32:
        """The state as `abi.pv.VCPU_CONTEXTS` has it, for a guest with words of 4 or 8
        bytes (`PvInfo.guest_width`): a copy. Raises TruncatedError for a state that is too
        short, UnsupportedError for another width."""
        from hvmctx.abi import pv

        return self.state_as(_of_width(pv.VCPU_CONTEXTS, guest_width, self.TYPE.name))


class PvVcpuExtended(PvVcpu, layer=LIBXC, number=streams.LIBXC_X86_PV_VCPU_EXTENDED):
    """X86_PV_VCPU_EXTENDED: callbacks of 32-bit system calls, machine check banks."""

    def context(self) -> pv.xen_domctl_ext_vcpucontext:
        """The state as `abi.pv.xen_domctl_ext_vcpucontext`: a copy. Raises TruncatedError."""
        from hvmctx.abi.pv import xen_domctl_ext_vcpucontext

        return self.state_as(xen_domctl_ext_vcpucontext)


class PvVcpuXsave(PvVcpu, layer=LIBXC, number=streams.LIBXC_X86_PV_VCPU_XSAVE):
    """X86_PV_VCPU_XSAVE: u64 xcr0, u64 xcr0_accum, and an xsave image, uncompressed (none,
    or 576 bytes and more)."""

    @property
    def xcr0(self) -> int:
        """Raises TruncatedError, as the other two."""
        mask: int = self.state_as(vcpu_xsave).xcr0
        return mask

    @property
    def xcr0_accum(self) -> int:
        mask: int = self.state_as(vcpu_xsave).xcr0_accum
        return mask

    @property
    def area(self) -> bytes | memoryview:
        self.TYPE.need(self.state, sizeof(vcpu_xsave))
        return self.state[sizeof(vcpu_xsave) :]


class PvVcpuMsrs(Body, layer=LIBXC, number=streams.LIBXC_X86_PV_VCPU_MSRS):
    """X86_PV_VCPU_MSRS: rows of `vcpu_msr`."""

    vcpu: u32
    msrs: Annotated[list[tuple[int, int, int]], Rows(vcpu_msr)]
    reserved: u32 = 0


class SharedInfo(Body, layer=LIBXC, number=streams.LIBXC_SHARED_INFO):
    """SHARED_INFO: the guest's shared page as it was."""

    page: Annotated[bytes | memoryview, c_uint8 * streams.PAGE_SIZE]

    def head(self, guest_width: int) -> pv.shared_info_x86_64 | pv.shared_info_x86_32:
        """What Xen and the guest agree on, as `abi.pv.SHARED_INFOS` has it: a copy. Raises
        UnsupportedError for a width that is neither 4 nor 8."""
        from hvmctx.abi import pv

        kind = _of_width(pv.SHARED_INFOS, guest_width, self.TYPE.name)
        return kind.from_buffer_copy(self.page)


class TscInfo(Body, layer=LIBXC, number=streams.LIBXC_X86_TSC_INFO):
    """X86_TSC_INFO: mode (0 default, 1 always emulate, 2 never emulate), frequency in
    kHz, elapsed time in ns, and how often the guest was restored."""

    mode: u32
    khz: u32
    nsec: u64
    incarnation: u32
    reserved: u32 = 0


class HvmParams(Body, layer=LIBXC, number=streams.LIBXC_HVM_PARAMS):
    """HVM_PARAMS: rows of `hvm_param`, in stream order."""

    params: Annotated[list[tuple[int, int]], Rows(hvm_param, count="count")]
    reserved: u32 = 0


class DirtyPfnList(Body, layer=LIBXC, number=streams.LIBXC_CHECKPOINT_DIRTY_PFN_LIST):
    """CHECKPOINT_DIRTY_PFN_LIST, from a secondary back to its primary. 4.18 and later
    write eight more bytes before the pfns than the length counts (a leaked pointer), so
    such a list starts with a pfn 0 that is not one, and lacks its last."""

    pfns: Annotated[WordArray, Words()]


class CpuidPolicy(Body, layer=LIBXC, number=streams.LIBXC_X86_CPUID_POLICY):
    """X86_CPUID_POLICY (4.14+): rows of `cpuid_leaf`."""

    leaves: Annotated[list[tuple[int, int, int, int, int, int]], Rows(cpuid_leaf)]


class MsrPolicy(Body, layer=LIBXC, number=streams.LIBXC_X86_MSR_POLICY):
    """X86_MSR_POLICY (4.14+): rows of `policy_msr`."""

    msrs: Annotated[list[tuple[int, int, int]], Rows(policy_msr)]
