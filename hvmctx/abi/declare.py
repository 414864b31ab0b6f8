"""What a save record type is, and the registry that `abi` modules declare theirs in.

A new record type is one ctypes structure and one `declare` line: dump, JSON, table,
edit paths and checks all derive from them.
"""

from __future__ import annotations

from ctypes import LittleEndianStructure, Union, sizeof

from hvmctx.abi.fields import Layout
from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable, Iterator
    from typing import Any

MARKER = "marker"
"""Instance is meaningless: HEADER opens a context, END closes it."""
DOMAIN = "domain"
"""Instance 0, or 0 and 1 for the two PICs."""
VCPU = "vcpu"
"""Instance is the vcpu id."""


class _FieldsOnly:
    """Refuses names that are no fields: plain ctypes takes `cpu.rpi = 1` and forgets it."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no field {name!r}")
        super().__setattr__(name, value)


class SaveStructure(_FieldsOnly, LittleEndianStructure):
    """Base of all that a save record consists of. Little-endian."""


class SaveUnion(_FieldsOnly, Union):
    """As `SaveStructure`."""


class RecordType:
    """One save record type.

    `struct` holds the fixed part. `rest`, if set, names the array that fills what the
    descriptor's length gives beyond it, and the type of its elements.
    """

    __slots__ = ("_decode", "_sized", "name", "rest", "scope", "size", "struct", "typecode")

    def __init__(
        self,
        name: str,
        typecode: int,
        struct: type[ctypes.Structure],
        scope: str,
        rest: tuple[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.typecode = typecode
        self.struct = struct
        self.scope = scope
        self.rest = rest
        self.size = sizeof(struct)
        self._sized: dict[int, type[ctypes.Structure]] = {}
        self._decode: Callable[[Any], dict[str, Any]] | None = None

    def __repr__(self) -> str:
        return f"<record type {self.typecode} {self.name}>"

    @property
    def layout(self) -> Layout:
        return Layout.of(self.struct)

    def decode(self, body: Any) -> dict[str, Any]:
        """The fields of a body of exactly `size` bytes: `layout.decode`, but faster."""
        if self._decode is None:
            self._decode = self.layout.plan.decode
        return self._decode(body)

    def struct_for(self, length: int) -> type[ctypes.Structure]:
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


_by_typecode: dict[int, RecordType] = {}
_by_name: dict[str, RecordType] = {}
_by_scope: dict[str, frozenset[int]] = {}
"""What `typecodes_of` has found; empty again when a type is declared."""


VMPORT_TYPECODE = 21
"""Here, not in `abi.vmport`: most contexts have no such record, and need not import that."""

_LATE = {VMPORT_TYPECODE: "hvmctx.abi.vmport"}
"""Records of no Xen release: the modules that declare them, imported when one turns up."""


def _declare_late() -> None:
    import importlib

    for module in _LATE.values():
        importlib.import_module(module)


def declare(
    name: str,
    typecode: int,
    struct: type[ctypes.Structure],
    scope: str,
    rest: tuple[str, Any] | None = None,
) -> RecordType:
    """Make a record type known to everything that reads contexts."""
    known = RecordType(name, typecode, struct, scope, rest)
    _by_typecode[typecode] = known
    _by_name[name] = known
    _by_scope.clear()
    return known


def by_typecode(typecode: int) -> RecordType | None:
    """None for a typecode that nothing declares."""
    known = _by_typecode.get(typecode)
    if known is None and typecode in _LATE:
        _declare_late()
        known = _by_typecode.get(typecode)
    return known


def typecodes_of(scope: str) -> frozenset[int]:
    """The typecodes of all records whose instance means the same."""
    codes = _by_scope.get(scope)
    if codes is None:
        codes = _by_scope[scope] = frozenset(
            code for code, known in _by_typecode.items() if known.scope == scope
        )
    return codes


def by_name(name: str) -> RecordType:
    """By name, in any case. Raises UsageError for a name that no record has."""
    if name.upper() not in _by_name:
        _declare_late()
    try:
        return _by_name[name.upper()]
    except KeyError:
        raise UsageError(
            f"no record type is called {name!r}; known: {', '.join(_by_name)}"
        ) from None


def typecode_of(what: object) -> int:
    """The typecode of a record type however it is named: by number, as `x86.CPU`, as "cpu",
    or by its structure. Raises UsageError for anything else."""
    if isinstance(what, int):
        return what
    if isinstance(what, RecordType):
        return what.typecode
    if isinstance(what, str):
        return by_name(what).typecode
    for known in record_types():
        if known.struct is what:
            return known.typecode
    raise UsageError(f"{what!r} is no record type")


def record_types() -> Iterator[RecordType]:
    """All declared types, by ascending typecode."""
    _declare_late()
    return (_by_typecode[code] for code in sorted(_by_typecode))
