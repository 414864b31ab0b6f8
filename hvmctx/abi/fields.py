"""Reads ctypes declarations: which fields a structure has, where, and how to take all of
them out of bytes at once.

ctypes attribute reads cost a Python call each. A `Layout` turns a declaration into one
`struct.Struct`, so that a whole record is decoded by a single call into C. `Layout.format`
is such a format too, of the numbers of nested structures as well.

Arrays of bytes are `bytes`, arrays of wider integers tuples, arrays of structures lists
of dictionaries. Of the members of a union the first declared is the one that decode and
encode use; the others are reached by path (`Layout.locate`).
"""

from __future__ import annotations

import ctypes
import struct

from hvmctx.errors import FieldError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_CODES = {
    ctypes.c_uint8: "B",
    ctypes.c_int8: "b",
    ctypes.c_uint16: "H",
    ctypes.c_int16: "h",
    ctypes.c_uint32: "I",
    ctypes.c_int32: "i",
    ctypes.c_uint64: "Q",
    ctypes.c_int64: "q",
}
_STRUCTS = {code: struct.Struct("<" + code) for code in _CODES.values()}
_STRUCTURED = (ctypes.Structure, ctypes.Union)
_RESERVED = frozenset(("pad", "res", "reserve", "reserved", "rsvd"))


def _is_array(ctype: Any) -> bool:
    return issubclass(ctype, ctypes.Array)


def _bits_of(descriptor: Any) -> tuple[int, int]:
    """(shift, width) of a bit field. CPython up to 3.13 packs both into `size`."""
    if hasattr(descriptor, "bit_offset"):
        return descriptor.bit_offset, descriptor.bit_size
    return descriptor.size & 0xFFFF, descriptor.size >> 16


class Field:
    """One integer, bit field, or array, within a structure.

    `offset` and `size` are in bytes from the start of the structure; for a bit field they
    give the unit that holds it, and `shift`/`width` the bits. `alternate` marks the
    members of a union other than the first.
    """

    __slots__ = ("alternate", "ctype", "name", "offset", "shift", "size", "width")

    def __init__(
        self,
        name: str,
        ctype: Any,
        offset: int,
        bits: tuple[int, int] | None,
        alternate: bool,
    ) -> None:
        self.name = name
        self.ctype = ctype
        self.offset = offset
        self.size = ctypes.sizeof(ctype)
        self.shift, self.width = bits or (0, 8 * self.size)
        self.alternate = alternate

    @property
    def is_bits(self) -> bool:
        return self.width != 8 * self.size

    @property
    def is_reserved(self) -> bool:
        """Padding or reserved, so meant to be zero."""
        return is_reserved(self.name)


def is_reserved(name: str) -> bool:
    """Whether a field is padding or reserved: the last word of its name says so (`_pad0`,
    `res4`, `reserve`, `pending_reserved`, `_rsvd`)."""
    return name.rpartition("_")[2].rstrip("0123456789") in _RESERVED


def fields_of(ctype: Any, base: int = 0, alternate: bool = False) -> Iterator[Field]:
    """The direct members of a structure, those of anonymous members included, in declared
    order. `_fields_` of base classes come first, as ctypes lays them out."""
    declared = [entry for cls in reversed(ctype.__mro__) for entry in vars(cls).get("_fields_", ())]
    anonymous = {name for cls in ctype.__mro__ for name in vars(cls).get("_anonymous_", ())}
    is_union = issubclass(ctype, ctypes.Union)
    for number, (name, member, *bits) in enumerate(declared):
        descriptor = getattr(ctype, name)
        other = alternate or (is_union and number > 0)
        if name in anonymous:
            yield from fields_of(member, base + descriptor.offset, other)
        else:
            yield Field(
                name,
                member,
                base + descriptor.offset,
                _bits_of(descriptor) if bits else None,
                other,
            )


class Slot:
    """A place in a record that can be read and written: the target of a field path."""

    __slots__ = ("_struct", "is_bytes", "offset", "path", "shift", "signed", "size", "width")

    def __init__(
        self, path: str, offset: int, size: int, code: str, bits: tuple[int, int] | None = None
    ) -> None:
        self.path = path
        self.offset = offset
        self.size = size
        self.is_bytes = code == "s"
        self.signed = code.islower() and not self.is_bytes
        self.shift, self.width = bits or (0, 8 * size)
        self._struct = struct.Struct(f"<{size}s") if self.is_bytes else _STRUCTS[code]

    def get(self, body: Any) -> Any:
        """The value, an int or bytes. `body` must reach `offset + size`."""
        (value,) = self._struct.unpack_from(body, self.offset)
        if self.width != 8 * self.size:
            return value >> self.shift & (1 << self.width) - 1
        return value

    def put(self, body: bytearray, value: int | bytes | bytearray) -> None:
        """Write `value` in place. Raises FieldError when it does not fit, or the body does
        not reach the field."""
        if self.offset + self.size > len(body):
            raise FieldError(f"{self.path} lies beyond the {len(body)} bytes that there are")
        if self.is_bytes:
            if not isinstance(value, (bytes, bytearray)) or len(value) != self.size:
                raise FieldError(f"{self.path} takes exactly {self.size} bytes")
            body[self.offset : self.offset + self.size] = value
            return
        if not isinstance(value, int):
            raise FieldError(f"{self.path} takes a number")
        low, high = (
            (-(1 << self.width - 1), (1 << self.width - 1) - 1)
            if self.signed
            else (0, (1 << self.width) - 1)
        )
        if not low <= value <= high:
            kind = "signed " if self.signed else ""
            raise FieldError(
                f"{self.path} is a {kind}{self.width}-bit field: {shown(value)} does not fit"
            )
        if self.width != 8 * self.size:
            (unit,) = self._struct.unpack_from(body, self.offset)
            mask = (1 << self.width) - 1 << self.shift
            value = unit & ~mask | value << self.shift
        self._struct.pack_into(body, self.offset, value)


def decimal(text: str) -> int | None:
    """A decimal number of at most 64 bits' digits; None for anything else (`int` raises for
    digits of other scripts, and for thousands of digits)."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None


_LONGEST_SHOWN = 24


def shown(number: int) -> str:
    """A number as a message has it: hex (Python writes no number of thousands of digits in
    decimal), and of one far beyond any field only the start."""
    text = f"{number:#x}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _index(text: str, count: int, path: str) -> int:
    try:
        index = int(text, 0)
    except ValueError:
        raise UsageError(f"{path}: {text!r} is not an index") from None
    if not 0 <= index < count:
        raise UsageError(f"{path}: index {shown(index)} is beyond the last, {count - 1:#x}")
    return index


def _split(path: str) -> list[tuple[str, str]]:
    """`timers[1].cmp` -> [("timers", "1"), ("cmp", "")]."""
    steps = []
    for part in path.split("."):
        name, bracket, rest = part.partition("[")
        if bracket and not rest.endswith("]"):
            raise UsageError(f"{path}: '[' without ']'")
        steps.append((name, rest[:-1]))
    return steps


class Layout:
    """Everything that is known of one structure from its declaration."""

    _cache: dict[Any, Layout] = {}

    def __init__(self, ctype: Any) -> None:
        self.ctype = ctype
        self.size = ctypes.sizeof(ctype)
        self.fields = tuple(fields_of(ctype))
        self._by_name = {field.name: field for field in self.fields}
        self._plan: _Plan | None = None

    @classmethod
    def of(cls, ctype: Any) -> Layout:
        """The layout of a ctypes structure or union; the same one for the same class."""
        layout = cls._cache.get(ctype)
        if layout is None:
            if len(cls._cache) > 256:  # classes sized by input lengths must not pile up
                cls._cache.clear()
            layout = cls._cache[ctype] = cls(ctype)
        return layout

    @property
    def plan(self) -> _Plan:
        """How `decode` goes about it: made once."""
        if self._plan is None:
            self._plan = _Plan(self)
        return self._plan

    @property
    def format(self) -> str:
        """The `struct` format of all numbers and byte arrays in order, those of nested
        structures and of arrays' elements too: the values of `slots`, in one call. Little-
        endian; what is reserved is skipped. Of a structure without bit fields."""
        return "<" + _format(self.ctype)

    def slots(self) -> Iterator[Slot]:
        """The slot of each value that `format` gives, in its order."""
        return (self.locate(path) for path, field in self.places() if not field.is_reserved)

    def reserved(self) -> Iterator[Slot]:
        """The slots of what `format` skips."""
        return (self.locate(path) for path, field in self.places() if field.is_reserved)

    def decode(self, body: Any) -> dict[str, Any]:
        """All fields of exactly `size` bytes, by name, in declared order."""
        return self.plan.decode(body)

    def encode(self, values: dict[str, Any], where: str = "") -> bytes:
        """The inverse of `decode`. Fields left out are zero. Raises FieldError for a value
        that does not fit and for a name that is not a field."""
        body = bytearray(self.size)
        self._encode_into(body, 0, values, where)
        return bytes(body)

    def _encode_into(self, body: bytearray, base: int, values: dict[str, Any], where: str) -> None:
        if not isinstance(values, dict):
            raise FieldError(f"{where or 'record'}: found {type(values).__name__}, expected fields")
        for name, value in values.items():
            field = self._by_name.get(name)
            if field is None:
                raise FieldError(f"{where}{name}: no such field")
            _encode_field(field, body, base, value, f"{where}{name}")

    def locate(self, path: str) -> Slot:
        """The slot that a path names: `rip`, `channels[2].mode`, `data[0x20]`, and
        `data[0x20:+4]` for four bytes read as one little-endian integer.

        Raises UsageError for a path that names nothing, or more than one integer or
        array of bytes."""
        simple = self._by_name.get(path)
        if simple is not None and simple.ctype in _CODES and not simple.is_bits:
            return Slot(path, simple.offset, simple.size, _CODES[simple.ctype])
        ctype, base = self.ctype, 0
        steps = _split(path)
        for number, (name, index) in enumerate(steps):
            last = number == len(steps) - 1
            field = Layout.of(ctype)._by_name.get(name)
            if field is None:
                raise UsageError(f"{path}: no field {name!r} in {ctype.__name__}")
            base += field.offset
            ctype = field.ctype
            if _is_array(ctype):
                if ":+" in index and last:
                    return self._window(path, field, base, index)
                if index:
                    base += _index(index, ctype._length_, path) * ctypes.sizeof(ctype._type_)
                    ctype = ctype._type_
                elif last and ctype._type_ is ctypes.c_uint8:
                    return Slot(path, base, field.size, "s")
                else:
                    raise UsageError(f"{path}: {name} is an array of {ctype._length_}: add [n]")
            elif index:
                raise UsageError(f"{path}: {name} is not an array")
            if last and ctype in _CODES:
                bits = (field.shift, field.width) if field.is_bits else None
                return Slot(path, base, ctypes.sizeof(ctype), _CODES[ctype], bits)
            if not issubclass(ctype, _STRUCTURED):
                raise UsageError(f"{path}: {name} has no fields")
        names = ", ".join(field.name for field in Layout.of(ctype).fields)
        raise UsageError(f"{path}: name one of its fields: {names}")

    @staticmethod
    def _window(path: str, field: Field, base: int, index: str) -> Slot:
        start_text, _, size_text = index.partition(":+")
        start = _index(start_text, field.size, path)
        codes = {"1": "B", "2": "H", "4": "I", "8": "Q"}
        if size_text not in codes or start + int(size_text) > field.size:
            raise UsageError(
                f"{path}: the part behind ':+' is 1, 2, 4 or 8 bytes, within the array"
            )
        return Slot(path, base + start, int(size_text), codes[size_text])

    def paths(self) -> Iterator[str]:
        """The path of every integer and byte array of the structure, unions' other
        members left out."""
        return (path for path, _ in self.places())

    def places(self) -> Iterator[tuple[str, Field]]:
        """Those paths, each with the field that it ends in (of an element, its array)."""
        for field in self.fields:
            if not field.alternate:
                yield from _places(field.name, field, field.ctype)


def _places(prefix: str, field: Field, ctype: Any) -> Iterator[tuple[str, Field]]:
    if _is_array(ctype) and ctype._type_ is not ctypes.c_uint8:
        for index in range(ctype._length_):
            yield from _places(f"{prefix}[{index}]", field, ctype._type_)
    elif issubclass(ctype, _STRUCTURED):
        for path, inner in Layout.of(ctype).places():
            yield f"{prefix}.{path}", inner
    else:
        yield prefix, field


def _format(ctype: Any) -> str:
    if ctype in _CODES:
        return _CODES[ctype]
    if _is_array(ctype):
        count: int = ctype._length_
        return f"{count}s" if ctype._type_ is ctypes.c_uint8 else _format(ctype._type_) * count
    form, end = "", 0
    for field in Layout.of(ctype).fields:
        if not field.alternate:
            assert field.offset == end and not field.is_bits
            form += f"{field.size}x" if field.is_reserved else _format(field.ctype)
            end += field.size
    rest = ctypes.sizeof(ctype) - end  # of a union whose first member is not the largest
    return f"{form}{rest}x" if rest else form


def _encode_field(field: Field, body: bytearray, base: int, value: Any, where: str) -> None:
    ctype, offset = field.ctype, base + field.offset
    if ctype in _CODES:
        bits = (field.shift, field.width) if field.is_bits else None
        Slot(where, offset, field.size, _CODES[ctype], bits).put(body, value)
    elif issubclass(ctype, _STRUCTURED):
        Layout.of(ctype)._encode_into(body, offset, value, f"{where}.")
    elif ctype._type_ is ctypes.c_uint8 and isinstance(value, (bytes, bytearray)):
        Slot(where, offset, field.size, "s").put(body, value)
    else:
        if not isinstance(value, (list, tuple)) or len(value) != ctype._length_:
            raise FieldError(f"{where} takes {ctype._length_} values")
        size = ctypes.sizeof(ctype._type_)
        for index, element in enumerate(value):
            at = f"{where}[{index}]"
            if ctype._type_ in _CODES:
                Slot(at, offset + index * size, size, _CODES[ctype._type_]).put(body, element)
            else:
                layout = Layout.of(ctype._type_)
                layout._encode_into(body, offset + index * size, element, f"{at}.")


class _Plan:
    """How to decode a structure: one `struct` format, and what to do afterwards to the
    few values that are not plain integers."""

    __slots__ = ("bits", "fixes", "names", "order", "unpack_from")

    def __init__(self, layout: Layout) -> None:
        self.names: list[str] = []
        self.fixes: list[tuple[str, Callable[[Any], Any]]] = []
        self.bits: list[tuple[str, list[tuple[str, int, int]]]] = []
        self.order: list[str] = []
        form = "<"
        end = 0
        for field in layout.fields:
            if field.alternate:
                continue
            self.order.append(field.name)
            if field.is_bits:
                entry = (field.name, field.shift, (1 << field.width) - 1)
                if field.offset < end:  # a further field of the unit just read
                    self.bits[-1][1].append(entry)
                    continue
                unit = f"<bits at {field.offset}>"
                self.bits.append((unit, [entry]))
                self.names.append(unit)
                form += _CODES[field.ctype]
            else:
                self.names.append(field.name)
                form += self._code(field)
            assert field.offset == end, "padding must be declared"
            end = field.offset + field.size
        self.unpack_from = struct.Struct(form).unpack_from

    def _code(self, field: Field) -> str:
        ctype = field.ctype
        if ctype in _CODES:
            return _CODES[ctype]
        if issubclass(ctype, _STRUCTURED):
            self.fixes.append((field.name, Layout.of(ctype).decode))
        elif ctype._type_ in _CODES:
            if ctype._type_ is not ctypes.c_uint8:
                code = _CODES[ctype._type_]
                self.fixes.append((field.name, struct.Struct(f"<{ctype._length_}{code}").unpack))
        else:
            self.fixes.append((field.name, _elements(Layout.of(ctype._type_))))
        return f"{field.size}s"

    def decode(self, body: Any) -> dict[str, Any]:
        values: dict[str, Any] = dict(zip(self.names, self.unpack_from(body)))
        for name, fix in self.fixes:
            values[name] = fix(values[name])
        if self.bits:
            for unit, fields in self.bits:
                word = values.pop(unit)
                for name, shift, mask in fields:
                    values[name] = word >> shift & mask
            return {name: values[name] for name in self.order}
        return values


def _elements(layout: Layout) -> Callable[[bytes], list[dict[str, Any]]]:
    plan = layout.plan
    if plan.fixes or plan.bits:
        size = layout.size
        return lambda raw: [
            plan.decode(raw[start : start + size]) for start in range(0, len(raw), size)
        ]
    names = plan.names
    form = struct.Struct("<" + "".join(_CODES[f.ctype] for f in layout.fields if not f.alternate))
    return lambda raw: [dict(zip(names, values)) for values in form.iter_unpack(raw)]
