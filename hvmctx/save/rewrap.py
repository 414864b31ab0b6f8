"""The streams of an image in another wrapper: a file of xl's, a suspend image of XAPI's, a file of
libvirt's, or a libxl or libxc stream alone. The libxc stream stays as it is, bit for bit; between
wrappers of a libxl stream, all of that does.

What the other wrapper has no place for is left out, and told: UEFI variables and TPM state outside
of XAPI's, the device model's keys for xenstore outside of a libxl stream, its file in a bare libxc
stream. What describes the guest is given, or the image's own where the wrapper stays, or made of
what the image says as far as anybody can.
"""

from __future__ import annotations

import time

from hvmctx.abi import streams
from hvmctx.errors import FieldError, MissingRecordError, UnsupportedError, UsageError
from hvmctx.files.copying import copy_range
from hvmctx.image import handlers
from hvmctx.messages import why_not_json
from hvmctx.stream.libxl import EmulatorContext
from hvmctx.stream.reader import LIBVIRT, LIBXC, LIBXL, XAPI, XL
from hvmctx.stream.writer import StreamWriter
from hvmctx.stream.xapi import emulator_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from hvmctx.image.image import Image
    from hvmctx.stream.reader import StreamRecord
    from hvmctx.stream.xlfile import Json

__all__ = ["AROUND_LIBXL", "FORMATS", "Description", "begin", "device_model", "end", "left_out",
           "rewrap", "text_of"]  # fmt: skip

FORMATS = (XL, XAPI, LIBVIRT, LIBXL, LIBXC)
"""What an image may become."""
AROUND_LIBXL = (XL, LIBVIRT, LIBXL)
"""Those that hold a libxl stream."""


class Description:
    """What an image says of its guest: `own` is the wrapper's own text (the optional data of an
    xl file, the bytes that libvirt has for XML, XAPI's Xenops record), `config` what it says in
    the words of xl's JSON."""

    __slots__ = ("config", "layer", "own")

    def __init__(self, layer: str, own: bytes, config: Json) -> None:
        self.layer = layer
        self.own = own
        self.config = config

    @classmethod
    def of(cls, image: Image) -> Description:
        """Raises FormatError."""
        own = b""
        if image.format == XAPI:
            record = image.last(XAPI, streams.XAPI_XENOPS)
            own = b"" if record is None else bytes(image.body(record))
        elif image.format in streams.DATA_LENGTHS:
            own = bytes(image.data_of(image.headers[0], "data"))
        return cls(image.format, own, image.config)

    @classmethod
    def none(cls) -> Description:
        """Of a guest of which nothing is known."""
        return cls("", b"", None)

    def written(self, to: str, given: bytes | None = None) -> tuple[bytes, str]:
        """The same for another wrapper, and what the user has to know of it. `given` takes its
        place: xl's JSON, libvirt's XML, or the S-expression of a VM of XAPI's. Raises UsageError,
        FieldError and FormatError for what cannot be given."""
        if to not in _TEXTS:
            if given is not None:
                raise UsageError(f"a {to} stream has no description of the guest")
            return b"", ""
        if given is None and to == self.layer and self.own:
            return self.own, ""
        return _TEXTS[to](self.config, given)


def _for_xl(config: Json, given: bytes | None) -> tuple[bytes, str]:
    from hvmctx.stream.xlfile import config_to_bytes

    if given is None:
        return config_to_bytes(b""), (
            "the xl file has no configuration: give one to xl, `xl restore CONFIG FILE`"
        )
    import json

    try:
        json.loads(given.rstrip(b"\0"))
    except (ValueError, RecursionError) as error:
        raise FieldError(f"the configuration is not JSON: {why_not_json(error)}") from None
    return config_to_bytes(given), ""


def _for_libvirt(config: Json, given: bytes | None) -> tuple[bytes, str]:
    from hvmctx.stream import libvirt

    if given is None:
        return libvirt.xml_to_bytes(libvirt.xml_of(config)), (
            "the XML has no devices: give a whole one to libvirt, `virsh restore FILE --xml XML`"
        )
    libvirt.places(libvirt.text_of(given))
    return libvirt.xml_to_bytes(given), ""


def _for_xapi(config: Json, given: bytes | None) -> tuple[bytes, str]:
    from hvmctx.stream import sexp, xapi

    if given is None:
        vm = sexp.to_bytes(xapi.vm_of(config))
    else:
        sexp.parse(given, record="vm_str")
        vm = given
    now = time.strftime("%Y%m%dT%H:%M:%SZ", time.gmtime())
    return xapi.Xenops(now, vm_str=vm).to_text(), ""


_TEXTS = {XL: _for_xl, LIBVIRT: _for_libvirt, XAPI: _for_xapi}


def text_of(image: Image, to: str) -> bytes:
    """What `given` may be for a wrapper, out of what an image says. Raises FormatError."""
    if to == XL:
        return image.config_text
    if to == LIBVIRT:
        from hvmctx.stream import libvirt

        return image.xml if image.format == LIBVIRT else libvirt.xml_of(image.config)
    from hvmctx.stream import sexp, xapi

    record = image.last(XAPI, streams.XAPI_XENOPS)
    own = None if record is None else xapi.Xenops.from_text(image.body(record)).vm_str
    return sexp.to_bytes(xapi.vm_of(image.config)) if own is None else own


def begin(to: str, description: bytes) -> tuple[StreamWriter, bytes]:
    """What stands before the libxl stream, or before the libxc stream where there is no other; and
    the writer, whose turn it is then."""
    writer = StreamWriter(to)
    if to == XL:
        return writer, writer.xl_header(description)
    if to == LIBVIRT:
        return writer, writer.libvirt_header(description)
    if to == XAPI:
        head = writer.xapi_header() + writer.record(streams.XAPI_XENOPS, description)
        return writer, head + writer.record(streams.XAPI_LIBXC)
    return writer, b""


def rewrap(image: Image, out: BinaryIO, to: str, given: bytes | None = None) -> list[str]:
    """Write a whole seekable image as `to`, one of `FORMATS`; `given` as for
    `Description.written`. Returns what the user has to know: what is left out, what is missing.

    Raises FormatError for a damaged image, UnsupportedError for a checkpointed stream that would
    have to leave libxl's, MissingRecordError for one without a libxc stream, and what `written`
    raises.
    """
    image.raise_stopped()
    source = image.source
    if to == image.format and given is None:
        copy_range(source, 0, image.end, out)
        return []
    data, note = Description.of(image).written(to, given)
    notes = [note] if note else []
    writer, head = begin(to, data)
    if to == image.format == XAPI:
        _described_anew(image, out, data)
        return notes
    out.write(head)
    if to in AROUND_LIBXL and image.format in AROUND_LIBXL:
        start = next(header.offset for header in image.headers if header.layer == LIBXL)
        copy_range(source, start, image.end, out)
        return notes
    if to in AROUND_LIBXL:
        out.write(writer.libxl_header() + writer.record(streams.LIBXL_LIBXC_CONTEXT))
    copy_range(source, *_libxc_of(image), out)
    for layer, number in _DEVICE_MODELS:
        for record in image.records_of(layer, number):
            if to != LIBXC:
                payload = handlers.parse(record, image.body(record), image.limits).payload
                out.write(device_model(to, payload))
            else:
                notes.append(left_out(record))
    for layer, number in _LOST:
        notes += [left_out(record) for record in image.records_of(layer, number)]
    out.write(end(to))
    return notes


_DEVICE_MODELS = (
    (LIBXL, streams.LIBXL_EMULATOR_CONTEXT), (XAPI, streams.XAPI_QEMU_TRAD),
)  # fmt: skip
_LOST = {
    (LIBXL, streams.LIBXL_EMULATOR_XENSTORE_DATA): "the device model's keys for xenstore",
    (XAPI, streams.XAPI_VARSTORED): "UEFI variables",
    (XAPI, streams.XAPI_SWTPM0): "TPM state",
    (XAPI, streams.XAPI_SWTPM): "TPM state",
}
"""What has no place outside of its layer."""


def left_out(record: StreamRecord) -> str:
    """That a record has no place in the other wrapper."""
    what = _LOST.get((record.layer, record.type), "the device model's state")
    return f"left out: {what} ({record.name}, {record.length} bytes)"


def _libxc_of(image: Image) -> tuple[int, int]:
    """Where the libxc stream starts and ends."""
    start = image.header(LIBXC, "image header")
    last = next(iter(image.records_of(LIBXC, streams.LIBXC_END)), None)
    if start is None or last is None:
        raise MissingRecordError("the image has no libxc stream")
    if image.format in AROUND_LIBXL and image.records_of(LIBXC, streams.LIBXC_CHECKPOINT):
        raise UnsupportedError(
            "a checkpointed stream cannot be taken out of libxl's", layer=LIBXC,
            offset=start.offset, found="CHECKPOINT", expected="a stream without checkpoints",
        )  # fmt: skip
    return start.offset, last.end


def _described_anew(image: Image, out: BinaryIO, text: bytes) -> None:
    """A suspend image with another Xenops record, all else as it is."""
    record = image.last(XAPI, streams.XAPI_XENOPS)
    start = image.headers[0].end
    place = (start, start) if record is None else (record.offset, record.end)
    copy_range(image.source, 0, place[0], out)
    out.write(b"".join((streams.record_around(XAPI, streams.XAPI_XENOPS, len(text))[0], text)))
    copy_range(image.source, place[1], image.end, out)


def device_model(to: str, payload: bytes | memoryview) -> bytes:
    """The record that holds a device model's file in XAPI's wrapper or in a libxl stream."""
    if to == XAPI:
        return _record(XAPI, streams.XAPI_QEMU_TRAD, payload)
    body = EmulatorContext(emulator_of(payload), 0, payload).to_bytes()
    return _record(LIBXL, streams.LIBXL_EMULATOR_CONTEXT, body)


def end(to: str) -> bytes:
    """The record that ends the wrapper; nothing of a libxc stream, which has ended."""
    if to == LIBXC:
        return b""
    layer, number = (XAPI, streams.XAPI_END_OF_IMAGE) if to == XAPI else (LIBXL, streams.LIBXL_END)
    return _record(layer, number, b"")


def _record(layer: str, number: int, body: bytes | memoryview) -> bytes:
    head, padding = streams.record_around(layer, number, len(body))
    return b"".join((head, body, padding))
