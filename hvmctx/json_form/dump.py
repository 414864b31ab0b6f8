"""The JSON forms of a dump: one document, or an object a line."""

from __future__ import annotations

import json

from hvmctx.context.hvm_context import HvmContext
from hvmctx.json_form.context import document_of, ending_to_plain, record_to_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hvmctx.context.record import Record

    Wanted = Callable[[Record], bool] | None

__all__ = ["as_json", "as_ndjson"]


def _wanted(context: HvmContext, wanted: Wanted) -> HvmContext:
    if wanted is None:
        return context
    return HvmContext((r for r in context.entries if wanted(r)), b"", context.damage)


def as_json(context: HvmContext, wanted: Wanted = None) -> Iterator[str]:
    """The whole context as one object that from-json takes: see `json_form.context`."""
    yield json.dumps(document_of(_wanted(context, wanted)), indent=1) + "\n"


def as_ndjson(context: HvmContext, wanted: Wanted = None) -> Iterator[str]:
    """A record a line, and last `tail` and `damage`, if there is either."""
    chosen = _wanted(context, wanted)
    for record in chosen.entries:
        yield json.dumps(record_to_plain(record)) + "\n"
    if len(chosen.tail) or chosen.damage is not None:
        yield json.dumps(ending_to_plain(chosen)) + "\n"
