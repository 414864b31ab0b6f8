"""What speaks against an image that was built of parts."""

from __future__ import annotations

import os

from hvmctx.findings import ERROR, Finding
from hvmctx.verify.views import STRICT, verify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from hvmctx.abi.releases import Release

_CONTRADICTIONS = frozenset((
    "param-page-missing", "param-missing", "param-duplicate", "emulator-magic",
    "context-incomplete", "context-no-cpu", "context-duplicate", "lapic-same-id", "lapic-bsp",
))  # fmt: skip
"""Warnings of the strict view that say that parts do not fit each other."""


def contradictions(file: BinaryIO, release: Release | None = None) -> list[Finding]:
    """What of an image that was built speaks against it: all errors of the strict view,
    and warnings of parts that do not fit each other. Leaves the file at its end."""
    file.seek(0)
    found = verify(file, STRICT, releases=[release] if release else None)
    file.seek(0, os.SEEK_END)
    return [f for f in found if f.severity == ERROR or f.rule in _CONTRADICTIONS]


__all__ = ["contradictions"]
