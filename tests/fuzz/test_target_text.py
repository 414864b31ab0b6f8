from __future__ import annotations

import random

import pytest

from hvmctx.fuzz.target_text import TEXT
from hvmctx.render.text import TextDialect
from tests.builders.samples import context_bytes


def test_records_are_reached() -> None:
    assert {"HEADER", "CPU", "LAPIC_REGS", "END"} <= TEXT.run(context_bytes()) <= TEXT.known


def test_text_that_is_not_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextDialect, "dump", lambda self, context: iter(["\N{SNOWMAN}"]))
    for data in TEXT.seeds(random.Random(1)):
        with pytest.raises(AssertionError):
            TEXT.run(data)
