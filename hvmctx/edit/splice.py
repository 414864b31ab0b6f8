"""A file with some of its bytes replaced, all others as they were."""

from __future__ import annotations

from bisect import bisect_right

from hvmctx.files.copying import copy_range
from hvmctx.files.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

__all__ = ["Edit", "Spliced", "splice"]

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


class Spliced(Source):
    """A seekable source as it would be with edits made: to be read without being written."""

    def __init__(self, source: Source, edits: Iterable[Edit]) -> None:
        self._parts: list[tuple[int, int, bytes | None]] = []
        """Where a part starts, and either its offset in the source, or its bytes."""
        self._source = source
        at = end = 0
        for start, stop, data in [*sorted(edits), (source.whole_size(), source.whole_size(), b"")]:
            self._parts += [(end, at, None), (end + start - at, 0, data)]
            end += start - at + len(data)
            at = stop
        self._starts = [start for start, _, _ in self._parts]
        super().__init__(end)
        self.name, self.limits, self.access = source.name, source.limits, source.access

    def read_at(self, offset: int, count: int) -> bytes | memoryview:
        pieces: list[bytes | memoryview] = []
        place = bisect_right(self._starts, offset) - 1
        while count > 0 and 0 <= place < len(self._parts):
            start, at, data = self._parts[place]
            end = self._starts[place + 1] if place + 1 < len(self._parts) else self.whole_size()
            size = min(count, end - offset)
            if size > 0:
                inside = offset - start
                piece = (
                    self._source.read_at(at + inside, size)
                    if data is None
                    else data[inside : inside + size]
                )
                pieces.append(piece)
                offset, count = offset + size, count - size
            place += 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
