"""Simulated guests that tell what a save did with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hvmctx.save.simulated import Script, SimulatedGuest
from tests.builders.samples import context_bytes


class Ends(SimulatedGuest):
    """Counts the batches that were asked for, tells how it ended."""

    def __init__(self, pages: int) -> None:
        super().__init__(pages, Script({}), context=context_bytes())
        self.batches = 0
        self.ended: list[str] = []

    def pages(self, pfns: memoryview, types: bytes) -> Iterable[Any]:
        self.batches += 1
        return super().pages(pfns, types)

    def log_dirty(self, on: bool) -> None:
        if not on:
            self.ended.append("logging off")

    def cleanup(self) -> None:
        self.ended.append("clean")
