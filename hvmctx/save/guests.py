"""Guests that do not run: memory out of a file, or out of an image."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from bisect import bisect_right

from hvmctx.abi import streams
from hvmctx.errors import InputError
from hvmctx.files.access import Access
from hvmctx.files.opening import without_waiting
from hvmctx.save.source import DEFERRED
from hvmctx.stream.libxc import TscInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from hvmctx.buffers import Buffer
    from hvmctx.image.image import Image

__all__ = [
    "ImageSource", "MemoryFileSource", "Runs", "StillGuest", "data_stretches", "image_state",
    "stretches",
]  # fmt: skip

_PAGE = streams.PAGE_SIZE
_DATA = bytes(sorted(streams.PAGE_TYPES_WITH_DATA))
assert DEFERRED not in _DATA


class Runs:
    """Which pfns there are, as disjoint runs (first, one after the last, type) by ascending
    pfn; all others are absent. Types and pages of a batch come of its runs, not of its
    pages one by one."""

    def __init__(self, runs: Iterable[tuple[int, int, int]]) -> None:
        self.runs = list(runs)
        self._starts = [run[0] for run in self.runs]

    @property
    def end(self) -> int:
        """The highest pfn that there is, plus one."""
        return self.runs[-1][1] if self.runs else 0

    def types(self, pfns: memoryview) -> bytes:
        """A type for each pfn."""
        pieces = []
        for first, end in stretches(pfns):
            at = first
            place = max(0, bisect_right(self._starts, first) - 1)
            while at < end and place < len(self.runs):
                start, stop, kind = self.runs[place]
                place += 1
                if stop <= at:
                    continue
                if start >= end:
                    break
                if start > at:
                    pieces.append(_ABSENT * (start - at))
                    at = start
                pieces.append(bytes((kind,)) * (min(stop, end) - at))
                at = min(stop, end)
            pieces.append(_ABSENT * (end - at))
        return b"".join(pieces)


_ABSENT = bytes((streams.PAGE_XTAB,))


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
    they are blank ones. The file is mapped, not read: as pages are not aligned in a stream, no
    block can be shared with it, and `copy_file_range` and `sendfile` take longer than this."""

    def __init__(self, path: str, *, holes_absent: bool = True, **state: Any) -> None:
        """Raises InputError, also for what cannot be mapped: all but regular files and
        block devices."""
        super().__init__(**state)
        try:
            with open(path, "rb", opener=without_waiting) as file:
                size = _size_of(file.fileno(), path)
                self.access = Access.of(file.fileno())
                runs = list(_data_runs(file.fileno(), size)) if holes_absent else [(0, size)]
                self._map: Any = (
                    mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""
                )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: {reason}") from error
        self._view = memoryview(self._map)
        self.p2m_size = -(-size // _PAGE)
        self._runs = Runs((start // _PAGE, -(-end // _PAGE), 0) for start, end in runs)

    def close(self) -> None:
        """Unmap the file."""
        self._view.release()
        if self._map:
            self._map.close()

    def page_types(self, pfns: memoryview) -> bytes:
        return self._runs.types(pfns)

    def pages(self, pfns: memoryview, types: bytes) -> Iterable[Buffer]:
        for start, end in data_stretches(pfns, types):
            part = self._view[start * _PAGE : end * _PAGE]
            yield part
            missing = (end - start) * _PAGE - len(part)
            if missing:
                yield bytes(missing)


def _size_of(fd: int, path: str) -> int:
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    if stat.S_ISBLK(status.st_mode):
        return os.lseek(fd, 0, os.SEEK_END)
    raise InputError(f"{path} is not a regular file or a block device")


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
        runs = self._map.runs
        self._runs = Runs((run.pfn, run.end, run.type) for run in runs)
        self.p2m_size = self._runs.end

    def page_types(self, pfns: memoryview) -> bytes:
        return self._runs.types(pfns)

    def pages(self, pfns: memoryview, types: bytes) -> Iterable[Buffer]:
        for start, end in data_stretches(pfns, types):
            for run in self._map.between(start, end):
                if run.offset is not None:
                    yield self._image.source.read_at(run.offset, run.count * _PAGE)

    def all_pages(self) -> Iterable[tuple[int, int]]:
        """What the image mentions: a hostile pfn far away costs nothing."""
        found: list[tuple[int, int]] = []
        for run in self._map.runs:
            if found and found[-1][1] == run.pfn:
                found[-1] = found[-1][0], run.end
            else:
                found.append((run.pfn, run.end))
        return found

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
