"""When a body has a type of its own, and where a record or header leads: conditions on fields of
the descriptions, with the words `and`, `or`, `not`, which each language spells in its way."""

from __future__ import annotations

from hvmctx.abi import streams, x86
from hvmctx.layouts.declarations import Declarations, body_name, identifier
from hvmctx.stream.body import BODIES
from hvmctx.stream.grammar import ANY, LEGACY_HEADER, SAYS_LEGACY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.stream.grammar import State, Transition

__all__ = [
    "CONTEXT",
    "in_c",
    "leading",
    "of_bodies",
    "of_header",
    "of_others",
    "of_saved",
    "size_of_body",
    "state_type",
]

CONTEXT = "hvm_context"
"""The type of a whole context."""


def in_c(condition: str) -> str:
    """As C has it.

    >>> in_c("not (a == 1 or b == 2) and c")
    '!(a == 1 || b == 2) && c'
    """
    return condition.replace(" and ", " && ").replace(" or ", " || ").replace("not (", "!(")


def state_type(name: str) -> str:
    """Of the type of a state.

    >>> state_type("libxl records")
    'state_libxl_records'
    """
    return f"state_{identifier(name)}"


def of_saved(declared: Declarations) -> list[tuple[str, str]]:
    """Conditions on a save record, each with the type of its body; the first that holds counts."""
    found = []
    for saved in declared.saved:
        same = f"descriptor.typecode == {saved.kind.typecode}"
        if saved.kind.typecode == x86.CPU.typecode and declared.compat is not None:
            compat = declared.compat
            found.append((f"{same} and descriptor.length == {compat.size}", compat.name))
        if saved.shape is not None:
            enough = f"descriptor.length >= {saved.shape.least}"
            found.append((f"{same} and {enough}", saved.shape.name))
    return found


def of_bodies(declared: Declarations, layer: str) -> list[tuple[str, str]]:
    """The same on a stream record of a layer."""
    found = []
    for (of_layer, number), (body, _) in declared.bodies.items():
        if of_layer == layer:
            long = f"header.length {'>=' if body.rest else '=='} {body.size}"
            found.append((f"header.type == {number:#x} and {long}", body_name(body)))
    if layer == streams.LIBXC:
        found.append((f"header.type == {streams.LIBXC_HVM_CONTEXT:#x}", CONTEXT))
    return found


def of_others(state: State) -> list[tuple[str, str, str]]:
    """Conditions on records in a state that are of another layer than most there, each with the
    type of the body and that layer: between COLO's checkpoints libxl says that a new one begins."""
    return [
        (_is(row, state, ""), body_name(BODIES[row.layer, int(row.item)]), row.layer)
        for row in state.rows
        if row.layer != state.layer
    ]


def size_of_body(layer: str) -> str:
    """Bytes of a stream record's body; of some types of XAPI's the length means nothing."""
    if layer != streams.XAPI:
        return "header.length"
    types = sorted(streams.XAPI_BODILESS)
    none = " or ".join(f"header.type == {number:#x}" for number in types)
    return f"({none} ? 0 : header.length)"


def leading(state: State, record: str) -> dict[str, str]:
    """Of a state of records: each other state that one leads to -> the condition on `record`."""
    found: dict[str, list[str]] = {}
    for row in state.rows:
        if row.following != state.name:
            found.setdefault(row.following, []).append(_is(row, state, record))
    return {following: " or ".join(conditions) for following, conditions in found.items()}


def _is(row: Transition, state: State, record: str) -> str:
    """Whether a record is of that row."""
    if row.item == ANY:
        others = [_is(other, state, record) for other in state.rows if other is not row]
        return f"not ({' or '.join(others)})"
    condition = f"{record}header.type == {row.item:#x}"
    if row.length is not None:
        condition = f"({condition} and {record}header.length == {row.length})"
    return condition


def of_header(state: State) -> dict[str, str]:
    """Of a state of a header: each that it leads to -> the condition, "" where there is none."""
    if len(state.rows) == 1:
        return {state.rows[0].following: ""}
    field, mask, value = SAYS_LEGACY[state.layer]
    says = f"(header.{field} & {mask:#x}) == {value:#x}"
    return {
        row.following: says if row.item == LEGACY_HEADER else f"not ({says})" for row in state.rows
    }
