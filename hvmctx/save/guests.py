"""Guests that do not run: memory out of a file, or out of an image."""

from __future__ import annotations

import errno
import os
import stat

from hvmctx.abi import streams
from hvmctx.errors import InputError
from hvmctx.files.opening import without_waiting
from hvmctx.files.source import FileSource, Source
from hvmctx.image.memory_map import MemoryMap
from hvmctx.image.runs import Run
from hvmctx.save.source import DEFERRED
from hvmctx.stream.libxc import TscInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from hvmctx.buffers import Buffer
    from hvmctx.image.image import Image

__all__ = [
    "ImageSource", "MemoryFileSource", "StillGuest", "data_stretches", "image_state",
    "read_whole_part", "stretches", "types_of",
]  # fmt: skip

_PAGE = streams.PAGE_SIZE
_DATA = bytes(sorted(streams.PAGE_TYPES_WITH_DATA))
assert DEFERRED not in _DATA


_ABSENT = bytes((streams.PAGE_XTAB,))


def types_of(there: MemoryMap, pfns: memoryview) -> bytes:
    """A type for each of these pfns, out of the runs of a map; what it does not mention is
    absent."""
    pieces = []
    for first, end in stretches(pfns):
        at = first
        for run in there.between(first, end):
            pieces.append(_ABSENT * (run.pfn - at))
            pieces.append(bytes((run.type,)) * run.count)
            at = run.end
        pieces.append(_ABSENT * (end - at))
    return b"".join(pieces)


def read_whole_part(source: Source, offset: int, size: int) -> bytes | memoryview:
    """Bytes that were there when the source was opened. Raises InputError if they have been cut
    off since."""
    data = source.read_at(offset, size)
    if len(data) < size:
        raise InputError(
            f"{source.name}: ends at {offset + len(data):#x}: it has been cut while it was read"
        )
    return data


def stretches(pfns: memoryview) -> Iterator[tuple[int, int]]:
    """(first, one after the last) of each stretch of consecutive ones in ascending pfns."""
    count = len(pfns)
    if count and pfns[count - 1] - pfns[0] == count - 1:
        yield pfns[0], pfns[count - 1] + 1
        return
    at = 0
    while at < count:
        end = at + 1
        while end < count and pfns[end] == pfns[end - 1] + 1:
            end += 1
        yield pfns[at], pfns[end - 1] + 1
        at = end


def data_stretches(pfns: memoryview, types: bytes) -> Iterator[tuple[int, int]]:
    """The stretches of those pfns whose type has contents."""
    if not types.translate(None, _DATA):
        yield from stretches(pfns)
        return
    if len(types.translate(None, _DATA)) < len(types):
        has_data = [kind in streams.PAGE_TYPES_WITH_DATA for kind in types]
        start = None
        for at, pfn in enumerate(pfns):
            if start is not None and (not has_data[at] or pfn != pfns[at - 1] + 1):
                yield start, pfns[at - 1] + 1
                start = None
            if has_data[at] and start is None:
                start = pfn
        if start is not None:
            yield start, pfns[len(pfns) - 1] + 1


class StillGuest:
    """A guest that is stopped: nothing is dirty, nothing is deferred. Base of the guests
    here; give it a context and what else there is."""

    def __init__(
        self,
        *,
        context: bytes = b"",
        params: Iterable[tuple[int, int]] = (),
        tsc: TscInfo | None = None,
        cpuid_policy: bytes = b"",
        msr_policy: bytes = b"",
        xen_version: tuple[int, int] = (4, 17),
    ) -> None:
        self.p2m_size = 0
        self.context = context
        self.params = list(params)
        self.tsc = tsc
        self.cpuid_policy = cpuid_policy
        self.msr_policy = msr_policy
        self.xen_version = xen_version

    def page_types(self, pfns: memoryview) -> bytes:
        """All absent."""
        return _ABSENT * len(pfns)

    def pages(self, pfns: memoryview, types: bytes) -> Iterable[Buffer]:
        """None."""
        return ()

    def all_pages(self) -> Iterable[tuple[int, int]]:
        """All below p2m_size."""
        return [(0, self.p2m_size)]

    def log_dirty(self, on: bool) -> None:
        """Nothing will be."""

    def fetch_dirty(self, bitmap: bytearray) -> int:
        """Nothing is."""
        return 0

    def pause(self) -> bool:
        return True

    def shutdown_reason(self) -> int | None:
        """It has not shut down."""
        return None

    def resume(self) -> None:
        """It stays as it is."""

    def policies(self) -> tuple[bytes, bytes]:
        return self.cpuid_policy, self.msr_policy

    def tsc_info(self) -> TscInfo | None:
        return self.tsc

    def hvm_context(self) -> bytes:
        return self.context

    def hvm_params(self) -> list[tuple[int, int]]:
        return self.params

    def cleanup(self) -> None:
        """Nothing is to be given back."""


class MemoryFileSource(StillGuest):
    """Memory that lies in a file, pfn after pfn from 0 on; a last part of a page counts as
    a page, filled with zeroes. Holes of the file are absent pages; with `holes_absent=False`
    they are blank ones. The file is read, not mapped: who cuts a file that is mapped ends the
    process. As pages are not aligned in a stream, no block can be shared with it."""

    def __init__(self, path: str, *, holes_absent: bool = True, **state: Any) -> None:
        """Raises InputError, also for all but regular files and block devices."""
        super().__init__(**state)
        try:
            with open(path, "rb", opener=without_waiting) as file:
                mode = os.fstat(file.fileno()).st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                    raise InputError(f"{path} is not a regular file or a block device")
                self._source = FileSource(os.dup(file.fileno()), path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: {reason}") from error
        self.access = self._source.access
        self._size = size = self._source.whole_size()
        runs = _data_runs(self._source.fileno(), size) if holes_absent else [(0, size)]
        self._there = MemoryMap(
            Run(start // _PAGE, -(-(end - start) // _PAGE), 0, None) for start, end in runs
        )
        self.p2m_size = -(-size // _PAGE)

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def page_types(self, pfns: memoryview) -> bytes:
        return types_of(self._there, pfns)

    def pages(self, pfns: memoryview, types: bytes) -> Iterable[Buffer]:
        for first, last in data_stretches(pfns, types):
            start, end = first * _PAGE, last * _PAGE
            yield read_whole_part(self._source, start, min(end, self._size) - start)
            if end > self._size:
                yield bytes(end - self._size)


def _data_runs(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file has data, in whole pages, adjoining runs joined."""
    at = 0
    last: tuple[int, int] | None = None
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                break
            start, end = at, size  # a file system that does not tell
        start, end = start // _PAGE * _PAGE, -(-end // _PAGE) * _PAGE
        if last is not None and start <= last[1]:
            last = last[0], end
        else:
            if last is not None:
                yield last
            last = start, end
        at = max(end, at + 1)
    if last is not None:
        yield last


def image_state(image: Image, *, with_context: bool = True) -> dict[str, Any]:
    """The arguments of `StillGuest` that an image gives. Raises FormatError, and
    MissingRecordError for a context that it does not have."""
    state: dict[str, Any] = {"tsc": image.tsc_info, "params": list(image.params.items())}
    for name, number in (
        ("cpuid_policy", streams.LIBXC_X86_CPUID_POLICY),
        ("msr_policy", streams.LIBXC_X86_MSR_POLICY),
    ):
        record = image.last("libxc", number)
        state[name] = b"" if record is None else bytes(image.body(record))
    if with_context:
        state["context"] = bytes(image.context_bytes())
    state["xen_version"] = image.xen_version or (4, 17)
    return state


class ImageSource(StillGuest):
    """The guest of an image that can be read twice: its memory as a restore would leave it,
    its state. `recorded` are its batches as they were sent."""

    def __init__(self, image: Image, **state: Any) -> None:
        """`state` goes before what the image has. Raises FormatError."""
        own = image_state(image, with_context="context" not in state)
        super().__init__(**{**own, **state})
        self._image = image
        self._map = image.memory
        self.p2m_size = self._map.end

    def page_types(self, pfns: memoryview) -> bytes:
        return types_of(self._map, pfns)

    def pages(self, pfns: memoryview, types: bytes) -> Iterable[Buffer]:
        for start, end in data_stretches(pfns, types):
            for run in self._map.between(start, end):
                if run.offset is not None:
                    yield read_whole_part(self._image.source, run.offset, run.count * _PAGE)

    def all_pages(self) -> Iterable[tuple[int, int]]:
        """What the image mentions: a hostile pfn far away costs nothing."""
        start = end = 0
        for run in self._map.runs:
            if run.pfn != end:
                if start < end:
                    yield start, end
                start = run.pfn
            end = run.end
        if start < end:
            yield start, end

    def recorded(self) -> Iterator[tuple[bytes, list[Buffer]] | None]:
        """The batches as they were sent, for `save(recorded=)`; None stands for VERIFY."""
        image = self._image
        for record in image.records:
            if record.layer != "libxc":
                continue
            if record.type == streams.LIBXC_VERIFY:
                yield None
            elif record.count > 0:
                words = image.words(record)
                start = record.body_offset + streams.PAGE_DATA_HEAD.size + len(words)
                yield words, [image.source.read_at(start, record.body_end - start)]
