"""The other forms of a dump: JSON, one JSON object a line, and a table."""

from __future__ import annotations

import json

from hvmctx.context.hvm_context import HvmContext
from hvmctx.json_form.context import document_of, ending_to_plain, record_to_plain
from hvmctx.render.table import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hvmctx.context.record import Record

    Wanted = Callable[[Record], bool] | None


def _wanted(context: HvmContext, wanted: Wanted) -> HvmContext:
    if wanted is None:
        return context
    chosen = HvmContext((r for r in context.entries if wanted(r)), b"", context.damage)
    return chosen


def as_json(context: HvmContext, wanted: Wanted = None) -> Iterator[str]:
    """The whole context as one object that from-json takes: see `render.plain`."""
    yield json.dumps(document_of(_wanted(context, wanted)), indent=1) + "\n"


def as_ndjson(context: HvmContext, wanted: Wanted = None) -> Iterator[str]:
    """A record a line, and last `tail` and `damage`, if there is either."""
    chosen = _wanted(context, wanted)
    for record in chosen.entries:
        yield json.dumps(record_to_plain(record)) + "\n"
    if len(chosen.tail) or chosen.damage is not None:
        yield json.dumps(ending_to_plain(chosen)) + "\n"


def as_table(context: HvmContext, wanted: Wanted = None) -> Iterator[str]:
    """A line for each record: where it is, what it is, and how long; for one that is cut
    off also how much of it there is."""
    rows = [(record, "") for record in context.entries]
    cut = context.cut_descriptor
    if cut is not None:
        rows.append((cut, f"cut after {len(cut.body)} bytes"))
    notes = ("note",) if cut is not None else ()
    table = Table("entry", "offset", "type", "record", "instance", "length", *notes)
    for number, (record, note) in enumerate(rows):
        if wanted is None or wanted(record):
            offset = "" if record.offset is None else f"{record.offset:#x}"
            cells = (number, offset, record.typecode, record.name, record.instance, record.length)
            table.add(*cells, *([note] if notes else []))
    yield from table.lines()


FORMS = {"json": as_json, "ndjson": as_ndjson, "table": as_table}
