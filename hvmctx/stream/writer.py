"""Framing without I/O, the other way: the mirror image of `stream.reader`.

A `StreamWriter` gives the bytes of headers and records, and keeps their order: what it has
given so far is always the start of a stream that the reader takes. The caller writes them.

    xl header -> libxl header -> libxl record ... LIBXC_CONTEXT -> image header -> domain
    header -> libxc record ... END -> libxl record ... END

In a checkpointed libxl stream a libxc CHECKPOINT hands over to libxl records, and
CHECKPOINT_END hands back (tools/libs/light, 4.6+).
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.errors import FieldError, UsageError
from hvmctx.stream.reader import LIBXC, LIBXL, XL, record_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.stream.reader import Header

LARGEST_RECORD = streams.LARGEST_RECORD
"""What a writer refuses to go beyond, padding included (4.10+); page data are not bound by
it."""
_LARGEST_LENGTH = 0xFFFFFFFF

_XL, _LIBXL, _IMAGE, _DOMAIN = "xl header", "libxl header", "image header", "domain header"
_LIBXL_RECORD, _LIBXC_RECORD, _END = "libxl record", "libxc record", "end"
_FIRST = {XL: _XL, LIBXL: _LIBXL, LIBXC: _IMAGE}
_NEXT = {_XL: _LIBXL, _LIBXL: _LIBXL_RECORD, _IMAGE: _DOMAIN, _DOMAIN: _LIBXC_RECORD}
"""State -> the state behind it, where there is no choice."""


class StreamWriter:
    """The machine. `layer` is what the output starts with: xl, libxl or libxc.

    `expecting` says what may come next, `done` that the stream has ended. Raises UsageError
    for what is out of turn, FieldError for a value that its field cannot hold; nothing has
    changed then.
    """

    def __init__(self, layer: str) -> None:
        if layer not in _FIRST:
            raise UsageError(f"no stream starts with {layer!r}")
        self.expecting = _FIRST[layer]
        self._wrapped = layer != LIBXC
        self._in_libxc = False

    @property
    def done(self) -> bool:
        return self.expecting == _END

    def xl_header(self, optional_data: bytes = b"", flags: int | None = None) -> bytes:
        """The xl file header and its optional data (`stream.xlfile.serialise_config`). The
        flags say stream v2 and, where there is a configuration, that it is JSON."""
        self._turn(_XL)
        if flags is None:
            flags = streams.XL_FLAG_STREAM_V2
            if any(optional_data[:4]):
                flags |= streams.XL_FLAG_JSON_CONFIG
        head = streams.XL_HEADER.encode(
            {
                "byteorder": streams.XL_BYTEORDER,
                "mandatory_flags": flags,
                "optional_flags": 0,
                "optional_data_len": len(optional_data),
            },
        )
        self._advance()
        return streams.XL_MAGIC + head + optional_data

    def libxl_header(self, options: int = 0) -> bytes:
        """Version 2, big-endian itself, records little-endian."""
        self._turn(_LIBXL)
        fields = {"ident": streams.LIBXL_IDENT, "version": streams.LIBXL_VERSION}
        head = streams.LIBXL_HEADER.encode({**fields, "options": options})
        self._advance()
        return head

    def image_header(self, version: int = 3) -> bytes:
        """Version 2 (4.6 to 4.13) or 3 (4.14 and later)."""
        self._turn(_IMAGE)
        if version not in streams.LIBXC_VERSIONS:
            raise FieldError(f"libxc stream version {version}, expected 2 or 3")
        fields = {"marker": streams.LIBXC_MARKER, "id": streams.LIBXC_ID, "version": version}
        rest = {"options": 0, "reserved1": 0, "reserved2": 0}
        head = streams.IMAGE_HEADER.encode({**fields, **rest})
        self._advance()
        return head

    def domain_header(self, guest_type: int, xen_version: tuple[int, int]) -> bytes:
        """1 x86 PV, 2 x86 HVM; (major, minor) of the Xen that writes."""
        self._turn(_DOMAIN)
        fields = {"type": guest_type, "page_shift": streams.PAGE_SHIFT, "reserved": 0}
        version = {"xen_major": xen_version[0], "xen_minor": xen_version[1]}
        head = streams.DOMAIN_HEADER.encode({**fields, **version})
        self._advance()
        self._in_libxc = True
        return head

    def again(self, header: Header) -> bytes:
        """A header that was read, bit for bit; its optional data are the caller's."""
        self._turn(f"{header.layer} {header.name}" if header.name == "header" else header.name)
        self._in_libxc |= self.expecting == _DOMAIN
        self._advance()
        return header.raw

    def record(self, number: int, body: bytes | memoryview = b"") -> bytes:
        """A whole record of the layer whose turn it is: header, body, zero padding."""
        head, padding = self.record_around(number, len(body))
        return b"".join((head, body, padding))

    def record_around(self, number: int, length: int) -> tuple[bytes, bytes]:
        """Header and padding of a record whose body the caller writes in between."""
        if self.expecting not in (_LIBXL_RECORD, _LIBXC_RECORD):
            raise UsageError(f"a record is out of turn: the {self.expecting} is next")
        layer = LIBXL if self.expecting == _LIBXL_RECORD else LIBXC
        padding = -length % streams.RECORD_ALIGN
        page_data = layer == LIBXC and number == streams.LIBXC_PAGE_DATA
        largest = _LARGEST_LENGTH if page_data or layer == LIBXL else LARGEST_RECORD
        if length + padding > largest:
            raise FieldError(
                f"{record_name(layer, number)}: {length} bytes, at most {largest} fit a record"
            )
        what = f"record type {number!r}: "
        head = streams.RECORD_HEADER.encode_values((number, length), what)
        self._behind(layer, number)
        return head, bytes(padding)

    def _behind(self, layer: str, number: int) -> None:
        if layer == LIBXL:
            if number == streams.LIBXL_END:
                self.expecting = _END
            elif number == streams.LIBXL_LIBXC_CONTEXT:
                self.expecting = _IMAGE
            elif number == streams.LIBXL_CHECKPOINT_END and self._in_libxc:
                self.expecting = _LIBXC_RECORD
        elif number == streams.LIBXC_END:
            self._in_libxc = False
            self.expecting = _LIBXL_RECORD if self._wrapped else _END
        elif number == streams.LIBXC_CHECKPOINT and self._wrapped:
            self.expecting = _LIBXL_RECORD

    def _turn(self, what: str) -> None:
        if self.expecting != what:
            raise UsageError(f"the {what} is out of turn: the {self.expecting} is next")

    def _advance(self) -> None:
        self.expecting = _NEXT[self.expecting]
