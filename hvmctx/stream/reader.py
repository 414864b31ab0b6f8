"""Framing without I/O: where every header and record of an image lies.

A `StreamReader` says how many bytes it needs next (`need`) and where they are (`offset`),
takes exactly those, and answers with what they are. The body of a record it never sees:
the caller reads or skips it, and hands the bytes at the new `offset`. One machine so
serves files by offset, pipes, and buffers. What may follow what is the table of `grammar`.
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.streams import CONTEXT, LEGACY, LIBVIRT, LIBXC, LIBXL, XAPI, XL, record_name
from hvmctx.errors import FormatError, UnsupportedError
from hvmctx.stream.grammar import FIRST, LEGACY_HEADER, SAYS_LEGACY, STATES, State

__all__ = [
    "CONTEXT", "LEGACY", "LIBVIRT", "LIBXC", "LIBXL", "XAPI", "XL", "Header", "StreamReader",
    "StreamRecord", "header_item", "record_name",
]  # fmt: skip


class Header:
    """The header that opens a layer. `raw` are its bytes, `fields` what they say, by the
    names of `abi.streams`; `length` bytes of data follow it (the xl file's configuration, the
    XML of libvirt's, else none)."""

    __slots__ = ("fields", "layer", "length", "name", "offset", "raw")

    def __init__(self, layer: str, name: str, offset: int, raw: bytes, fields: dict[str, int]):
        self.layer = layer
        self.name = name
        self.offset = offset
        self.raw = raw
        self.fields = fields
        self.length = fields.get(streams.DATA_LENGTHS.get(layer, ""), 0)

    def __repr__(self) -> str:
        return f"<{self.layer} {self.name} at {self.offset:#x}>"

    @property
    def body_offset(self) -> int:
        return self.offset + len(self.raw)

    @property
    def end(self) -> int:
        return self.body_offset + self.length


class StreamRecord:
    """One record: its layer, type, length of body, and offset of its header. `claimed` is the
    length that its header has, which is not that of a body for some types of XAPI's."""

    __slots__ = ("claimed", "layer", "length", "offset", "type")

    def __init__(self, layer: str, number: int, claimed: int, offset: int) -> None:
        self.layer = layer
        self.type = number
        self.claimed = claimed
        self.length = claimed
        self.offset = offset
        if not self.has_body:
            self.length = 0

    def __repr__(self) -> str:
        return f"<{self.layer} {self.name} at {self.offset:#x}, {self.length} bytes>"

    @property
    def name(self) -> str:
        return record_name(self.layer, self.type)

    @property
    def known(self) -> bool:
        """Whether the layer's specification has this type."""
        return self.type in streams.RECORDS[self.layer]

    @property
    def has_body(self) -> bool:
        """Whether its length is that of a body, which it is not for some types of XAPI's."""
        return self.layer != XAPI or self.type not in streams.XAPI_BODILESS

    @property
    def optional(self) -> bool:
        """Bit 31: a libxc reader that does not know the type ignores the record."""
        return self.layer != XAPI and bool(self.type & streams.RECORD_OPTIONAL)

    @property
    def body_offset(self) -> int:
        return self.offset + streams.RECORD_HEADERS[self.layer].size

    @property
    def body_end(self) -> int:
        """The offset after the body, where padding begins."""
        return self.body_offset + self.length

    @property
    def raw(self) -> bytes:
        """The bytes of its header."""
        return streams.RECORD_HEADERS[self.layer].pack(self.type, self.claimed)

    @property
    def padding(self) -> int:
        """Bytes between the body and the next record."""
        return -self.length % streams.RECORD_ALIGNS[self.layer]

    @property
    def end(self) -> int:
        return self.body_end + self.padding


class StreamReader:
    """The machine. `layer` is where the input starts: one of `grammar.FIRST`.

    `need` is 0 once the stream has ended; `offset` is then where the rest of the input
    starts. `expecting` says in words what is needed.
    """

    def __init__(self, layer: str, offset: int = 0, state: str = "") -> None:
        """`state` is one of the grammar's, of a stream that is read from its middle on."""
        self.offset = offset
        self._enter(STATES[state or FIRST[layer]])

    def _enter(self, state: State) -> None:
        self.state = state
        self.need = state.need
        if state.need:  # what was last needed is kept at the end
            self.layer = state.layer
            self.expecting = "record header" if state.other else str(state.rows[0].item)

    def feed(self, data: bytes) -> Header | StreamRecord:
        """Take the `need` bytes at `offset`. Raises FormatError (nothing is consumed then)
        for a header that cannot be one of this format."""
        state = self.state
        item: Header | StreamRecord
        if state.other is None:
            name, fields = getattr(self, _CHECKS[state.layer, self.expecting])(data)
            item = Header(self.layer, self.expecting, self.offset, data, fields)
            following = state.by_item[name].following
        else:
            number, claimed = streams.RECORD_HEADERS[state.layer].unpack(data)
            row = state.record(number, claimed) or state.other
            item = StreamRecord(row.layer, number, claimed, self.offset)
            following = row.following
        if following != state.name:
            self._enter(STATES[following])
        self.offset = item.end
        return item

    def _wrong(
        self, problem: str, found: str, expected: str, kind: type[FormatError] = FormatError
    ) -> FormatError:
        return kind(
            problem, layer=self.layer, offset=self.offset, record=self.expecting,
            found=found, expected=expected,
        )  # fmt: skip

    def _after_magic(self, data: bytes) -> dict[str, int]:
        expected = streams.MAGICS[self.layer]
        magic = bytes(data[: len(expected)])
        if magic != expected:
            raise self._wrong("wrong magic", repr(magic), repr(expected))
        return streams.HEADERS[self.layer, "header"].decode(data[len(expected) :])

    def _xl_header(self, data: bytes) -> tuple[str, dict[str, int]]:
        """Which header of the grammar it is, and its fields; so the others."""
        fields = self._after_magic(data)
        if fields["byteorder"] == _XL_SWAPPED:
            raise self._wrong(
                "written in big-endian order", f"{fields['byteorder']:#x}",
                f"{streams.XL_BYTEORDER:#x}", UnsupportedError,
            )  # fmt: skip
        known = streams.XL_FLAG_JSON_CONFIG | streams.XL_FLAG_STREAM_V2
        if fields["mandatory_flags"] & ~known:
            raise self._wrong(
                "unknown mandatory flags", f"{fields['mandatory_flags']:#x}",
                f"none but {known:#x}", UnsupportedError,
            )  # fmt: skip
        return header_item(XL, fields), fields

    def _xapi_header(self, data: bytes) -> tuple[str, dict[str, int]]:
        fields = self._after_magic(data)
        if fields["kind"] not in (streams.XAPI_STRUCTURED, streams.XAPI_LEGACY):
            raise self._wrong("unknown signature", repr(bytes(data)), _XAPI_SIGNATURES)
        return header_item(XAPI, fields), fields

    def _libvirt_header(self, data: bytes) -> tuple[str, dict[str, int]]:
        fields = self._after_magic(data)
        if fields["version"] > streams.LIBVIRT_VERSION:
            raise self._wrong(
                "written in big-endian order" if _swapped(fields["version"]) else "unknown version",
                f"{fields['version']:#x}", f"{streams.LIBVIRT_VERSION} at most", UnsupportedError,
            )  # fmt: skip
        return header_item(LIBVIRT, fields), fields

    def _libxl_header(self, data: bytes) -> tuple[str, dict[str, int]]:
        fields = streams.LIBXL_HEADER.decode(data)
        if fields["ident"] != streams.LIBXL_IDENT:
            raise self._wrong(
                "wrong ident", f"{fields['ident']:#018x}", f"{streams.LIBXL_IDENT:#x}"
            )
        if fields["version"] != streams.LIBXL_VERSION:
            raise self._wrong(
                "unknown version", str(fields["version"]), str(streams.LIBXL_VERSION),
                UnsupportedError,
            )  # fmt: skip
        self._refuse_big_endian(fields["options"], streams.LIBXL_OPTION_BIG_ENDIAN)
        return "header", fields

    def _image_header(self, data: bytes) -> tuple[str, dict[str, int]]:
        fields = streams.IMAGE_HEADER.decode(data)
        if fields["marker"] != streams.LIBXC_MARKER:
            raise self._wrong(
                "wrong marker", f"{fields['marker']:#018x}", f"{streams.LIBXC_MARKER:#x}"
            )
        if fields["id"] != streams.LIBXC_ID:
            raise self._wrong("wrong id", f"{fields['id']:#010x}", f"{streams.LIBXC_ID:#x}")
        if fields["version"] not in streams.LIBXC_VERSIONS:
            raise self._wrong(
                "unknown version", str(fields["version"]),
                " or ".join(map(str, streams.LIBXC_VERSIONS)), UnsupportedError,
            )  # fmt: skip
        self._refuse_big_endian(fields["options"], streams.LIBXC_OPTION_BIG_ENDIAN)
        return "image header", fields

    def _refuse_big_endian(self, options: int, flag: int) -> None:
        if options & flag:
            raise self._wrong(
                "the stream says that it is big-endian", f"options {options:#x}",
                "a little-endian stream", UnsupportedError,
            )  # fmt: skip

    def _domain_header(self, data: bytes) -> tuple[str, dict[str, int]]:
        return "domain header", streams.DOMAIN_HEADER.decode(data)


def header_item(layer: str, fields: dict[str, int]) -> str:
    """Which of the two headers that a layer has in the grammar one with these fields is."""
    name, mask, value = SAYS_LEGACY[layer]
    return LEGACY_HEADER if fields[name] & mask == value else "header"


def _swapped(version: int) -> bool:
    return version in (1 << 24, 2 << 24)


_XAPI_SIGNATURES = " or ".join(
    repr(streams.XAPI_MAGIC + kind.to_bytes(4, "little"))
    for kind in (streams.XAPI_STRUCTURED, streams.XAPI_LEGACY)
)
_XL_SWAPPED = int.from_bytes(streams.XL_BYTEORDER.to_bytes(4, "little"), "big")
_CHECKS = {
    (XL, "header"): "_xl_header",
    (XAPI, "header"): "_xapi_header",
    (LIBVIRT, "header"): "_libvirt_header",
    (LIBXL, "header"): "_libxl_header",
    (LIBXC, "image header"): "_image_header",
    (LIBXC, "domain header"): "_domain_header",
}
