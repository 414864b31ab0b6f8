"""What `hvmctx dump --format table` prints: where each record is and how long."""

from __future__ import annotations

from hvmctx.render.table import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.context.record import Record

    Wanted = Callable[[Record], bool] | None

__all__ = ["as_table"]


def as_table(context: HvmContext, wanted: Wanted = None) -> Iterator[str]:
    """A line for each record: offset in the context, type, instance, length; of a record that
    is cut off also how many bytes there are."""
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
