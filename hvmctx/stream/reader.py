"""Framing without I/O: where every header and record of an image lies.

A `StreamReader` says how many bytes it needs next (`need`) and where they are (`offset`),
takes exactly those, and answers with what they are. The body of a record it never sees:
the caller reads or skips it, and hands the bytes at the new `offset`. One machine so
serves files by offset, pipes, and buffers.

An xl file holds a libxl stream, that a libxc stream, and behind the libxc END the libxl
records go on. In a checkpointed libxl stream libxl records also stand between a libxc
CHECKPOINT and the next libxc record; CHECKPOINT_END ends them (tools/libs/light, 4.6+).
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.streams import CONTEXT, LEGACY, LIBXC, LIBXL, XL, record_name
from hvmctx.errors import FormatError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CONTEXT", "LEGACY", "LIBXC", "LIBXL", "XL", "Header", "StreamReader", "StreamRecord",
    "record_name",
]  # fmt: skip

_PADDING = streams.RECORD_ALIGN - 1


class Header:
    """The header that opens a layer. `raw` are its bytes, `fields` what they say, by the
    names of `abi.streams`; `length` bytes of data follow it (the xl file's configuration,
    else none)."""

    __slots__ = ("fields", "layer", "length", "name", "offset", "raw")

    def __init__(self, layer: str, name: str, offset: int, raw: bytes, fields: dict[str, int]):
        self.layer = layer
        self.name = name
        self.offset = offset
        self.raw = raw
        self.fields = fields
        self.length = fields.get("optional_data_len", 0)

    def __repr__(self) -> str:
        return f"<{self.layer} {self.name} at {self.offset:#x}>"

    @property
    def body_offset(self) -> int:
        return self.offset + len(self.raw)

    @property
    def end(self) -> int:
        return self.body_offset + self.length


class StreamRecord:
    """One record: its layer, type, length of body, and offset of its header."""

    __slots__ = ("layer", "length", "offset", "type")

    def __init__(self, layer: str, number: int, length: int, offset: int) -> None:
        self.layer = layer
        self.type = number
        self.length = length
        self.offset = offset

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
    def optional(self) -> bool:
        """Bit 31: a libxc reader that does not know the type ignores the record."""
        return bool(self.type & streams.RECORD_OPTIONAL)

    @property
    def body_offset(self) -> int:
        return self.offset + streams.RECORD_HEADER.size

    @property
    def body_end(self) -> int:
        """The offset behind the body, where padding begins."""
        return self.body_offset + self.length

    @property
    def raw(self) -> bytes:
        """The bytes of its header."""
        return streams.RECORD_HEADER.pack(self.type, self.length)

    @property
    def padding(self) -> int:
        """Bytes between the body and the next record."""
        return -self.length & _PADDING

    @property
    def end(self) -> int:
        return self.body_end + self.padding


class StreamReader:
    """The machine. `layer` is where the input starts: xl, libxl or libxc.

    `need` is 0 once the stream has ended; `offset` is then where the rest of the input
    starts. `expecting` says in words what is needed.
    """

    def __init__(self, layer: str, offset: int = 0) -> None:
        self.offset = offset
        self.need = 0
        self.layer = layer
        self.expecting = ""
        self._wrapped = layer != LIBXC
        self._in_libxc = False
        self._parse: Callable[[bytes], Header | StreamRecord]
        self._expect(_FIRST[layer])

    def feed(self, data: bytes) -> Header | StreamRecord:
        """Take the `need` bytes at `offset`. Raises FormatError (nothing is consumed then)
        for a header that cannot be one of this format."""
        item = self._parse(data)
        self.offset = item.end
        return item

    def _expect(self, state: str) -> None:
        if state == "end":
            self.need = 0
            return
        self.layer, self.expecting, self.need = _STATES[state]
        self._parse = getattr(self, f"_{state}")

    def _wrong(
        self, problem: str, found: str, expected: str, kind: type[FormatError] = FormatError
    ) -> FormatError:
        return kind(
            problem, layer=self.layer, offset=self.offset, record=self.expecting,
            found=found, expected=expected,
        )  # fmt: skip

    def _header(self, raw: bytes, fields: dict[str, int]) -> Header:
        return Header(self.layer, self.expecting, self.offset, raw, fields)

    def _xl_header(self, data: bytes) -> Header:
        size = len(streams.XL_MAGIC)
        magic, fields = bytes(data[:size]), streams.XL_HEADER.decode(data[size:])
        if magic != streams.XL_MAGIC:
            raise self._wrong("wrong magic", repr(magic), repr(streams.XL_MAGIC))
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
        header = self._header(data, fields)
        self._expect(
            "libxl_header" if fields["mandatory_flags"] & streams.XL_FLAG_STREAM_V2 else "end"
        )
        return header

    def _libxl_header(self, data: bytes) -> Header:
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
        header = self._header(data, fields)
        self._expect("libxl_record")
        return header

    def _image_header(self, data: bytes) -> Header:
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
        header = self._header(data, fields)
        self._expect("domain_header")
        return header

    def _refuse_big_endian(self, options: int, flag: int) -> None:
        if options & flag:
            raise self._wrong(
                "the stream says that it is big-endian", f"options {options:#x}",
                "a little-endian stream", UnsupportedError,
            )  # fmt: skip

    def _domain_header(self, data: bytes) -> Header:
        header = self._header(data, streams.DOMAIN_HEADER.decode(data))
        self._in_libxc = True
        self._expect("libxc_record")
        return header

    def _libxl_record(self, data: bytes) -> StreamRecord:
        number, length = streams.RECORD_HEADER.unpack(data)
        record = StreamRecord(LIBXL, number, length, self.offset)
        if record.type == streams.LIBXL_END:
            self._expect("end")
        elif record.type == streams.LIBXL_LIBXC_CONTEXT:
            self._expect("image_header")
        elif record.type == streams.LIBXL_CHECKPOINT_END and self._in_libxc:
            self._expect("next_checkpoint")
        return record

    def _next_checkpoint(self, data: bytes) -> StreamRecord:
        """Between checkpoints a COLO primary says in libxl's words that a new one begins
        (libxl_colo_save.c); all else is libxc's. That number is also X86_PV_VCPU_EXTENDED's,
        whose body has a head of 8 bytes."""
        if streams.RECORD_HEADER.unpack(data) == (streams.LIBXL_CHECKPOINT_STATE, 4):
            return self._libxl_record(data)
        return self._libxc_record(data)

    def _libxc_record(self, data: bytes) -> StreamRecord:
        number, length = streams.RECORD_HEADER.unpack(data)
        record = StreamRecord(LIBXC, number, length, self.offset)
        if record.type == streams.LIBXC_END:
            self._in_libxc = False
            self._expect("libxl_record" if self._wrapped else "end")
        elif record.type == streams.LIBXC_CHECKPOINT and self._wrapped:
            self._expect("libxl_record")
        else:
            self._expect("libxc_record")
        return record


_XL_SWAPPED = int.from_bytes(streams.XL_BYTEORDER.to_bytes(4, "little"), "big")
_FIRST = {XL: "xl_header", LIBXL: "libxl_header", LIBXC: "image_header"}

_STATES = {
    "xl_header": (XL, "header", len(streams.XL_MAGIC) + streams.XL_HEADER.size),
    "libxl_header": (LIBXL, "header", streams.LIBXL_HEADER.size),
    "image_header": (LIBXC, "image header", streams.IMAGE_HEADER.size),
    "domain_header": (LIBXC, "domain header", streams.DOMAIN_HEADER.size),
    "libxl_record": (LIBXL, "record header", streams.RECORD_HEADER.size),
    "libxc_record": (LIBXC, "record header", streams.RECORD_HEADER.size),
    "next_checkpoint": (LIBXC, "record header", streams.RECORD_HEADER.size),
}
"""State -> layer, what it expects in words, bytes of it."""
