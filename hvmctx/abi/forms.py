"""What a JSON value may be, each kind of it declared once: how it is written, how it is read
and checked, and which JSON Schema says the same.

A `Form` is one such kind. `write` turns a value of ours into plain JSON, `read` is its inverse
and raises a FieldError that says where, what was found, and what was expected, and `schema` is
a JSON Schema (2020-12) that accepts exactly what `read` does. `structure_of` makes the form of
a declared ctypes structure; the models of `json_form.models` say the form of each member.
"""

from __future__ import annotations

from array import array
from ctypes import sizeof
from functools import lru_cache

from hvmctx.abi import checked
from hvmctx.abi.fields import Field, Layout
from hvmctx.errors import FieldError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from hvmctx.abi.checked import Plain

__all__ = [
    "Anything", "Attributes", "Count", "Elements", "Escaped", "Form", "Hex", "Listed",
    "Members", "Number", "Object", "Octets", "OneOf", "Row", "Structure", "Text", "Words",
    "elements_of", "escaped", "form_of", "member", "nullable", "structure_of", "unescaped",
]  # fmt: skip

LONGEST_LIST = 16
"""Byte arrays up to this length are written as lists of numbers, longer ones in hex."""
_DIGITS = "0123456789abcdef"
_HEX = "[0-9a-fA-F]"
_SPACE = "[ \\t-\\r]*"
"""What may stand between the bytes of a hex string: whatever `bytes.fromhex` skips."""


class Form:
    """One kind of value. The base writes a value as it is."""

    __slots__ = ()

    def write(self, value: Any) -> Any:
        return value

    def read(self, plain: Any, where: str) -> Any:
        """Raises FieldError; `where` is the name that the message starts with."""
        raise NotImplementedError

    def schema(self) -> Plain:
        raise NotImplementedError


class Anything(Form):
    """A value that somebody else reads and writes."""

    __slots__ = ()

    def read(self, plain: Any, where: str) -> Any:
        return plain

    def schema(self) -> Plain:
        return {}


class Number(Form):
    """An integer of `width` bits, or a string of one, in decimal or as `0x1f`."""

    __slots__ = ("high", "low", "signed", "width")

    def __init__(self, width: int, *, signed: bool = False) -> None:
        self.width = width
        self.signed = signed
        self.low = -(1 << width - 1) if signed else 0
        self.high = self.low + (1 << width) - 1

    def read(self, plain: Any, where: str) -> int:
        if type(plain) is int and self.low <= plain <= self.high:
            return plain
        return checked.number(plain, where, self.width, signed=self.signed)

    def schema(self) -> Plain:
        return {"$ref": f"#/$defs/{'s' if self.signed else 'u'}{self.width}"}

    def definition(self) -> Plain:
        """The schema itself: there are many numbers, of few widths."""
        return {"anyOf": [self._integer(), {"type": "string", "pattern": f"^({self._pattern()})$"}]}

    def _integer(self) -> Plain:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}

    def _pattern(self) -> str:
        """Of the strings, with any number of zeros before the first digit."""
        bounds = [("", self.high)] + ([("-", -self.low)] if self.signed else [])
        found = [
            f"{sign}{start}0*{_up_to(most, base)}"
            for sign, most in bounds
            for start, base in (("", 10), ("0x", 16))
        ]
        return "|".join(found if self.signed else [*found, "-(0x)?0+"])


def _up_to(most: int, base: int) -> str:
    """A pattern of the numbers up to `most`, in that base: those of fewer digits, and those
    that have a smaller digit where they first differ, or are the same."""
    text, digits = f"{most:x}" if base == 16 else f"{most}", _DIGITS[:base]
    cases = [f"{_one_of(digits)}{{1,{len(text) - 1}}}"] if len(text) > 1 else []
    start = ""
    for at, digit in enumerate(text):
        left = len(text) - at
        if text[at:] == digits[-1] * left:  # no further number is too large
            return f"({'|'.join([*cases, f'{start}{_one_of(digits)}{{{left}}}'])})"
        if digit != "0":
            less = digits[: digits.index(digit)]
            cases.append(f"{start}{_one_of(less)}{_one_of(digits)}{{{left - 1}}}")
        start += _one_of(digit)
    return f"({'|'.join([*cases, start])})"


def _one_of(digits: str) -> str:
    if digits == _DIGITS:
        return _HEX
    letters = "".join(f"{digit}{digit.upper()}" if digit.isalpha() else digit for digit in digits)
    return f"[{letters}]" if len(letters) > 1 else letters


class Count(Number):
    """An integer of `width` bits, and not a string of one."""

    __slots__ = ()

    def read(self, plain: Any, where: str) -> int:
        return checked.integer(plain, where, self.width)

    def schema(self) -> Plain:
        return self._integer()


class Text(Form):
    """A string."""

    __slots__ = ()

    def read(self, plain: Any, where: str) -> str:
        return checked.as_text(plain, where)

    def schema(self) -> Plain:
        return {"type": "string"}


class OneOf(Text):
    """One of these strings."""

    __slots__ = ("choices",)

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def read(self, plain: Any, where: str) -> str:
        text = checked.as_text(plain, where)
        if text not in self.choices:
            raise checked.wrong(plain, where, " or ".join(self.choices))
        return text

    def schema(self) -> Plain:
        return {"enum": list(self.choices)}


class Object(Form):
    """An object whose members are read elsewhere."""

    __slots__ = ()

    def read(self, plain: Any, where: str) -> Plain:
        return checked.as_object(plain, where)

    def schema(self) -> Plain:
        return {"type": "object"}


class Hex(Form):
    """Bytes, as hex digits; `size` of them, or any number."""

    __slots__ = ("size",)

    def __init__(self, size: int | None = None) -> None:
        self.size = size

    def write(self, value: Any) -> Any:
        return bytes(value).hex()

    def read(self, plain: Any, where: str) -> bytes:
        return checked.unhex(plain, where, self.size)

    def schema(self) -> Plain:
        many = "*" if self.size is None else f"{{{self.size}}}"
        return {"type": "string", "pattern": f"^({_SPACE}{_HEX}{{2}}){many}{_SPACE}$"}


_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x5C, *range(0x7F, 0x100))}


def escaped(data: bytes) -> str:
    """Bytes as text: a backslash, and what is not printable ASCII, as `\\xNN`."""
    return data.decode("latin-1").translate(_ESCAPES)


def unescaped(text: str) -> bytes:
    """The inverse of `escaped`, which also takes characters beyond ASCII, as UTF-8. Raises
    ValueError for a backslash without xNN after it, UnicodeEncodeError for half a character."""
    start, *parts = text.split("\\")
    out = bytearray(start.encode("utf-8", "surrogateescape"))
    for part in parts:
        if part[:1] != "x" or len(part) < 3 or not set(part[1:3]) <= _HEX_DIGITS:
            raise ValueError("only \\xNN may follow a backslash")
        out.append(int(part[1:3], 16))
        out += part[3:].encode("utf-8", "surrogateescape")
    return bytes(out)


class Escaped(Form):
    """Bytes, as text: see `escaped`."""

    __slots__ = ()

    def write(self, value: Any) -> str:
        return escaped(value)

    def read(self, plain: Any, where: str) -> bytes:
        text = checked.as_text(plain, where)
        try:
            return unescaped(text)
        except UnicodeEncodeError:  # of a kind that no schema can tell
            raise checked.Disagreement(f"{where}: {text[:40]!a} is not text") from None
        except ValueError as error:
            raise FieldError(f"{where}: {error}") from None

    def schema(self) -> Plain:
        return {"type": "string", "pattern": r"^([^\\]|\\x[0-9a-fA-F]{2})*$"}


class Listed(Form):
    """A list, of `count` values where that is given."""

    __slots__ = ("count", "element")

    def __init__(self, element: Form, count: int | None = None) -> None:
        self.element = element
        self.count = count

    def write(self, value: Any) -> Any:
        if type(self.element) is Number:
            return list(value)
        write = self.element.write
        return [write(element) for element in value]

    def read(self, plain: Any, where: str) -> list[Any]:
        read = self.element.read
        entries = checked.as_list(plain, where, self.count)
        return [read(entry, f"{where}[{at}]") for at, entry in enumerate(entries)]

    def schema(self) -> Plain:
        found: Plain = {"type": "array", "items": self.element.schema()}
        if self.count is None:
            return found
        return {**found, "minItems": self.count, "maxItems": self.count}


class Octets(Form):
    """An array of bytes, as a list of numbers or in hex. Written as a list where it is short."""

    __slots__ = ("_hex", "_list")

    def __init__(self, size: int) -> None:
        self._hex = Hex(size)
        self._list = Listed(Number(8), size)

    def write(self, value: Any) -> Any:
        return list(value) if len(value) <= LONGEST_LIST else bytes(value).hex()

    def read(self, plain: Any, where: str) -> bytes:
        if isinstance(plain, str):
            return self._hex.read(plain, where)
        return bytes(self._list.read(plain, where))

    def schema(self) -> Plain:
        return {"anyOf": [self._hex.schema(), self._list.schema()]}


class Members(Form):
    """An object with these members and no others. Those in `needed` must be there; those in
    `nullable` may be null, which counts as left out."""

    __slots__ = ("_written", "members", "needed", "nullable")

    def __init__(
        self, members: dict[str, Form], needed: Iterable[str] = (), nullable: Iterable[str] = ()
    ) -> None:
        self.members = members
        self.needed = tuple(needed)
        self.nullable = frozenset(nullable)
        self._written = [(n, f) for n, f in members.items() if type(f).write is not Form.write]

    def write(self, value: Any) -> Plain:
        plain = dict(value)
        for name, form in self._written:
            plain[name] = form.write(plain[name])
        return plain

    def read(self, plain: Any, where: str) -> Plain:
        return self.read_members(plain, where, self.needed)

    def read_members(self, plain: Any, where: str, needed: Iterable[str]) -> Plain:
        """The members that are given, read."""
        prefix = f"{where}." if where else ""
        given = checked.as_object(plain, where)
        members = self.members
        made: Plain = {}
        for name, value in given.items():
            form = members.get(name)
            if form is None:
                raise checked.unknown(name, members, where)
            if value is not None or name not in self.nullable:
                made[name] = form.read(value, f"{prefix}{name}")
        checked.complete(made, needed, prefix)
        return made

    def schema(self) -> Plain:
        found: Plain = {
            "type": "object",
            "properties": {
                name: nullable(form.schema()) if name in self.nullable else form.schema()
                for name, form in self.members.items()
            },
            "additionalProperties": False,
        }
        return {**found, "required": list(self.needed)} if self.needed else found


def member(form: Form, *, left_out: bool = False) -> dict[str, object]:
    """The metadata of a dataclass's member of that form. `left_out`: where it has its default.
    dataclasses-json finds what it needs there, too."""
    return {"form": form, "left_out": left_out, "dataclasses_json": {"encoder": form.write}}


class Attributes(Members):
    """A dataclass: its members that say their form (`member`), and those that are called as a
    number of `layout` is, and as wide."""

    __slots__ = ("_defaults", "_model")

    def __init__(self, model: Any, layout: Layout) -> None:
        from dataclasses import fields

        widths = {slot.path: slot.width for slot in layout.slots()}
        members: dict[str, Form] = {}
        self._model = model
        self._defaults: dict[str, object] = {}
        for entry in fields(model):
            if "form" in entry.metadata:
                members[entry.name] = entry.metadata["form"]
                if entry.metadata["left_out"]:
                    self._defaults[entry.name] = entry.default
            elif entry.name in widths:
                members[entry.name] = Number(widths[entry.name])
        super().__init__(members, [name for name in members if name not in self._defaults])

    def write(self, value: Any) -> Plain:
        plain = {}
        for name, form in self.members.items():
            held = getattr(value, name)
            if name not in self._defaults or held != self._defaults[name]:
                plain[name] = form.write(held)
        return plain

    def read(self, plain: Any, where: str) -> Any:
        return self._model(**super().read(plain, where))


def nullable(schema: Plain) -> Plain:
    """The schema of what may also be null."""
    kind = schema.get("type")
    if isinstance(kind, str):
        return {**schema, "type": [kind, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


class Structure(Members):
    """A declared structure, by its fields: what `Layout.decode` gives and `Layout.encode`
    takes. Reserved fields may be left out and are zero then."""

    __slots__ = ("layout", "offsets")

    def __init__(self, layout: Layout) -> None:
        fields = [field for field in layout.fields if not field.alternate]
        self.layout = layout
        self.offsets = {field.name: field.offset for field in fields}
        super().__init__(
            {field.name: form_of(field) for field in fields},
            [field.name for field in fields if not field.is_reserved],
        )


class Elements(Form):
    """Bytes that are structures, one after the other, as a list of these."""

    __slots__ = ("_list", "_structure")

    def __init__(self, ctype: Any) -> None:
        self._structure = structure_of(ctype)
        self._list = Listed(self._structure)

    def write(self, value: Any) -> Any:
        layout = self._structure.layout
        starts = range(0, len(value), layout.size)
        return self._list.write([layout.decode(value[at : at + layout.size]) for at in starts])

    def read(self, plain: Any, where: str) -> bytes:
        encode = self._structure.layout.encode
        return b"".join([encode(values) for values in self._list.read(plain, where)])

    def schema(self) -> Plain:
        return self._list.schema()


class Row(Form):
    """The numbers of a structure, as a list in their order."""

    __slots__ = ("_members",)

    def __init__(self, ctype: Any) -> None:
        self._members = list(structure_of(ctype).members.items())

    def write(self, value: Any) -> Any:
        return list(value)

    def read(self, plain: Any, where: str) -> tuple[int, ...]:
        numbers = checked.as_list(plain, where, len(self._members))
        return tuple(
            form.read(number, f"{where}: {name}")
            for (name, form), number in zip(self._members, numbers)
        )

    def schema(self) -> Plain:
        count = len(self._members)
        numbers = [{"title": name, **form.schema()} for name, form in self._members]
        return {"type": "array", "prefixItems": numbers, "minItems": count, "maxItems": count}


class Words(Listed):
    """An `array` of u64s."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(Number(64))

    def read(self, plain: Any, where: str) -> Any:
        return array("Q", super().read(plain, where))


def elements_of(ctype: Any) -> Form:
    """The form of the bytes of any number of elements of that type; hex of single bytes."""
    return Hex() if sizeof(ctype) == 1 else Elements(ctype)


def structure_of(ctype: Any) -> Structure:
    """The form of a ctypes structure or union; the same one for the same class."""
    return _structure_of(ctype)


@lru_cache(maxsize=256)
def _structure_of(ctype: Any) -> Structure:
    return Structure(Layout.of(ctype))


def form_of(field: Field) -> Form:
    """The form of a field of a structure."""
    if field.is_bytes:
        return Octets(field.size)
    if field.code:
        width = field.width if field.count is None else 8 * sizeof(field.element)
        one: Form = Number(width, signed=field.code.islower())
    else:
        one = structure_of(field.element)
    return one if field.count is None else Listed(one, field.count)
