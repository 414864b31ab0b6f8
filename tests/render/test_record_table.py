from __future__ import annotations

from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.render.record_table import as_table
from hvmctx.render.text import TextDialect
from tests.builders.samples import context_bytes

CONTEXT = HvmContext.from_bytes(context_bytes())
CUT = HvmContext.from_bytes(context_bytes()[:2000], damaged=True)


def only_pic(record: Record) -> bool:
    return record.name == "PIC"


def test_table() -> None:
    lines = "".join(as_table(CONTEXT, only_pic)).splitlines()
    assert lines == [
        "entry  offset  type  record  instance  length",
        "    2  0x430      3  PIC            0       8",
        "    3  0x440      3  PIC            1       8",
    ]


def test_table_of_a_cut_context() -> None:
    """As many rows as the text has Entry lines."""
    lines = "".join(as_table(CUT, None)).splitlines()
    assert lines[0] == "entry  offset  type  record      instance  length  note"
    assert lines[1] == "    0  0x0        1  HEADER             0      24"
    assert lines[-1] == "    6  0x608      6  LAPIC_REGS         0    1024  cut after 448 bytes"
    assert "".join(TextDialect().dump(CUT)).count("\nEntry") == len(lines) - 1
    lines = "".join(as_table(CUT, only_pic)).splitlines()
    assert len(lines) == 3
