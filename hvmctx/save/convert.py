"""Streams of Xen 4.5 and older, as libxl v2 and libxc v3 streams: what the genuine
convert-legacy-stream writes, byte for byte.

It differs on purpose, where that one fails or writes what no restore takes: xl-wrapped
files are converted, chunk -21 is understood, the other two device model records are taken,
and a batch of absent pages only is left out (docs/differences.md).
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.errors import TruncatedError, UnsupportedError, UsageError
from hvmctx.files.copying import copy
from hvmctx.files.opening import open_source
from hvmctx.files.source import Source
from hvmctx.image.indexing import walk
from hvmctx.stream import legacy
from hvmctx.stream.detect import ENOUGH, detect, legacy_width
from hvmctx.stream.legacy import LegacyReader
from hvmctx.stream.libxc import HvmParams, PageData, PvInfo, PvP2mFrames, PvVcpu, TscInfo
from hvmctx.stream.libxl import EmulatorContext, EmulatorXenstoreData
from hvmctx.stream.reader import LEGACY, LIBXC, LIBXL, XL, Header, StreamReader
from hvmctx.stream.writer import StreamWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

    from hvmctx.files.opening import Target
    from hvmctx.limits import Limits

__all__ = ["CONVERTED_BY", "Converted", "convert"]

CONVERTED_BY = (0, 1)
"""The Xen version that says that a stream was converted: major 0, minor the converter's."""
_UNKNOWN_EMULATOR = 0


class Converted:
    """What a conversion did: pages, of which some had contents, and what was left out."""

    __slots__ = ("absent", "pages", "with_data")

    def __init__(self) -> None:
        self.pages = 0
        self.with_data = 0
        self.absent = 0


def convert(
    target: Target,
    out: BinaryIO,
    *,
    format: str = LIBXL,
    width: int | None = None,
    pv: bool | None = None,
    device_model: bool = True,
    limits: Limits | None = None,
) -> Converted:
    """Write a legacy stream, bare or in an xl file, as `format` (libxl or libxc) to `out`.

    `width` (bytes of the sender's long: 8 or 4) and `pv` are detected unless they are given;
    a stream of a given `width` need not look like a legacy one. Without `device_model` the
    record of the device model, which is the last, is left out. An xl file stays an xl file,
    so that the stream in it is libxl's. `limits` are as for `open_image`.

    Raises UnsupportedError for anything but a legacy stream, FormatError for a damaged one,
    UsageError for an xl file as libxc.
    """
    if format not in (LIBXL, LIBXC):
        raise UsageError(f"a legacy stream can become libxl or libxc, not {format!r}")
    with open_source(target, limits) as source:
        head = source.peek(ENOUGH)
        if not head:
            source.raise_trouble()
        wrapped = detect(head) == XL
        if wrapped:
            if format != LIBXL:
                raise UsageError("an xl file holds a libxl stream")
            _xl_header(source, out)
        reader = LegacyReader(source, *_recognise(source, width, pv))
        done = _Conversion(reader, out, format, device_model).run()
        source.raise_trouble()
        return done


def _xl_header(source: Source, out: BinaryIO) -> None:
    header = next(walk(source, StreamReader(XL)))
    assert isinstance(header, Header)  # which is what an xl file starts with
    fields = dict(header.fields)
    if fields["mandatory_flags"] & streams.XL_FLAG_STREAM_V2:
        raise _no_legacy("an xl file with a stream of Xen 4.6 or newer")
    fields["mandatory_flags"] |= streams.XL_FLAG_STREAM_V2
    out.write(streams.XL_MAGIC + streams.XL_HEADER.encode(fields))
    copied = copy(source, header.length, out)
    if copied < header.length:
        raise TruncatedError(
            "the input ends", layer=XL, offset=source.position, record="optional data",
            found=f"{copied} bytes", expected=str(header.length),
        )  # fmt: skip


def _recognise(source: Source, width: int | None, pv: bool | None) -> tuple[int, bool]:
    """The width and kind of guest: those given, which count for more than what the start
    of the stream looks like, and those that it tells. A stream with a magic of its own is
    no legacy one, whatever is given."""
    head = source.peek(ENOUGH)
    found = detect(head)
    if found in (XL, LIBXL, LIBXC) or (width is None and found != LEGACY):
        raise _no_legacy(head[:16].hex(" ") or "nothing")
    width = width or legacy_width(head)
    return width, head[width : 2 * width] == b"\xff" * width if pv is None else pv


def _no_legacy(found: str) -> UnsupportedError:
    return UnsupportedError(
        "not a legacy stream", layer=LEGACY, offset=0, found=found,
        expected="a stream of Xen 4.5 or older",
    )  # fmt: skip


class _Conversion:
    def __init__(
        self, reader: LegacyReader, out: BinaryIO, format: str, device_model: bool
    ) -> None:
        self._device_model = device_model
        self._reader = reader
        self._out = out
        self._format = format
        self._writer = StreamWriter(format)
        self._params: list[tuple[int, int]] = []
        self._pairs: list[tuple[bytes, bytes]] = []
        self._started = False
        self._done = Converted()

    def run(self) -> Converted:
        for item in self._reader.items():
            self._start(isinstance(item, legacy.ExtendedInfo))
            _WRITERS[type(item)](self, item)
        if self._format == LIBXL:
            self._record(streams.LIBXL_END)
        return self._done

    def _record(self, number: int, body: bytes | memoryview = b"") -> None:
        head, padding = self._writer.record_around(number, len(body))
        for piece in (head, body, padding):
            self._out.write(piece)

    def _start(self, pv: bool) -> None:
        """The headers, once what comes first is there; the static data end after a PV
        guest's width."""
        if self._started:
            return
        self._started = True
        writer = self._writer
        if self._format == LIBXL:
            self._out.write(writer.libxl_header(streams.LIBXL_OPTION_LEGACY))
            self._record(streams.LIBXL_LIBXC_CONTEXT)
        guest = streams.GUEST_X86_PV if pv else streams.GUEST_X86_HVM
        self._out.write(writer.image_header() + writer.domain_header(guest, CONVERTED_BY))
        if not pv:
            self._record(streams.LIBXC_STATIC_DATA_END)

    def _extended_info(self, item: legacy.ExtendedInfo) -> None:
        info = PvInfo(item.width, 4 if item.width == 8 else 3)
        self._record(streams.LIBXC_X86_PV_INFO, info.to_bytes())
        self._record(streams.LIBXC_STATIC_DATA_END)

    def _frames(self, item: legacy.Frames) -> None:
        frames = PvP2mFrames(0, self._reader.p2m_size - 1 & 0xFFFFFFFF, item.pfns)
        self._record(streams.LIBXC_X86_PV_P2M_FRAMES, frames.to_bytes())

    def _batch(self, item: legacy.Batch) -> None:
        done = self._done
        done.pages += len(item.words)
        done.with_data += len(item.pages) // streams.PAGE_SIZE
        done.absent += item.count - len(item.words)
        if not item.words:
            return
        body = PageData(item.words).to_bytes()  # the pages are not joined to it, for speed
        head, _ = self._writer.record_around(streams.LIBXC_PAGE_DATA, len(body) + len(item.pages))
        self._out.write(head + body)
        self._out.write(item.pages)

    def _tsc(self, item: TscInfo) -> None:
        self._record(streams.LIBXC_X86_TSC_INFO, item.to_bytes())

    def _param(self, item: legacy.Param) -> None:
        self._params.append((item.index, item.value))

    def _toolstack(self, item: legacy.Toolstack) -> None:
        self._pairs += item.pairs

    def _hvm_tail(self, item: legacy.HvmTail) -> None:
        if self._params:
            self._record(streams.LIBXC_HVM_PARAMS, HvmParams(self._params).to_bytes())
        tail = [
            (streams.HVM_PARAM_IOREQ_PFN, item.ioreq),
            (streams.HVM_PARAM_BUFIOREQ_PFN, item.bufioreq),
            (streams.HVM_PARAM_STORE_PFN, item.store),
        ]
        self._record(streams.LIBXC_HVM_PARAMS, HvmParams(tail).to_bytes())
        self._record(streams.LIBXC_HVM_CONTEXT, item.context)
        self._record(streams.LIBXC_END)
        if self._format == LIBXL and self._pairs:
            data = EmulatorXenstoreData(_UNKNOWN_EMULATOR, 0, self._pairs)
            self._record(streams.LIBXL_EMULATOR_XENSTORE_DATA, data.to_bytes())

    def _device_model_state(self, item: legacy.DeviceModel) -> None:
        if not self._device_model:
            return
        if self._format == LIBXL:
            context = EmulatorContext(_UNKNOWN_EMULATOR, 0, item.data)
            self._record(streams.LIBXL_EMULATOR_CONTEXT, context.to_bytes())
            return
        self._out.write(item.signature)
        if item.signature != legacy.SIGNATURES[2]:
            self._out.write(len(item.data).to_bytes(4, "little"))
        self._out.write(item.data)

    def _vcpu_state(self, item: legacy.VcpuState) -> None:
        basic = PvVcpu(item.vcpu, item.basic)
        self._record(streams.LIBXC_X86_PV_VCPU_BASIC, basic.to_bytes())
        for number, state in (
            (streams.LIBXC_X86_PV_VCPU_EXTENDED, item.extended),
            (streams.LIBXC_X86_PV_VCPU_XSAVE, item.xsave),
        ):
            if state:
                self._record(number, PvVcpu(item.vcpu, state).to_bytes())

    def _shared_page(self, item: legacy.SharedPage) -> None:
        self._record(streams.LIBXC_SHARED_INFO, item.data)
        self._record(streams.LIBXC_END)


_WRITERS: dict[type[legacy.Item], Callable[[_Conversion, Any], None]] = {
    legacy.ExtendedInfo: _Conversion._extended_info,
    legacy.Frames: _Conversion._frames,
    legacy.Batch: _Conversion._batch,
    TscInfo: _Conversion._tsc,
    legacy.Param: _Conversion._param,
    legacy.Toolstack: _Conversion._toolstack,
    legacy.VcpuState: _Conversion._vcpu_state,
    legacy.SharedPage: _Conversion._shared_page,
    legacy.HvmTail: _Conversion._hvm_tail,
    legacy.DeviceModel: _Conversion._device_model_state,
}
"""What becomes of each item of a legacy stream."""
