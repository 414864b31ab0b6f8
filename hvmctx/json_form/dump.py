"""The JSON forms of a dump: one document, or an object a line."""

from __future__ import annotations

from hvmctx.context.hvm_context import HvmContext
from hvmctx.json_form.context import document_parts, ending_parts, record_parts
from hvmctx.json_form.text import pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from hvmctx.context.record import Record

    Wanted = Callable[[Record], bool] | None
    Decoder = Callable[[Record], list[dict[str, int | str]]] | None

__all__ = ["as_json", "as_ndjson"]


def _wanted(context: HvmContext, wanted: Wanted) -> HvmContext:
    if wanted is None:
        return context
    return HvmContext((r for r in context.entries if wanted(r)), b"", context.damage)


def _parts(record: Record, decoder: Decoder) -> dict[str, Any]:
    """With what the decoder says of a record whose type is known."""
    parts = record_parts(record)
    if decoder is not None and record.type is not None:
        parts["decoded"] = decoder(record)
    return parts


def as_json(context: HvmContext, wanted: Wanted = None, decoder: Decoder = None) -> Iterator[str]:
    """The whole context as one object that from-json takes: see `json_form.context`."""
    chosen = _wanted(context, wanted)
    document = document_parts(chosen)
    document["context"]["records"] = (_parts(record, decoder) for record in chosen.entries)
    yield from pieces(document)
    yield "\n"


def as_ndjson(context: HvmContext, wanted: Wanted = None, decoder: Decoder = None) -> Iterator[str]:
    """A record a line, and last `tail` and `damage`, if there is either."""
    chosen = _wanted(context, wanted)
    for record in chosen.entries:
        yield from pieces(_parts(record, decoder), indented=False)
        yield "\n"
    if len(chosen.tail) or chosen.damage is not None:
        yield from pieces(ending_parts(chosen), indented=False)
        yield "\n"
