"""What a save record type is, and how one is declared.

A new record type is one ctypes structure and one `declare` line: dump, JSON, table,
edit paths and checks all derive from them.
"""

from __future__ import annotations

import sys
from ctypes import LittleEndianStructure, sizeof

from hvmctx.abi.fields import Field, Layout, misfit
from hvmctx.errors import FieldError

if sys.version_info >= (3, 11):
    from ctypes import LittleEndianUnion
else:  # it has none, which matters on a big-endian machine only
    from ctypes import Union as LittleEndianUnion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "DOMAIN",
    "MARKER",
    "RESERVED_TYPECODES",
    "VCPU",
    "VMPORT_TYPECODE",
    "RecordType",
    "SaveStructure",
    "SaveUnion",
    "declare",
    "declared",
]

MARKER = "marker"
"""Instance is meaningless: HEADER opens a context, END closes it."""
DOMAIN = "domain"
"""Instance 0, or 0 and 1 for the two PICs."""
VCPU = "vcpu"
"""Instance is the vcpu id."""


class _Fields:
    """Refuses names that are not fields, and numbers that do not fit (plain ctypes takes
    `cpu.rpi = 1` and forgets it, `cpu.rip = 1 << 64` and puts 0), and shows its fields in one
    line. Raises AttributeError for the one, FieldError for the other."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no field {name!r}")
        if not isinstance(value, int):
            super().__setattr__(name, value)
            return
        before = getattr(self, name)
        super().__setattr__(name, value)
        if getattr(self, name) != value:  # ctypes has taken its low bits
            super().__setattr__(name, before)
            raise FieldError(f"{type(self).__name__}: {self._misfit(name, value)}")

    def _misfit(self, name: str, value: int) -> str:
        (field,) = (field for field in Layout.of(type(self)).fields if field.name == name)
        return misfit(name, value, field.width, signed=field.code.islower())

    def __repr__(self) -> str:
        text = type(self).__name__
        for field in Layout.of(type(self)).fields:
            if not field.alternate and not field.is_reserved:
                if len(text) > _LONGEST_SHOWN:
                    return f"<{text} ...>"
                text += f" {field.name}={_brief(field, getattr(self, field.name))}"
        return f"<{text}>"


_LONGEST_SHOWN = 100


def _brief(field: Field, value: Any) -> str:
    if field.is_bytes:
        return bytes(value).hex() if field.size <= 16 else f"({field.size} bytes)"
    if field.count is not None:
        return f"({field.count})"
    return f"{value:#x}" if field.code else repr(value)


class SaveStructure(_Fields, LittleEndianStructure):
    """Base of all that a save record consists of. Little-endian."""


class SaveUnion(_Fields, LittleEndianUnion):
    """As `SaveStructure`."""

    def __init_subclass__(cls) -> None:
        # what ctypes of Python 3.11 asks a member for on a big-endian machine
        cls.__ctype_le__ = cls  # type: ignore[attr-defined]


class RecordType:
    """One save record type.

    `struct` holds the fixed part. `rest`, if set, names the array that fills what the
    descriptor's length gives beyond it, and the type of its elements.
    """

    __slots__ = ("_sized", "decode", "name", "rest", "scope", "size", "struct", "typecode")

    def __init__(
        self,
        name: str,
        typecode: int,
        struct: type[SaveStructure],
        scope: str,
        rest: tuple[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.typecode = typecode
        self.struct = struct
        self.scope = scope
        self.rest = rest
        self.size = sizeof(struct)
        self._sized: dict[int, type[SaveStructure]] = {}

    def __repr__(self) -> str:
        return f"<record type {self.typecode} {self.name}>"

    @property
    def layout(self) -> Layout:
        return Layout.of(self.struct)

    decode: Callable[[Any], dict[str, Any]]
    """The fields of a body of exactly `size` bytes: `layout.decode`, but faster. Made when it
    is first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name != "decode":
            raise AttributeError(name)
        self.decode = self.layout.plan.decode
        return self.decode

    def struct_for(self, length: int) -> type[SaveStructure]:
        """The structure for a body of `length` bytes: with as many whole elements of
        `rest` as it has room for."""
        if self.rest is None:
            return self.struct
        name, element = self.rest
        count = max(0, length - self.size) // sizeof(element)
        if count not in self._sized:
            if len(self._sized) > 64:  # lengths come from the input: do not collect classes
                self._sized.clear()
            self._sized[count] = type(
                self.struct.__name__,
                (self.struct,),
                {
                    "__slots__": (),
                    "_fields_": [(name, element * count)],
                    "__doc__": self.struct.__doc__,
                },
            )
        return self._sized[count]


VMPORT_TYPECODE = 21
"""Here, not in `abi.vmport`: most contexts have no such record, and need not import that."""
RESERVED_TYPECODES = range(22, 35)
"""Those that `arch-x86/hvm/save.h` sets aside for one vendor."""

declared: dict[int, RecordType] = {}
"""Typecode -> type. `abi.registry` answers for it, and for VMPORT."""


def declare(
    name: str,
    typecode: int,
    struct: type[SaveStructure],
    scope: str,
    rest: tuple[str, Any] | None = None,
) -> RecordType:
    """Make a record type known to everything that reads contexts."""
    known = declared[typecode] = RecordType(name, typecode, struct, scope, rest)
    return known
