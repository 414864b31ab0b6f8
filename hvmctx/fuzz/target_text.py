"""The target `text`: any bytes as an HVM context, shown."""

from __future__ import annotations

from hvmctx.abi.registry import record_types
from hvmctx.abi.releases import Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.fuzz.target import Target, choose
from hvmctx.fuzz.target_context import context_seeds, mutated
from hvmctx.render.text import TextDialect

__all__ = ["TEXT"]

_DIALECTS = (TextDialect(), TextDialect(Release("4.5")), TextDialect(show_all=True))


def _as_ctypes_reads(record: Record) -> bool:
    if record.type is None:
        return True
    fields, struct = record.fields(), record.struct
    return all(
        fields.get(field.name) == getattr(struct, field.name)
        for field in record.type.layout.fields
        if field.code and field.count is None and not field.alternate
    )


def _run(data: bytes) -> set[str]:
    """One of the dialects prints it, in ASCII; fields are what ctypes reads."""
    context = HvmContext.from_bytes(data, damaged=True)
    assert "".join(choose(data, _DIALECTS).dump(context)).isascii()
    assert all(map(_as_ctypes_reads, context))
    return {record.name for record in context if record.type is not None}


_KNOWN = [known.name for known in record_types()]
TEXT = Target("text", _run, _KNOWN, context_seeds, mutated)
