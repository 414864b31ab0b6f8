"""All that is declared of save records, VMPORT and streams, as `Shape`s: structures that have a
name in any language, each after those that it holds. The writers of this room walk these.

Of one release a save record's structure ends where that release's record does, and records that
it does not know are left out. Streams are those of all releases.
"""

from __future__ import annotations

import re
from ctypes import BigEndianStructure, Union

from hvmctx.abi import streams, vmport, x86
from hvmctx.abi.declare import VMPORT_TYPECODE, RecordType
from hvmctx.abi.fields import Field, Layout
from hvmctx.abi.registry import record_types
from hvmctx.abi.releases import CPU_COMPAT_REFUSED, Release, lengths_of
from hvmctx.stream import libxc, libxl, xapi
from hvmctx.stream.body import BODIES, BodyType, Rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = [
    "ENTRY_HEADS", "MAGICS", "Declarations", "Saved", "Shape", "body_name", "code_of", "constants",
    "identifier",
]  # fmt: skip

assert libxc and libxl and xapi  # which have declared their bodies

MAGICS = {
    **streams.MAGICS,
    streams.LIBXL: streams.LIBXL_IDENT.to_bytes(8, "big"),
    streams.LIBXC: streams.LIBXC_MARKER.to_bytes(8, "big"),
}
"""Layer -> what it starts with; for libxl and libxc that is a field of their header."""


def identifier(text: str) -> str:
    """A name that is one in every language: `libxc_page_data` of "libxc PAGE_DATA".

    >>> identifier("_pad0"), identifier("x86 PV"), identifier("L1 table, pinned")
    ('pad0', 'x86_pv', 'l1_table_pinned')
    """
    return re.sub(r"\W+", "_", text).strip("_").lower()


def constants() -> dict[str, dict[int, str]]:
    """Name of a set of numbers -> each number -> its name."""
    return {
        "save_type": {kind.typecode: kind.name for kind in record_types()},
        **{f"{layer}_type": names for layer, names in streams.RECORDS.items()},
        "hvm_param": streams.HVM_PARAMS,
        "guest_type": streams.GUEST_TYPES,
        "page_type": streams.PAGE_TYPES,
        "emulator": streams.EMULATORS,
        "checkpoint_state": streams.CHECKPOINT_STATES,
        "vmport_proto": vmport.PROTOCOLS,
    }


def body_name(body: BodyType) -> str:
    """Of the type of a stream record's body."""
    return identifier(f"{body.layer}_{body.name}")


ENTRY_HEADS = {"vmport_entry": vmport.ENTRY_HEAD, "vmport_jumbo_entry": vmport.JUMBO_ENTRY_HEAD}
"""Of the two kinds of guestinfo entries: the lengths before key and value."""
_BIG_ENDIAN = {1: "B", 2: "H", 4: "I", 8: "Q"}


def code_of(field: Field) -> str:
    """The `struct` code of a number, or of the numbers of an array, in whatever byte order; empty
    for structures."""
    if field.code or hasattr(field.element, "_fields_"):
        return field.code
    return _BIG_ENDIAN[field.size // (field.count or 1)]


class Shape:
    """A structure. `fields` are its direct members, `size` its bytes, `least` those of them that
    every release writes; `words` say what it is."""

    __slots__ = ("big_endian", "fields", "is_union", "least", "name", "size", "words")

    def __init__(
        self, name: str, ctype: Any, *, size: int | None = None, least: int | None = None
    ) -> None:
        layout = Layout.of(ctype)
        self.name = name
        self.size = layout.size if size is None else size
        self.least = self.size if least is None else min(least, self.size)
        self.fields = tuple(field for field in layout.fields if field.offset < self.size)
        self.big_endian = issubclass(ctype, BigEndianStructure)
        self.is_union = issubclass(ctype, Union)
        self.words = " ".join((ctype.__doc__ or "").split())

    def __repr__(self) -> str:
        return f"<shape {self.name}, {self.size} bytes>"

    @property
    def padding(self) -> int:
        """Bytes at its end that no field has."""
        return self.size - max((field.offset + field.size for field in self.fields), default=0)

    def members(self) -> Iterator[tuple[Field, list[list[Field]]]]:
        """The fields, each with what else its bytes may be: of a union within, the other members,
        each a list of fields, as it may be several that share the bytes."""
        fields = list(self.fields)
        while fields:
            first = fields.pop(0)
            others: list[list[Field]] = []
            while fields and fields[0].alternate:
                if fields[0].offset == first.offset and not fields[0].shift:
                    others.append([])
                others[-1].append(fields.pop(0))
            yield first, others


class Saved:
    """A save record: its type, the shape of its fixed part (None where it has no body), that of the
    elements that follow (None for bytes and for none), and its lengths by the release since which
    they hold."""

    __slots__ = ("element", "kind", "lengths", "shape")

    def __init__(
        self, kind: RecordType, shape: Shape | None, element: Shape | None, lengths: dict[str, int]
    ) -> None:
        self.kind = kind
        self.shape = shape
        self.element = element
        self.lengths = lengths

    def __repr__(self) -> str:
        return f"<saved {self.kind.name}>"


class Declarations:
    """Everything, of one release or of all: `shapes` in an order in which each comes after what it
    holds, `saved` the save records, `compat` the CPU record of before 3.4 (None where the
    release refuses it), `headers` and `record_headers` as those of `abi.streams`, `bodies` the
    stream records whose bodies are known, with the shape of each head (None for an empty one);
    `saved_of` and `body_of` the save record, or the body, that has a shape at its start.

    >>> [shape.size for shape in Declarations(Release("4.6")).shapes if shape.name == "hvm_hw_cpu"]
    [1024]
    """

    def __init__(self, release: Release | None = None) -> None:
        self.release = release
        self._of: dict[Any, Shape] = {}
        self.descriptor = self._add(x86.hvm_save_descriptor)
        self.saved = list(self._saved())
        refuses = release is not None and str(release) in CPU_COMPAT_REFUSED
        self.compat = None if refuses else self._add(x86.hvm_hw_cpu_compat)
        self.headers = {place: self._add(flat.structure) for place, flat in streams.HEADERS.items()}
        self.record_headers = {
            layer: self._add(flat.structure) for layer, flat in streams.RECORD_HEADERS.items()
        }
        self.bodies = {
            place: (body, self._head(body))
            for place, body in sorted(BODIES.items())
            if place[1] in streams.RECORDS.get(place[0], ())
        }
        self.saved_of = {saved.shape: saved for saved in self.saved if saved.shape is not None}
        self.body_of = {head: body for body, head in self.bodies.values() if head is not None}

    @property
    def shapes(self) -> list[Shape]:
        return list(self._of.values())

    def shape_of(self, ctype: Any) -> Shape:
        """Of a structure that is declared."""
        return self._of[ctype]

    def _add(self, ctype: Any, name: str = "", **sizes: int | None) -> Shape:
        if ctype not in self._of:
            for field in Layout.of(ctype).fields:
                if hasattr(field.element, "_fields_"):
                    self._add(field.element)
            self._of[ctype] = Shape(name or identifier(ctype.__name__), ctype, **sizes)
        return self._of[ctype]

    def _saved(self) -> Iterator[Saved]:
        for kind in record_types():
            lengths = lengths_of(kind.name)
            size = None
            if self.release is not None and kind.typecode != VMPORT_TYPECODE:
                size = self.release.size_of(kind)
                if size is None:
                    continue
            least = min(lengths.values(), default=None) if size is None else size
            element = None
            if kind.rest is not None and hasattr(kind.rest[1], "_fields_"):
                element = self._add(kind.rest[1])
            shape = self._add(kind.struct, size=size, least=least) if kind.size else None
            yield Saved(kind, shape, element, lengths)

    def _head(self, body: BodyType) -> Shape | None:
        for part in body.rest:
            if isinstance(part, Rows):
                self._add(part.row.structure)
        if not body.head.size:
            return None
        return self._add(body.head.structure, body_name(body))
