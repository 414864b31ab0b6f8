"""Framing without I/O, the other way: the mirror image of `stream.reader`.

A `StreamWriter` gives the bytes of headers and records, and keeps the order of `grammar`:
what it has given so far is always the start of a stream that the reader takes. The caller
writes them.
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.errors import FieldError, UsageError
from hvmctx.stream.grammar import FIRST, STATES
from hvmctx.stream.reader import (
    LIBVIRT,
    LIBXC,
    LIBXL,
    XAPI,
    XL,
    StreamRecord,
    header_item,
    record_name,
)

__all__ = ["LARGEST_RECORD", "StreamWriter"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.stream.reader import Header

LARGEST_RECORD = streams.LARGEST_RECORD
"""What a writer refuses to go beyond, padding included (4.10+); page data are not bound by
it."""
_LARGEST_LENGTH = 0xFFFFFFFF


class StreamWriter:
    """The machine. `layer` is what the output starts with: one of `grammar.FIRST`.

    `expecting` says what may come next, `done` that the stream has ended. Raises UsageError
    for what is out of turn, FieldError for a value that its field cannot hold; nothing has
    changed then.
    """

    def __init__(self, layer: str) -> None:
        if layer not in FIRST:
            raise UsageError(f"unknown layer {layer!r}; expected {', '.join(FIRST)}")
        self.state = STATES[FIRST[layer]]

    @property
    def expecting(self) -> str:
        """What may come next: "xl header", "libxc record", "end" ..."""
        return self.state.expecting

    @property
    def done(self) -> bool:
        """Whether the stream has ended."""
        return not self.state.rows

    def xl_header(self, optional_data: bytes = b"", flags: int | None = None) -> bytes:
        """The xl file header and its optional data (`stream.xlfile.config_to_bytes`). The
        flags say stream v2 and, where there is a configuration, that it is JSON."""
        self._turn(XL, "header")
        if flags is None:
            flags = streams.XL_FLAG_STREAM_V2
            if any(optional_data[:4]):
                flags |= streams.XL_FLAG_JSON_CONFIG
        fields = {
            "byteorder": streams.XL_BYTEORDER, "mandatory_flags": flags, "optional_flags": 0,
            "optional_data_len": len(optional_data),
        }  # fmt: skip
        return self._wrapped(fields) + optional_data

    def xapi_header(self) -> bytes:
        """The signature of an image of records."""
        self._turn(XAPI, "header")
        return self._wrapped({"kind": streams.XAPI_STRUCTURED})

    def libvirt_header(self, xml: bytes) -> bytes:
        """libvirt's header and the domain's XML, of a file with a libxl v2 stream
        (`stream.libvirt.xml_to_bytes`)."""
        self._turn(LIBVIRT, "header")
        fields = dict.fromkeys(streams.LIBVIRT_HEADER.names, 0)
        fields |= {"version": streams.LIBVIRT_VERSION, "xml_len": len(xml)}
        return self._wrapped(fields) + xml

    def _wrapped(self, fields: dict[str, int]) -> bytes:
        layer = self.state.layer
        head = streams.HEADERS[layer, "header"].encode(fields)
        self._advance(header_item(layer, fields))
        return streams.MAGICS[layer] + head

    def libxl_header(self, options: int = 0) -> bytes:
        """Version 2, big-endian itself, records little-endian."""
        self._turn(LIBXL, "header")
        fields = {"ident": streams.LIBXL_IDENT, "version": streams.LIBXL_VERSION}
        head = streams.LIBXL_HEADER.encode({**fields, "options": options})
        self._advance("header")
        return head

    def image_header(self, version: int = 3) -> bytes:
        """Version 2 (4.6 to 4.13) or 3 (4.14 and later)."""
        self._turn(LIBXC, "image header")
        if version not in streams.LIBXC_VERSIONS:
            raise FieldError(f"libxc stream version {version}, expected 2 or 3")
        fields = {"marker": streams.LIBXC_MARKER, "id": streams.LIBXC_ID, "version": version}
        rest = {"options": 0, "reserved1": 0, "reserved2": 0}
        head = streams.IMAGE_HEADER.encode({**fields, **rest})
        self._advance("image header")
        return head

    def domain_header(self, guest_type: int, xen_version: tuple[int, int]) -> bytes:
        """1 x86 PV, 2 x86 HVM; (major, minor) of the Xen that writes."""
        self._turn(LIBXC, "domain header")
        fields = {"type": guest_type, "page_shift": streams.PAGE_SHIFT, "reserved": 0}
        version = {"xen_major": xen_version[0], "xen_minor": xen_version[1]}
        head = streams.DOMAIN_HEADER.encode({**fields, **version})
        self._advance("domain header")
        return head

    def again(self, header: Header) -> bytes:
        """A header that was read, bit for bit; its optional data are the caller's."""
        self._turn(header.layer, header.name)
        wrapper = header.layer in streams.MAGICS
        self._advance(header_item(header.layer, header.fields) if wrapper else header.name)
        return header.raw

    def record(self, number: int, body: bytes | memoryview = b"") -> bytes:
        """A whole record of the layer whose turn it is: header, body, zero padding."""
        head, padding = self.record_around(number, len(body))
        return b"".join((head, body, padding))

    def record_around(self, number: int, length: int) -> tuple[bytes, bytes]:
        """Header and padding of a record whose body the caller writes in between."""
        row = self.state.record(number, length)
        if row is None:
            raise UsageError(f"a record is out of turn: expected the {self.expecting}")
        if length and not StreamRecord(row.layer, number, 0, 0).has_body:
            raise FieldError(f"{record_name(row.layer, number)}: records of this type have no body")
        page_data = row.layer == LIBXC and number == streams.LIBXC_PAGE_DATA
        largest = _LARGEST_LENGTH if page_data or row.layer == LIBXL else LARGEST_RECORD
        if length + (-length % streams.RECORD_ALIGNS[row.layer]) > largest:
            raise FieldError(
                f"{record_name(row.layer, number)}: {length} bytes, at most {largest} fit a record"
            )
        around = streams.record_around(row.layer, number, length)
        self.state = STATES[row.following]
        return around

    def _turn(self, layer: str, name: str) -> None:
        """Raises UsageError where that header is not next."""
        if self.state.layer != layer or name not in self.state.by_item:
            what = f"{layer} {name}" if name == "header" else name
            raise UsageError(f"the {what} is out of turn: expected the {self.expecting}")

    def _advance(self, name: str) -> None:
        self.state = STATES[self.state.by_item[name].following]
