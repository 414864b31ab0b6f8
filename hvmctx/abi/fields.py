"""Reads ctypes declarations: which fields a structure has, where, and how to take all of
them out of bytes at once.

ctypes attribute reads cost a Python call each. A `Layout` turns a declaration into one
`struct.Struct`, so that a whole record is decoded by a single call into C. `Layout.format`
is such a format too, of the numbers of nested structures as well.

`Layout.fields` are the direct members, `Layout.leaves` what is left when all structures and
arrays of structures are taken apart: one walk, which all that needs places or paths uses.

Arrays of bytes are `bytes`, arrays of wider integers tuples, arrays of structures lists
of dictionaries. Of the members of a union the first declared is the one that decode and
encode use; the others are reached by path (`Layout.locate`).
"""

from __future__ import annotations

import ctypes
import struct
import sys

from hvmctx.errors import FieldError, UsageError
from hvmctx.messages import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeAlias

    Place: TypeAlias = "tuple[int, int, str, tuple[int, int] | None]"
    """Offset, size, code, and the bits of a number (shift, width) where not all."""
    Value: TypeAlias = "int | bytes | tuple[int, ...] | dict[str, Value] | list[dict[str, Value]]"
    """Of a field that is decoded."""

__all__ = ["Field", "Layout", "Slot", "decimal", "fields_of", "is_reserved", "misfit", "shown"]

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
if sys.byteorder == "big":  # there the members of a little-endian structure are of other types
    _CODES.update({vars(ctype)["__ctype_le__"]: code for ctype, code in _CODES.items()})
_STRUCTS = {code: struct.Struct("<" + code) for code in _CODES.values()}
_WINDOWS = {"1": "B", "2": "H", "4": "I", "8": "Q"}
"""Bytes of an array that are read as one number -> code."""
_RESERVED = frozenset(("pad", "res", "reserve", "reserved", "rsvd"))


def _bits_of(descriptor: Any) -> tuple[int, int]:
    """(shift, width) of a bit field. CPython up to 3.13 packs both into `size`."""
    if hasattr(descriptor, "bit_offset"):
        return descriptor.bit_offset, descriptor.bit_size
    return descriptor.size & 0xFFFF, descriptor.size >> 16


def is_reserved(name: str) -> bool:
    """Whether a field is padding or reserved, by the last word of its name."""
    return name.rpartition(".")[2].rpartition("_")[2].rstrip("0123456789") in _RESERVED


class Field:
    """A member of a structure, or a leaf of it: its name is then a path.

    `offset` and `size` are in bytes from the start of the structure; for a bit field they
    give the unit that holds it, and `shift`/`width` the bits. `count` is that of an array's
    elements, None where it is not an array; `element` their type, or the field's own; `code` the
    `struct` code of it where it is a number, empty where it is a structure. `alternate`
    marks the members of a union other than the first; `is_reserved` padding and what is
    reserved, so meant to be zero: the last word of its name says so (`_pad0`, `res4`,
    `reserve`, `pending_reserved`, `_rsvd`).
    """

    __slots__ = (
        "alternate",
        "code",
        "count",
        "ctype",
        "element",
        "name",
        "offset",
        "shift",
        "size",
        "width",
    )

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
        self.count: int | None = None
        self.element = ctype
        self.code = _CODES.get(ctype, "")
        if not self.code and issubclass(ctype, ctypes.Array):
            array: Any = ctype  # type checkers take both for properties
            self.count, self.element = array._length_, array._type_
            self.code = _CODES.get(self.element, "")

    @property
    def is_reserved(self) -> bool:
        return is_reserved(self.name)

    @property
    def is_bits(self) -> bool:
        return self.width != 8 * self.size

    @property
    def is_bytes(self) -> bool:
        """An array of bytes: one value, not one each."""
        return self.count is not None and self.code == "B"

    @property
    def format(self) -> str:
        """The `struct` format of a leaf that is not a bit field."""
        if self.count is None:
            return self.code
        return f"{self.count}{'s' if self.is_bytes else self.code}"

    def slots(self) -> Iterator[Slot]:
        """Of a leaf: where its value is, or those of an array's elements."""
        if self.is_bytes:
            yield Slot(self.name, self.offset, self.size, "s")
        elif self.count is None:
            yield Slot(self.name, self.offset, self.size, self.code, (self.shift, self.width))
        else:
            size = ctypes.sizeof(self.element)
            for at in range(self.count):
                yield Slot(f"{self.name}[{at}]", self.offset + at * size, size, self.code)

    def _leaves(self, prefix: str, base: int) -> Iterator[Field]:
        """The leaves of the field, as seen from a structure that has it at `prefix`, `base`."""
        name, offset = prefix + self.name, base + self.offset
        if self.code:
            bits = (self.shift, self.width) if self.is_bits else None
            yield Field(name, self.ctype, offset, bits, self.alternate)
        elif not self.alternate:
            layout = Layout.of(self.element)
            for at in range(1 if self.count is None else self.count):
                index = "" if self.count is None else f"[{at}]"
                for field in layout.fields:
                    yield from field._leaves(f"{name}{index}.", offset + at * layout.size)


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

    __slots__ = ("code", "offset", "path", "shift", "size", "width")

    def __init__(
        self, path: str, offset: int, size: int, code: str, bits: tuple[int, int] | None = None
    ) -> None:
        """`code` is that of `struct`, "s" for all bytes of an array."""
        self.path = path
        self.offset = offset
        self.size = size
        self.code = code
        self.shift, self.width = bits or (0, 8 * size)

    @property
    def is_bytes(self) -> bool:
        """An array of bytes, not a number."""
        return self.code == "s"

    @property
    def signed(self) -> bool:
        return self.code.islower() and not self.is_bytes

    @property
    def is_whole(self) -> bool:
        """Not some bits of a number."""
        return self.width == 8 * self.size

    @property
    def _struct(self) -> struct.Struct:
        return _STRUCTS.get(self.code) or struct.Struct(f"<{self.size}s")

    def get(self, body: Any) -> Any:
        """The value, an int or bytes. `body` must reach `offset + size`."""
        (value,) = self._struct.unpack_from(body, self.offset)
        if not self.is_whole:
            return value >> self.shift & (1 << self.width) - 1
        return value

    def put(self, body: bytearray, value: int | bytes | bytearray) -> None:
        """Write `value` in place. Raises FieldError when it does not fit, or the body does
        not reach the field."""
        if self.offset + self.size > len(body):
            raise FieldError(f"{self.path} is beyond the end, at {len(body)} bytes")
        if self.is_bytes:
            if not isinstance(value, (bytes, bytearray)) or len(value) != self.size:
                raise FieldError(f"{self.path} takes exactly {self.size} bytes")
            body[self.offset : self.offset + self.size] = value
            return
        if not isinstance(value, int):
            raise FieldError(f"{self.path} takes a number")
        reason = misfit(self.path, value, self.width, signed=self.signed)
        if reason:
            raise FieldError(reason)
        if not self.is_whole:
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


def misfit(name: str, value: object, width: int, *, signed: bool = False, text: str = "") -> str:
    """Why a value cannot be that of the field `name` of `width` bits, empty where it can.
    `text` is how a message has the value, where not in hex."""
    low = -(1 << width - 1) if signed else 0
    if isinstance(value, int) and low <= value < low + (1 << width):
        return ""
    text = text or (shown(value) if isinstance(value, int) else repr(value))
    kind = f"a signed {width}" if signed else f"{'an' if width == 8 else 'a'} {width}"
    return f"{name} is {kind}-bit field: {text} does not fit"


def _element_at(field: Field, index: str, path: str) -> int:
    """Where the element of that index starts in a field; 0 where it is not an array."""
    if field.count is None:
        if index:
            raise UsageError(f"{path}: {field.name} is not an array")
        return 0
    if not index:
        raise UsageError(f"{path}: {field.name} is an array of {field.count}: add [n]")
    return _index(index, field.count, path) * (field.size // field.count)


def _index(text: str, count: int, path: str) -> int:
    try:
        index = int(text, 0)
    except ValueError:
        raise UsageError(f"{path}: {text!r} is not an index") from None
    if not 0 <= index < count:
        raise UsageError(f"{path}: index {shown(index)} is beyond the last, {count - 1:#x}")
    return index


class Layout:
    """Everything that is known of one structure from its declaration."""

    _cache: dict[Any, Layout] = {}

    def __init__(self, ctype: Any) -> None:
        self.ctype = ctype
        self.size = ctypes.sizeof(ctype)
        self.fields = tuple(fields_of(ctype))
        self._by_name = {field.name: field for field in self.fields}
        self._leaves: tuple[Field, ...] | None = None
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
        format, end = "<", 0
        for leaf in self.leaves():
            if not leaf.alternate:
                assert not leaf.is_bits
                # a union whose first member is not the largest leaves a gap
                gap = leaf.offset - end
                format += f"{gap}x" if gap else ""
                format += f"{leaf.size}x" if leaf.is_reserved else leaf.format
                end = leaf.offset + leaf.size
        return f"{format}{self.size - end}x" if self.size > end else format

    def leaves(self) -> tuple[Field, ...]:
        """All that is not a structure: numbers, bits, arrays of numbers, each with its path as
        its name (`timers[1].cmp`) and its offset from the start of the structure, by rising
        offset. Of a union's other members (`alternate`) those that are not structures."""
        if self._leaves is None:
            self._leaves = tuple(leaf for field in self.fields for leaf in field._leaves("", 0))
        return self._leaves

    def slots(self) -> Iterator[Slot]:
        """The slot of each value that `format` gives, in its order."""
        return self._slots(False)

    def reserved(self) -> Iterator[Slot]:
        """The slots of what `format` skips."""
        return self._slots(True)

    def _slots(self, reserved: bool) -> Iterator[Slot]:
        for leaf in self.leaves():
            if not leaf.alternate and leaf.is_reserved == reserved:
                yield from leaf.slots()

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
                raise FieldError(f"{where}{name}: unknown field")
            _encode_field(field, body, base, value, f"{where}{name}")

    def locate(self, path: str) -> Slot:
        """The slot that a path names: `rip`, `channels[2].mode`, `data[0x20]`, and
        `data[0x20:+4]` for four bytes read as one little-endian integer.

        Raises UsageError for a path that names nothing, or more than one integer or
        array of bytes."""
        offset, size, code, bits = self.place(path)
        return Slot(path, offset, size, code, bits)

    def place(self, path: str) -> Place:
        """What makes the slot that a path names."""
        layout, base, dot, rest = self, 0, ".", path
        while dot:
            step, dot, rest = rest.partition(".")
            name, bracket, index = step.partition("[")
            if bracket:
                if index[-1:] != "]":
                    raise UsageError(f"{path}: '[' without ']'")
                index = index[:-1]
            field = layout._by_name.get(name)
            if field is None:
                guess = did_you_mean(name, layout._by_name)
                raise UsageError(f"{path}: no field {name!r} in {layout.ctype.__name__}{guess}")
            base += field.offset
            size = field.size
            if bracket or field.count is not None:
                if not dot and field.is_bytes and not index:
                    return base, size, "s", None
                if not dot and field.count is not None and ":+" in index:
                    return _window(path, field, base, index)
                base += _element_at(field, index, path)
                size //= field.count or 1
            if field.code:
                if dot:
                    raise UsageError(f"{path}: {name} has no fields")
                return base, size, field.code, (field.shift, field.width) if field.is_bits else None
            layout = Layout.of(field.element)
        names = ", ".join(field.name for field in layout.fields)
        raise UsageError(f"{path}: expected one of its fields: {names}")

    def paths(self) -> Iterator[str]:
        """The path of every integer and byte array of the structure, unions' other
        members left out."""
        for leaf in self.leaves():
            if not leaf.alternate:
                yield from (slot.path for slot in leaf.slots())


def _window(path: str, field: Field, base: int, index: str) -> Place:
    start_text, _, size_text = index.partition(":+")
    start = _index(start_text, field.size, path)
    code = _WINDOWS.get(size_text)
    if code is None or start + int(size_text) > field.size:
        raise UsageError(f"{path}: the part after ':+' must be 1, 2, 4 or 8 bytes within the array")
    return base + start, int(size_text), code, None


def _encode_field(field: Field, body: bytearray, base: int, value: Any, where: str) -> None:
    offset = base + field.offset
    if field.is_bytes and isinstance(value, (bytes, bytearray)):
        Slot(where, offset, field.size, "s").put(body, value)
    elif field.count is None:
        bits = (field.shift, field.width) if field.is_bits else None
        _encode_element(field, body, offset, value, where, bits)
    else:
        if not isinstance(value, (list, tuple)) or len(value) != field.count:
            raise FieldError(f"{where} takes {field.count} values")
        size = ctypes.sizeof(field.element)
        for at, element in enumerate(value):
            _encode_element(field, body, offset + at * size, element, f"{where}[{at}]")


def _encode_element(
    field: Field,
    body: bytearray,
    offset: int,
    value: Any,
    where: str,
    bits: tuple[int, int] | None = None,
) -> None:
    if field.code:
        Slot(where, offset, ctypes.sizeof(field.element), field.code, bits).put(body, value)
    else:
        Layout.of(field.element)._encode_into(body, offset, value, f"{where}.")


class _Plan:
    """How to decode a structure: one `struct` format, and what to do afterwards to the
    few values that are not plain integers."""

    __slots__ = ("bits", "decode", "fixes", "iter_unpack", "names", "order", "unpack_from")

    def __init__(self, layout: Layout) -> None:
        self.names: list[str] = []
        self.fixes: list[tuple[str, Callable[[Any], Any]]] = []
        self.bits: list[tuple[str, list[tuple[str, int, int]]]] = []
        self.order: list[str] = []
        format = "<"
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
                format += field.code
            else:
                self.names.append(field.name)
                format += self._code(field)
            assert field.offset == end, "padding must be declared"
            end = field.offset + field.size
        format += f"{layout.size - end}x" if layout.size > end else ""  # of a union's larger member
        whole = struct.Struct(format)
        self.unpack_from, self.iter_unpack = whole.unpack_from, whole.iter_unpack
        self.decode = self._decoder()

    def _code(self, field: Field) -> str:
        if field.code and (field.count is None or field.is_bytes):
            return field.format
        if field.code:
            self.fixes.append((field.name, struct.Struct("<" + field.format).unpack))
        elif field.count is None:
            self.fixes.append((field.name, Layout.of(field.element).decode))
        else:
            self.fixes.append((field.name, _elements(Layout.of(field.element))))
        return f"{field.size}s"

    def _decoder(self) -> Callable[[Any], dict[str, Any]]:
        """A closure, as most of the time goes into finding attributes otherwise."""
        names, fixes, bits, order = self.names, self.fixes, self.bits, self.order
        unpack_from = self.unpack_from

        def plain(body: Any) -> dict[str, Any]:
            return dict(zip(names, unpack_from(body)))

        def fixed(body: Any) -> dict[str, Any]:
            values = dict(zip(names, unpack_from(body)))
            for name, fix in fixes:
                values[name] = fix(values[name])
            return values

        def with_bits(body: Any) -> dict[str, Any]:
            values = fixed(body)
            for unit, fields in bits:
                word = values.pop(unit)
                for name, shift, mask in fields:
                    values[name] = word >> shift & mask
            return {name: values[name] for name in order}

        return with_bits if bits else fixed if fixes else plain


def _elements(layout: Layout) -> Callable[[bytes], list[dict[str, Any]]]:
    plan, size = layout.plan, layout.size
    if plan.fixes or plan.bits:
        decode = plan.decode
        return lambda raw: [decode(raw[at : at + size]) for at in range(0, len(raw), size)]
    names, iter_unpack = plan.names, plan.iter_unpack
    if len(names) == 1:
        (name,) = names
        return lambda raw: [{name: value} for (value,) in iter_unpack(raw)]
    return lambda raw: [dict(zip(names, values)) for values in iter_unpack(raw)]
