"""What type checkers see of the declared records, hvmctx/abi/x86.pyi, and of a context's items,
hvmctx/context/items.pyi: out of the structures and `declare` lines of hvmctx/abi/x86.py."""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import Structure, Union
from struct import Struct
from types import ModuleType

from hvmctx.abi import x86
from hvmctx.abi.declare import VCPU, RecordType, SaveStructure, SaveUnion, declared
from hvmctx.abi.fields import Field, Layout
from hvmctx.abi.registry import record_types

HEAD = """\
# Made by tools/stubs.py out of x86.py (make generate): what type checkers see of it.
from struct import Struct

from hvmctx.abi.declare import RecordType, SaveStructure
from hvmctx.abi.typed import Array, Field, KnownStructure, KnownUnion
"""
ITEMS = """\
# Made by tools/stubs.py out of abi/x86.py (make generate): what type checkers see of context[...].
# There is no such module at run time.
from typing import Generic, Literal, TypeVar, overload

from hvmctx.abi import x86
from hvmctx.abi.declare import RecordType, SaveStructure
from hvmctx.context.record import Record

_Structure = TypeVar("_Structure", bound=SaveStructure)

class KnownRecord(Record, Generic[_Structure]):
    \"\"\"A record of a declared type.\"\"\"

    @property
    def struct(self) -> _Structure: ...

class RecordItems:
    \"\"\"The records of a context, by type and instance, by type alone, or by their place.\"\"\"

"""
_ITEM = """\
    @overload
    def __getitem__(
        self, what: {what}
    ) -> {record}: ...
"""
_BASES = (SaveStructure, SaveUnion)


def _is_structure(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, (Structure, Union))


def _type_of(field: Field) -> str:
    element = "int" if field.code else field.element.__name__
    return f"Field[{element}]" if field.count is None else f"Field[Array[{element}]]"


def _structure(name: str, ctype: type[Structure]) -> str:
    """Fields of anonymous members and alternates of unions too. Last what stands beyond the
    fixed part, in the structure of a record (`RecordType.struct_for`)."""
    base = "KnownUnion" if issubclass(ctype, Union) else "KnownStructure"
    members = [f"    {field.name}: {_type_of(field)}\n" for field in Layout.of(ctype).fields]
    for known in declared.values():
        if known.struct is ctype and known.rest is not None:
            rest, element = known.rest
            kind = element.__name__ if _is_structure(element) else "int"
            members.append(f"    {rest}: Field[Array[{kind}]]\n")
    if not members:
        return f"class {name}({base}): ...\n"
    return f"class {name}({base}):\n{''.join(members)}"


def _name_of(struct: type[Structure]) -> str:
    """A VMPORT record's has the fields that its profile says, so none that are known here."""
    return struct.__name__ if struct.__module__ == x86.__name__ else "SaveStructure"


def _records(name: str, what: str, known: list[RecordType]) -> str:
    members = [
        f"    @property\n    def {one.name.lower()}(self) -> {_name_of(one.struct)}: ...\n"
        for one in known
    ]
    return f'class {name}:\n    """{what} For type checkers only."""\n\n' + "".join(members)


def _parts(module: ModuleType) -> Iterator[str]:
    own = {name: value for name, value in vars(module).items() if not name.startswith("__")}
    for kind in (int, Struct, RecordType):
        names = [name for name, value in own.items() if type(value) is kind]
        yield "".join(f"{name}: {kind.__name__}\n" for name in names)
    for name, value in own.items():
        if _is_structure(value) and value not in _BASES:
            yield _structure(name, value)
    types = [known for known in record_types() if known.size]
    yield _records(
        "DomainRecords",
        "What the attributes of an HvmContext are.",
        [known for known in types if known.scope != VCPU],
    )
    yield _records(
        "VcpuRecords",
        "What those of a Vcpu are.",
        [known for known in types if known.scope == VCPU],
    )


def text() -> str:
    """The stub's contents."""
    return "\n".join((HEAD, *_parts(x86)))


def items() -> str:
    """Of the context's items: the stub's contents."""
    found = [ITEMS]
    for known in record_types():
        if known.size and known.struct.__module__ == x86.__name__:
            name, record = f'Literal["{known.name}"]', f"KnownRecord[x86.{known.struct.__name__}]"
            found.append(_ITEM.format(what=f"{name} | tuple[{name}, int]", record=record))
    structure = "type[_Structure] | tuple[type[_Structure], int]"
    found.append(_ITEM.format(what=structure, record="KnownRecord[_Structure]"))
    other = "int | str | RecordType | tuple[int | str | RecordType, int]"
    found.append(_ITEM.format(what=other, record="Record"))
    return "".join(found)


def files() -> dict[str, str]:
    return {"hvmctx/abi/x86.pyi": text(), "hvmctx/context/items.pyi": items()}
