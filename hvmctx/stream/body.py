"""How the body of a record is declared, and what follows from it: reading and writing.

A body is a head of numbers and what follows it. Both are declared once, by the annotations
of a class under `Body`:

    class MsrPolicy(Body, layer=LIBXC, number=streams.LIBXC_X86_MSR_POLICY):
        msrs: Annotated[list[tuple[int, int, int]], Rows(policy_msr)]

`u8` to `u64` are numbers of the head, in their order in the record, with no padding between
them; a head that others need too is declared apart, and given as `head`. `Rows`, `Words`,
`Bytes`, `Chars` and `Strings` say what follows the head, wherever they stand among the annotations.
`Body.TYPE` is the whole as data (`BodyType`): the head as a ctypes structure, as the save
records have it, the kinds of what follows, and sizes. JSON, schema, texts and differences
take names and sizes from there.

Reading refuses only what cannot be taken apart. Little-endian throughout.
"""

from __future__ import annotations

import struct
import sys
from array import array
from ctypes import c_uint8, c_uint16, c_uint32, c_uint64, sizeof

from hvmctx.abi.declare import SaveStructure
from hvmctx.abi.fields import is_reserved
from hvmctx.abi.streams import Flat, record_name
from hvmctx.errors import FormatError, LengthError, TruncatedError
from hvmctx.limits import DEFAULT
from hvmctx.stream.pages import bytes_of, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Sequence
    from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar

    from typing_extensions import dataclass_transform

    from hvmctx.limits import Limits

    Buffer: TypeAlias = bytes | memoryview
    WordArray: TypeAlias = "array[int]"
    _Self = TypeVar("_Self", bound="Body")
else:

    class Annotated:
        """That of `typing`, whose import would take a tenth of a command's time."""

        def __class_getitem__(cls, item):
            note = cls()
            note.__metadata__ = item[1:]
            return note

    WordArray = array  # which has no [int] before Python 3.12

    def dataclass_transform() -> Any:
        """That of `typing`, which Python has from 3.11 on: for type checkers only."""
        return lambda cls: cls


__all__ = [
    "BODIES", "Body", "BodyType", "Bytes", "Chars", "Rest", "Rows", "Strings", "WordArray",
    "Words", "is_bytes", "u8", "u16", "u32", "u64",
]  # fmt: skip

u8 = Annotated[int, c_uint8]
u16 = Annotated[int, c_uint16]
u32 = Annotated[int, c_uint32]
u64 = Annotated[int, c_uint64]


class Rest:
    """What follows the head of a body: a kind, and the model's field that holds it.

    `element` are the bytes of one element (1 for plain bytes), `least` the fewest bytes
    in all, `count` the number in the head that says how many there are ("" where the length
    does)."""

    name = ""
    element = 1
    least = 0
    count = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def read(self, body: BodyType, data: Buffer, limits: Limits) -> Any:
        """The field's value out of all of `data`. Raises LengthError, LimitError, FormatError."""
        raise NotImplementedError

    def write(self, body: BodyType, value: Any) -> Buffer:
        """The inverse. Raises FieldError."""
        raise NotImplementedError


class Bytes(Rest):
    """Bytes of somebody else's: a view of the body, where that was read from one."""

    def __init__(self, least: int = 0) -> None:
        self.least = least

    def read(self, body: BodyType, data: Buffer, limits: Limits) -> Buffer:
        return data

    def write(self, body: BodyType, value: Buffer) -> Buffer:
        return value


class Chars(Bytes):
    """The same of a text, of whatever characters."""


class Words(Rest):
    """u64s, as an `array`."""

    element = sizeof(c_uint64)

    def __init__(self, count: str = "") -> None:
        self.count = count

    def read(self, body: BodyType, data: Buffer, limits: Limits) -> array[int]:
        body.need_whole(self, data)
        return words_of(data)

    def write(self, body: BodyType, value: array[int]) -> bytes:
        return bytes_of(value)


class Rows(Rest):
    """Structures of numbers, one after the other: a list of tuples."""

    def __init__(self, structure: type[ctypes.Structure], count: str = "") -> None:
        self.row = Flat(structure)
        self.element = self.row.size
        self.count = count

    def read(self, body: BodyType, data: Buffer, limits: Limits) -> list[tuple[int, ...]]:
        body.need_whole(self, data)
        if len(data) > limits.rows * self.element:
            raise limits.over("rows", "rows", layer=body.layer, offset=0, record=body.name)
        return list(self.row.iter_unpack(data))

    def write(self, body: BodyType, value: Sequence[Sequence[int]]) -> bytes:
        try:
            return b"".join([self.row.pack(*row) for row in value])
        except struct.error:
            for at, row in enumerate(value):
                self.row.encode_values(row, f"{body.name}: {self.name}[{at}]: ")
            raise


class Strings(Rest):
    """Strings that end in a NUL each, in pairs of a key and a value."""

    def read(self, body: BodyType, data: Buffer, limits: Limits) -> list[tuple[bytes, bytes]]:
        text, end = bytes(data), body.head.size + len(data)
        if text.count(b"\0") > 2 * limits.rows:
            raise limits.over("rows", "rows", layer=body.layer, offset=0, record=body.name)
        if text and not text.endswith(b"\0"):
            raise body.wrong("the last string is not terminated", end, "a NUL")
        strings = text.split(b"\0")[:-1]
        if len(strings) % 2:
            raise body.wrong("a key without a value", end, "an even number of strings")
        return list(zip(strings[::2], strings[1::2]))

    def write(self, body: BodyType, value: Sequence[tuple[bytes, bytes]]) -> bytes:
        return b"".join(key + b"\0" + text + b"\0" for key, text in value)


class BodyType:
    """A record type's body as data.

    `fields` are the model's, in its order, each with its ctypes number or its `Rest`; `head`
    the numbers in their order in the record (`head.structure` as a ctypes structure; a count
    in it is no field of the model: it follows from what is counted); `rest` is what follows,
    most often one part or none; `size` the fewest bytes in all (all that there may be, where
    nothing follows the head).
    """

    __slots__ = ("counts", "fields", "head", "layer", "model", "name", "number", "rest", "size")

    def __init__(self, layer: str, number: int, name: str, model: type[Body], head: Flat | None):
        self.layer = layer
        self.number = number
        self.name = name
        self.model = model
        self.fields = _declared(model, head)
        self.rest = [part for part in self.fields.values() if isinstance(part, Rest)]
        for field, part in self.fields.items():
            if isinstance(part, Rest):
                part.name = field
        self.counts = {part.count: part.name for part in self.rest if part.count}
        self.head = head or Flat(self._structure())
        self.size = self.head.size + sum(part.least for part in self.rest)

    def _structure(self) -> type[ctypes.Structure]:
        numbers = {f: kind for f, kind in self.fields.items() if not isinstance(kind, Rest)}
        members = [*((count, c_uint32) for count in self.counts), *numbers.items()]
        described = {"_fields_": members, "__doc__": self.model.__doc__}
        return type(self.model.__name__, (SaveStructure,), described)

    @property
    def row(self) -> Flat:
        """A row of those that follow the head, of a type that has such."""
        return next(part.row for part in self.rest if isinstance(part, Rows))

    def place(self, name: str) -> tuple[int, int]:
        """(offset, bytes) in the body of a field of the head, or the fewest of what follows."""
        for part in self.rest:
            if part.name == name:
                return self.head.size, part.least
        number = getattr(self.head.structure, name)
        return number.offset, number.size

    def __repr__(self) -> str:
        return f"<body of {self.layer} {self.name}>"

    def decode(self, data: Buffer, limits: Limits = DEFAULT) -> dict[str, Any]:
        """The fields of the model by name. Of a type with one part after the head, or
        none. Raises TruncatedError, LengthError, LimitError, FormatError."""
        self.need(data, self.size)
        values: dict[str, Any] = dict(zip(self.head.names, self.head.unpack_from(data)))
        for part in self.rest:
            if part.count:
                self._need_count(part, values.pop(part.count), len(data))
            values[part.name] = part.read(self, data[self.head.size :], limits)
        return values

    def encode(self, values: dict[str, Any]) -> bytes:
        """The inverse. Raises FieldError for what does not fit."""
        counts = {count: len(values[field]) for count, field in self.counts.items()}
        head = self.head.encode({**values, **counts}, f"{self.name}: ")
        return b"".join((head, *(part.write(self, values[part.name]) for part in self.rest)))

    def need(self, data: Buffer, size: int) -> None:
        """Raises TruncatedError below `size` bytes, LengthError where those are to be all."""
        if not self.rest and len(data) != size:
            raise LengthError(
                "wrong length", layer=self.layer, offset=0, record=self.name,
                found=f"{len(data)} bytes", expected=str(size),
            )  # fmt: skip
        if len(data) < size:
            raise TruncatedError(
                "too short", layer=self.layer, offset=0, record=self.name,
                found=f"{len(data)} bytes", expected=f"{size} at least",
            )  # fmt: skip

    def need_whole(self, part: Rest, data: Buffer) -> None:
        """Raises LengthError where `data` are not elements of that size throughout."""
        if len(data) % part.element:
            start = self.head.size if self.head.size % part.element else 0
            raise LengthError(
                "not a whole number of entries", layer=self.layer, offset=0, record=self.name,
                found=f"{self.head.size + len(data)} bytes",
                expected=f"{f'{start} + ' if start else ''}a multiple of {part.element}",
            )  # fmt: skip

    def _need_count(self, part: Rest, count: int, length: int) -> None:
        if length != self.head.size + part.element * count:
            raise LengthError(
                "the length does not match the count", layer=self.layer, offset=0, record=self.name,
                found=f"count {count} in {length} bytes",
                expected=f"{self.head.size} + {part.element} * {count}",
            )  # fmt: skip

    def wrong(self, problem: str, offset: int, expected: str) -> FormatError:
        """That something at `offset` of the body cannot be."""
        return FormatError(
            problem, layer=self.layer, offset=offset, record=self.name, expected=expected
        )


def is_bytes(kind: Any) -> bool:
    """Whether a field of `BodyType.fields` is bytes: of the head, or what follows it."""
    return isinstance(kind, Bytes) or hasattr(kind, "_length_")


def _evaluated(text: str, module: str) -> Any:
    """What an annotation says. (`typing.get_type_hints` does the same in ten times the time,
    which is some milliseconds of every command that reads a body.)"""
    names = vars(sys.modules[module])
    return names[text] if text in names else eval(text, names, {"Annotated": Annotated})


def _declared(model: type[Body], head: Flat | None) -> dict[str, Any]:
    """The annotated fields of a model, each with the ctypes number or `Rest` that it is."""
    given = dict(field[:2] for field in head.structure._fields_) if head else {}
    hints = {
        name: _evaluated(text, cls.__module__)
        for cls in reversed(model.__mro__[: model.__mro__.index(Body)])
        for name, text in cls.__annotations__.items()
    }
    kinds = {
        name: given.get(name) or getattr(hint, "__metadata__", (None,))[0]
        for name, hint in hints.items()
    }
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _shown(value: Any) -> str:
    """A value in a `repr`: of a long one how long it is."""
    if isinstance(value, int) or len(value) <= _MOST_SHOWN:
        return repr(value)
    return f"<{len(value)} {'bytes' if isinstance(value, (bytes, memoryview)) else 'of them'}>"


_MOST_SHOWN = 8

BODIES: dict[tuple[str, int], BodyType] = {}
"""(layer, type) -> its body, of the modules that have been imported."""


@dataclass_transform()
class Body:
    """Base of the models of bodies, whose annotations declare the layout. They are as
    dataclasses are, to type checkers too: made of values by position or name, compared by
    value. (Making a dataclass takes half a millisecond, which every command would pay a
    dozen times.)"""

    TYPE: ClassVar[BodyType]

    def __init_subclass__(
        cls, layer: str, number: int = -1, name: str = "", head: Flat | None = None
    ) -> None:
        cls.TYPE = BodyType(layer, number, name or record_name(layer, number), cls, head)
        if number >= 0:
            BODIES[layer, number] = cls.TYPE

    def __init__(self, *values: Any, **named: Any) -> None:
        """Fields left out have their defaults. Raises TypeError, as a call does."""
        fields, kind = self.TYPE.fields, type(self)
        if len(values) > len(fields):
            raise TypeError(f"{kind.__name__}: {len(values)} values, at most {len(fields)}")
        given = dict(zip(fields, values))
        for name in named:
            if name in given or name not in fields:
                raise TypeError(f"{kind.__name__}: {name!r} is twice there, or is no field")
        given.update(named)
        for name in fields:
            if name not in given and not hasattr(kind, name):
                raise TypeError(f"{kind.__name__}: {name!r} is missing")
            setattr(self, name, given[name] if name in given else getattr(kind, name))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__: ClassVar[None]  # type: ignore[assignment]  # as fields may be set

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={_shown(getattr(self, name))}" for name in self.TYPE.fields)
        return f"{type(self).__name__}({values})"

    @classmethod
    def from_bytes(cls: type[_Self], body: Buffer, limits: Limits = DEFAULT) -> _Self:
        """Take a body apart. Raises TruncatedError, LengthError, LimitError, FormatError;
        offsets count from the start of the body."""
        self = cls.__new__(cls)
        vars(self).update(cls.TYPE.decode(body, limits))
        return self

    def for_people(self) -> dict[str, Any]:
        """The fields by name, without the reserved ones."""
        return {name: getattr(self, name) for name in self.TYPE.fields if not is_reserved(name)}

    def to_bytes(self) -> bytes:
        """The body, bit for bit. Raises FieldError for a number that its field cannot hold."""
        return self.TYPE.encode(vars(self))
