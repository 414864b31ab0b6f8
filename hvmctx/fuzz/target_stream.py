"""The target `stream`: any bytes as a libxc stream, from a file and from a pipe."""

from __future__ import annotations

import io
import struct
from itertools import product

from hvmctx.abi import streams
from hvmctx.abi.releases import Release
from hvmctx.errors import HvmctxError
from hvmctx.files.opening import is_compressed
from hvmctx.fuzz.streams import mutate_stream, valid_stream
from hvmctx.fuzz.target import Target, choose
from hvmctx.stream.writer import StreamWriter
from hvmctx.verify.registry import rules
from hvmctx.verify.views import VIEWS, verify

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random

__all__ = ["STREAM", "mutated", "stream_seeds"]

_SEEKABLE_ONLY = ("verify-mismatch", "verify-unchecked")
"""Findings that need a second look at the pages, which a pipe does not allow."""


class _Pipe(io.RawIOBase):
    """Bytes that can be read only once, a little at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        part = self._data[: min(len(buffer), 5000)]
        buffer[: len(part)] = part
        self._data = self._data[len(part) :]
        return len(part)


_CASES = tuple(product(VIEWS, (Release("4.5"), Release("4.17"), Release("newest"))))


def _run(data: bytes) -> set[str]:
    """One of the views, for one release, has findings within the input or raises an
    HvmctxError, the same for a pipe as for a file."""
    if is_compressed(data):  # another format, then
        return set()
    view, release = choose(data, _CASES)
    reached = set()
    try:
        found = verify(data, view, releases=[release], layer="libxc")
    except HvmctxError as error:
        found = []
        reached.add(type(error).__name__)
    for finding in found:
        assert 0 <= finding.offset <= len(data), finding
        reached.add(finding.rule)
    try:
        piped = verify(_Pipe(data), view, releases=[release], layer="libxc")
    except HvmctxError:
        piped = []
    reached.update(finding.rule for finding in piped)
    same = [str(finding) for finding in found if finding.rule not in _SEEKABLE_ONLY]
    assert [str(f) for f in piped if f.rule not in _SEEKABLE_ONLY] == same
    return reached


_KNOWN = {
    rule.id for view in VIEWS for rule in rules(view, "libxc")
} - {"stream-v2", "libxc-version", "scattered"}  # fmt: skip


def stream_seeds(rng: random.Random) -> list[bytes]:
    """Streams of HVM guests and of a PV guest, for every target that takes streams."""
    return [valid_stream(rng) for _ in range(3)] + [valid_stream(rng, 2), _pv_stream()]


def _pv_stream() -> bytes:
    """The stream of a PV guest, with every record once."""
    writer = StreamWriter("libxc")
    out = [writer.image_header(), writer.domain_header(streams.GUEST_X86_PV, (4, 17))]
    vcpu = bytes(8)
    for number, body in (
        (streams.LIBXC_X86_PV_INFO, b"\x08\4" + bytes(6)),
        (streams.LIBXC_X86_CPUID_POLICY, bytes(24)),
        (streams.LIBXC_X86_MSR_POLICY, bytes(16)),
        (streams.LIBXC_STATIC_DATA_END, b""),
        (streams.LIBXC_X86_PV_P2M_FRAMES, struct.pack("<IIQ", 0, 15, 7)),
        (streams.LIBXC_PAGE_DATA, struct.pack("<IIQ", 1, 0, 3) + bytes(4096)),
        (streams.LIBXC_X86_TSC_INFO, bytes(24)),
        (streams.LIBXC_SHARED_INFO, bytes(4096)),
        (streams.LIBXC_X86_PV_VCPU_BASIC, vcpu + bytes(5168)),
        (streams.LIBXC_X86_PV_VCPU_EXTENDED, vcpu + bytes(64)),
        (streams.LIBXC_X86_PV_VCPU_XSAVE, vcpu + bytes(16)),
        (streams.LIBXC_X86_PV_VCPU_MSRS, vcpu + bytes(16)),
        (streams.LIBXC_END, b""),
    ):
        out.append(writer.record(number, body))
    return b"".join(out)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """An edit of a libxc stream."""
    return mutate_stream(data, rng, "libxc")[0]


STREAM = Target("stream", _run, _KNOWN, stream_seeds, mutated)
