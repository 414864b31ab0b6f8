"""Streams of Xen 4.5 and older, as libxl v2 and libxc v3 streams: what the genuine
convert-legacy-stream writes, byte for byte. And any image in another wrapper (`save.rewrap`).

It differs on purpose, where that one fails or writes what no restore takes: streams in a wrapper
are converted, chunk -21 is understood, the other two device model records are taken, and a batch
of absent pages only is left out (docs/differences.md).
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.errors import TruncatedError, UnsupportedError, UsageError
from hvmctx.files.copying import copy
from hvmctx.files.opening import open_source
from hvmctx.files.source import Source
from hvmctx.image.image import open_image
from hvmctx.image.indexing import walk
from hvmctx.save import rewrap
from hvmctx.save.rewrap import AROUND_LIBXL, FORMATS, Description
from hvmctx.stream import legacy
from hvmctx.stream.detect import ENOUGH, detect, legacy_width
from hvmctx.stream.grammar import LEGACY_HEADER
from hvmctx.stream.legacy import LegacyReader
from hvmctx.stream.libxc import HvmParams, PageData, PvInfo, PvP2mFrames, PvVcpu, TscInfo
from hvmctx.stream.libxl import EmulatorContext, EmulatorXenstoreData
from hvmctx.stream.reader import (
    CONTEXT,
    LEGACY,
    LIBXC,
    LIBXL,
    XAPI,
    XL,
    Header,
    StreamReader,
    header_item,
)
from hvmctx.stream.writer import StreamWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, BinaryIO

    from hvmctx.files.opening import Target
    from hvmctx.image.image import Image
    from hvmctx.limits import Limits
    from hvmctx.stream.reader import StreamRecord
    from hvmctx.stream.xlfile import Json

__all__ = ["CONVERTED_BY", "Converted", "convert"]

CONVERTED_BY = (0, 1)
"""The Xen version that says that a stream was converted: major 0, minor the converter's."""
_UNKNOWN_EMULATOR = 0
_XAPI_WIDTH = 4
"""What xenopsd takes the sender's long to be."""


class Converted:
    """What a conversion did: pages, of which some had contents, and what was left out (none of
    a stream that stays as it is: `stays`); `notes` are what else the user has to know."""

    __slots__ = ("absent", "notes", "pages", "stays", "with_data")

    def __init__(self, notes: Iterable[str] = (), *, stays: bool = False) -> None:
        self.pages = 0
        self.with_data = 0
        self.absent = 0
        self.notes = list(notes)
        self.stays = stays


class _Wanted:
    """What to make of it, and what is known of a legacy stream: see `convert`."""

    __slots__ = ("device_model", "format", "given", "pv", "to", "width")

    def __init__(
        self, to: str | None, format: str, given: bytes | None, width: int | None,
        pv: bool | None, device_model: bool,
    ) -> None:  # fmt: skip
        self.to = to
        self.format = format
        self.given = given
        self.width = width
        self.pv = pv
        self.device_model = device_model


def convert(
    target: Target,
    out: BinaryIO,
    *,
    to: str | None = None,
    format: str = LIBXL,
    given: bytes | None = None,
    width: int | None = None,
    pv: bool | None = None,
    device_model: bool = True,
    limits: Limits | None = None,
) -> Converted:
    """Write an image as `to`, one of `rewrap.FORMATS`: a legacy stream becomes one of Xen 4.6, one
    of Xen 4.6 and newer stays as it is. `given` describes the guest there, as for
    `rewrap.Description.written`.

    Without `to` only a legacy stream is converted: a bare one to `format` (libxl or libxc), one in
    a wrapper to what that wrapper has, and it stays in it.

    `width` (bytes of the sender's long: 8 or 4) and `pv` are detected unless they are given;
    a stream of a given `width` need not look like a legacy one. Without `device_model` the
    record of the device model, which is the last, is left out. `limits` are as for `open_image`.

    Raises UnsupportedError for anything but a legacy stream where there is no `to`, FormatError
    for a damaged one, UsageError for an xl file as libxc by `format`, and what
    `rewrap.rewrap` raises.
    """
    if format not in (LIBXL, LIBXC):
        raise UsageError(f"a legacy stream can become libxl or libxc, not {format!r}")
    if to not in (None, *FORMATS):
        raise UsageError(f"unknown format {to!r}; expected {', '.join(FORMATS)}")
    wanted = _Wanted(to, format, given, width, pv, device_model)
    with open_source(target, limits) as source:
        head = source.peek(ENOUGH)
        if not head:
            source.raise_trouble()
        found = detect(head)
        if found in streams.MAGICS and to is None and format != LIBXL:
            raise UsageError("an xl file holds a libxl stream")
        if found in streams.MAGICS and _is_legacy(found, source):
            done = _in_wrapper(source, out, wanted)
        elif found == XAPI or (to is not None and not _is_bare(found, width)):
            return _whole(source, out, wanted)
        else:
            conversion = _Conversion(to or format, out, wanted)
            conversion.begin(Description.none(), given)
            done = conversion.run(LegacyReader(source, *_recognise(source, wanted)))
            conversion.end()
        source.raise_trouble()
        return done


def _is_bare(found: str | None, width: int | None) -> bool:
    """Whether it is taken for a legacy stream without a wrapper."""
    return found == LEGACY or (width is not None and found in (CONTEXT, None))


def _is_legacy(layer: str, source: Source) -> bool:
    """Whether a wrapper says that it holds a legacy stream. One that is cut off within its header
    counts as one, for the reader to say so."""
    reader = StreamReader(layer)
    data = source.peek(reader.need)
    if len(data) < reader.need:
        return True
    header = reader.feed(data)
    assert isinstance(header, Header)  # which is what a wrapper starts with
    return header_item(layer, header.fields) == LEGACY_HEADER


def _in_wrapper(source: Source, out: BinaryIO, wanted: _Wanted) -> Converted:
    """Convert the legacy stream in a wrapper."""
    layer = detect(source.peek(ENOUGH)) or ""
    header = next(walk(source, StreamReader(layer)))
    assert isinstance(header, Header)
    to = wanted.to or layer
    conversion = _Conversion(to, out, wanted)
    if to == layer and layer != XAPI and wanted.given is None:
        conversion.begin_again(source, header)
    else:
        own = bytes(_data_of(source, header))
        conversion.begin(Description(layer, own, _config_of(header, own)), wanted.given)
    tail = legacy.XAPI_TAIL if layer == XAPI else legacy.FILE_TAIL
    done = conversion.run(LegacyReader(source, *_recognise(source, wanted, layer), tail))
    conversion.end()
    return done


def _data_of(source: Source, header: Header) -> bytes | memoryview:
    limits = source.limits
    if header.length > limits.config:
        raise limits.over("config", "bytes", layer=header.layer, offset=header.body_offset)
    data = source.read(header.length)
    if len(data) < header.length:
        raise _cut(header, source, len(data))
    return data


def _cut(header: Header, source: Source, have: int) -> TruncatedError:
    return TruncatedError(
        "the input ends", layer=header.layer, offset=source.position,
        record="optional data" if header.layer == XL else "XML", found=f"{have} bytes",
        expected=str(header.length),
    )  # fmt: skip


def _config_of(header: Header, own: bytes) -> Json:
    """What the wrapper says of the guest, in the words of xl's JSON."""
    if header.layer == XL:
        from hvmctx.stream import xlfile

        text = xlfile.config_text(own, header.body_offset)
        return xlfile.config_from_bytes(text, header) if text else None
    if header.layer == XAPI:
        return None
    from hvmctx.stream import libvirt

    return libvirt.config_of(libvirt.places(libvirt.text_of(own)))


def _whole(source: Source, out: BinaryIO, wanted: _Wanted) -> Converted:
    """Convert an image whose stream stays as it is; or a suspend image of XAPI's with a legacy
    stream among its records."""
    with open_image(source, seekable=True) as image:
        if image.format == XAPI and image.stopped is not None and image.stopped.layer == LEGACY:
            return _among_records(image, out, wanted)
        if wanted.to is None:
            raise _no_legacy("records of Xen 4.6 or newer")
        return Converted(rewrap.rewrap(image, out, wanted.to, wanted.given), stays=True)


def _among_records(image: Image, out: BinaryIO, wanted: _Wanted) -> Converted:
    source, to = image.source, wanted.to or XAPI
    conversion = _Conversion(to, out, wanted)
    conversion.begin(Description.of(image), wanted.given)
    source.position = image.end
    reader = LegacyReader(source, *_recognise(source, wanted, XAPI), legacy.RECORD_TAIL)
    done = conversion.run(reader)
    kept: list[tuple[StreamRecord, bytes | memoryview]] = []
    kept += [(record, image.body(record)) for record in image.records if record.length]
    room = image.limits.kept
    for item in walk(source, StreamReader(XAPI, source.position, "xapi records")):
        assert not isinstance(item, Header)
        room -= item.length
        if room < 0:
            raise image.limits.over("kept", "bytes", layer=XAPI, offset=item.offset)
        kept.append((item, source.read(item.length)))
    for record, body in kept:
        if record.type == streams.XAPI_QEMU_TRAD and to != LIBXC:
            out.write(rewrap.device_model(to, body))
        elif to != XAPI and record.type not in _ELSEWHERE:
            done.notes.append(rewrap.left_out(record))
        elif record.type not in _ELSEWHERE:
            out.write(b"".join((record.raw, body)))
    conversion.end()
    return done


_ELSEWHERE = (streams.XAPI_XENOPS, streams.XAPI_LIBXC_LEGACY, streams.XAPI_END_OF_IMAGE)
"""Of XAPI's records: what the conversion writes itself."""


def _recognise(source: Source, wanted: _Wanted, layer: str | None = None) -> tuple[int, bool]:
    """The width and kind of guest: those given, which count for more than what the start
    of the stream looks like, and those that it tells. A stream with a magic of its own is
    no legacy one, whatever is given. In XAPI's wrapper one that does not tell is taken as
    xenopsd takes it."""
    head = source.peek(ENOUGH)
    found = detect(head)
    width = wanted.width or legacy_width(head) or (_XAPI_WIDTH if layer == XAPI else 0)
    if found in (*streams.MAGICS, LIBXL, LIBXC) or not width:
        raise _no_legacy(head[:16].hex(" ") or "nothing")
    pv = wanted.pv
    return width, head[width : 2 * width] == b"\xff" * width if pv is None else pv


def _no_legacy(found: str) -> UnsupportedError:
    return UnsupportedError(
        "not a legacy stream", layer=LEGACY, offset=0, found=found,
        expected="a stream of Xen 4.5 or older",
    )  # fmt: skip


class _Conversion:
    """Of one legacy stream, to a wrapper or a stream alone. What it has begun with is ended by
    its caller."""

    def __init__(self, to: str, out: BinaryIO, wanted: _Wanted) -> None:
        self._to = to
        self._wanted = wanted
        self._out = out
        self._writer = StreamWriter(to)
        self._params: list[tuple[int, int]] = []
        self._pairs: list[tuple[bytes, bytes]] = []
        self._started = False
        self._done = Converted()

    def begin(self, described: Description, given: bytes | None) -> None:
        """Write the wrapper's header, with what describes the guest."""
        data, note = described.written(self._to, given)
        self._done.notes += [note] if note else []
        self._writer, head = rewrap.begin(self._to, data)
        self._out.write(head)

    def begin_again(self, source: Source, header: Header) -> None:
        """Write the header that was read, but for what says that a legacy stream follows, and
        the data after it."""
        fields = dict(header.fields)
        if header.layer == XL:
            fields["mandatory_flags"] |= streams.XL_FLAG_STREAM_V2
        else:
            fields["version"] = streams.LIBVIRT_VERSION
        magic = streams.MAGICS[header.layer]
        raw = magic + streams.HEADERS[header.layer, "header"].encode(fields)
        again = Header(header.layer, header.name, header.offset, raw, fields)
        self._out.write(self._writer.again(again))
        copied = copy(source, header.length, self._out)
        if copied < header.length:
            raise _cut(header, source, copied)

    def run(self, reader: LegacyReader) -> Converted:
        self._reader = reader
        for item in reader.items():
            self._start(isinstance(item, legacy.ExtendedInfo))
            _WRITERS[type(item)](self, item)
        return self._done

    def end(self) -> None:
        self._out.write(rewrap.end(self._to))

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
        if self._to in AROUND_LIBXL:
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
        if self._pairs and self._to not in AROUND_LIBXL:
            if self._wanted.to is not None:
                self._done.notes.append("left out: the device model's keys for xenstore")
        elif self._pairs:
            data = EmulatorXenstoreData(_UNKNOWN_EMULATOR, 0, self._pairs)
            self._record(streams.LIBXL_EMULATOR_XENSTORE_DATA, data.to_bytes())

    def _device_model_state(self, item: legacy.DeviceModel) -> None:
        if not self._wanted.device_model:
            return
        if self._to in AROUND_LIBXL:
            context = EmulatorContext(_UNKNOWN_EMULATOR, 0, item.data)
            self._record(streams.LIBXL_EMULATOR_CONTEXT, context.to_bytes())
            return
        if self._to == XAPI:
            self._record(streams.XAPI_QEMU_TRAD, item.data)
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
