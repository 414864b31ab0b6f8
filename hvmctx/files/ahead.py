"""A source that reads ahead: for those who look at many small parts of an input whose every read
costs, a request to a server or a call of the system."""

from __future__ import annotations

from collections import deque

from hvmctx.files.source import CHUNK, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.files.access import Access

__all__ = ["AheadSource"]

_MOST_PIECES = 16


class AheadSource(Source):
    """Over a seekable source, of which at least `ahead` bytes are asked at once. It holds the last
    16 pieces, each of at most 1 MiB."""

    def __init__(self, inner: Source, ahead: int) -> None:
        super().__init__(inner.whole_size())
        self.name, self.start, self.limits = inner.name, inner.start, inner.limits
        self._inner = inner
        self._ahead = ahead
        self._pieces: deque[tuple[int, bytes | memoryview]] = deque(maxlen=_MOST_PIECES)

    def read_at(self, offset: int, count: int) -> bytes | memoryview:
        count = min(count, self.whole_size() - offset)
        if count <= 0:
            return b""
        for start, data in self._pieces:
            at = offset - start
            if at >= 0 and at + count <= len(data):
                return data[at : at + count]
        data = self._inner.read_at(offset, max(count, self._ahead))
        if len(data) <= CHUNK:
            self._pieces.appendleft((offset, data))
        return data[:count]

    @property
    def access(self) -> Access | None:
        return self._inner.access

    @access.setter
    def access(self, access: Access | None) -> None:
        self._inner.access = access

    def close(self) -> None:
        self._pieces.clear()
        self._inner.close()
