"""All record types that are declared, by typecode and by name."""

from __future__ import annotations

from hvmctx.abi import x86  # noqa: F401 - declares Xen's own
from hvmctx.abi.declare import DOMAIN, RESERVED_TYPECODES, VMPORT_TYPECODE, RecordType, declared
from hvmctx.errors import UsageError
from hvmctx.messages import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "by_name",
    "by_typecode",
    "largest_typecode",
    "record_types",
    "typecode_of",
    "typecodes_of",
]


def _vmport() -> RecordType:
    """Of the profile in use. Imported when such a record turns up: no release writes it."""
    from hvmctx.abi.vmport import used

    return used().record_type


def by_typecode(typecode: int) -> RecordType | None:
    """None for a typecode that nothing declares."""
    known = declared.get(typecode)
    if known is None and typecode == VMPORT_TYPECODE:
        return _vmport()
    return known


def largest_typecode() -> int:
    """That of a record that there can be: of those declared, and of those that Xen's header
    sets aside for one vendor."""
    return max(RESERVED_TYPECODES[-1], *declared)


def typecodes_of(scope: str) -> frozenset[int]:
    """The typecodes of all records whose instance means the same."""
    codes = frozenset(code for code, known in declared.items() if known.scope == scope)
    return codes | {VMPORT_TYPECODE} if scope == DOMAIN else codes


def by_name(name: str) -> RecordType:
    """By name, in any case. Raises UsageError for a name that no record has."""
    wanted = name.upper()
    for known in declared.values():
        if known.name == wanted:
            return known
    types = list(record_types())
    for known in types:
        if known.name == wanted:
            return known
    names = [known.name for known in types]
    guess = did_you_mean(name, names) or f"; expected {', '.join(names)}"
    raise UsageError(f"unknown record type {name!r}{guess}")


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
    raise UsageError(f"{what!r} is not a record type")


def record_types() -> Iterator[RecordType]:
    """All types, by ascending typecode."""
    types = {VMPORT_TYPECODE: _vmport(), **declared}
    return (types[code] for code in sorted(types))
