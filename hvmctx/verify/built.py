"""What is wrong with an image that was built of parts."""

from __future__ import annotations

import os

from hvmctx.findings import ERROR, Finding
from hvmctx.verify.views import STRICT, verify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from hvmctx.abi.releases import Release

MISMATCHES = frozenset((
    "param-page-missing", "param-missing", "param-duplicate", "emulator-magic",
    "context-incomplete", "context-no-cpu", "context-duplicate", "lapic-same-id", "lapic-bsp",
))  # fmt: skip
"""Warnings of the strict view about parts that do not match."""


def contradictions(file: BinaryIO, release: Release | None = None) -> list[Finding]:
    """What is wrong with an image that was built: all errors of the strict view, and its
    warnings about parts that do not match. Leaves the file at its end."""
    file.seek(0)
    found = verify(file, STRICT, releases=[release] if release else None)
    file.seek(0, os.SEEK_END)
    return [f for f in found if f.severity == ERROR or f.rule in MISMATCHES]


__all__ = ["MISMATCHES", "contradictions"]
