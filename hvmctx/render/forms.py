"""The other forms of a dump: JSON, one JSON object a line, and a table."""

from __future__ import annotations

import json

from hvmctx.context.hvm_context import HvmContext
from hvmctx.render.plain import context_to_plain, record_to_plain
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
    """The whole context as one object: see `render.plain`."""
    yield json.dumps(context_to_plain(_wanted(context, wanted)), indent=1) + "\n"


def as_ndjson(context: HvmContext, wanted: Wanted = None) -> Iterator[str]:
    """A record a line."""
    for record in _wanted(context, wanted).entries:
        yield json.dumps(record_to_plain(record)) + "\n"


def as_table(context: HvmContext, wanted: Wanted = None) -> Iterator[str]:
    """A line for each record: where it is, what it is, and how long."""
    table = Table("entry", "offset", "type", "record", "instance", "length")
    for number, record in enumerate(context.entries):
        if wanted is None or wanted(record):
            offset = "" if record.offset is None else f"{record.offset:#x}"
            table.add(number, offset, record.typecode, record.name, record.instance, record.length)
    yield from table.lines()


FORMS = {"json": as_json, "ndjson": as_ndjson, "table": as_table}
