"""A file with some of its bytes replaced, all others as they were."""

from __future__ import annotations

from hvmctx.files.copying import copy_range
from hvmctx.files.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

__all__ = ["Edit", "splice"]

Edit = tuple[int, int, bytes]
"""Start and end of the bytes to replace, and what to put there."""


def splice(source: Source, out: BinaryIO, edits: Iterable[Edit]) -> None:
    """Write a seekable source to `out` with the edits made. They must not overlap. Raises
    InputError for a source that is not seekable."""
    size = source.whole_size()
    at = 0
    for start, end, data in sorted(edits):
        copy_range(source, at, start, out)
        out.write(data)
        at = end
    copy_range(source, at, size, out)
