"""Parts of one file into another.

Between regular files holes stay holes, and the kernel copies the rest (`copy_file_range`):
page data never enter this process. Where the file system can share blocks (XFS, Btrfs) and
they lie alike in both files, nothing is copied at all.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from hvmctx.errors import InputError
from hvmctx.files.source import CHUNK, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = ["copy", "copy_range"]

_WORTHWHILE = 1 << 16
"""Of fewer bytes nobody asks where they have holes."""
_FICLONERANGE = 0x4020940D
"""Linux: source, its offset, length (whole blocks), offset in the destination."""


def copy(source: Source, count: int, out: BinaryIO) -> int:
    """Copy the next `count` bytes of any source to where `out` stands. Returns how many there
    were."""
    if source.seekable:
        start = source.position
        moved = source.skip(count)
        copy_range(source, start, start + moved, out)
        return moved
    left = count
    while left:
        data = source.read(min(left, CHUNK))
        if not data:
            break
        out.write(data)
        left -= len(data)
    return count - left


def copy_range(source: Source, start: int, end: int, out: BinaryIO) -> None:
    """Copy bytes `start` to `end` - 1 of a seekable source, as many as there are, to where
    `out` stands. Raises InputError for a file that has lost some of them meanwhile."""
    end = min(end, source.whole_size())
    if end - start < _WORTHWHILE or (fd := _sparse(source, out)) is None:
        _copy_by_hand(source, start, end, out)
        return
    to, place, first = out.fileno(), out.tell(), source.start
    left = [(first + start, first + end)]
    if (shared := _share_blocks(fd, first + start, first + end, to, place)) is not None:
        left = [(first + start, shared[0]), (shared[1], first + end)]
    for data, hole in (part for some in left for part in _stretches_of_data(fd, *some)):
        there = place + data - first - start
        at = _copy_in_kernel(fd, data, hole, to, there)
        if at < hole:
            out.seek(there + at - data)
            _copy_by_hand(source, at - first, hole - first, out)
            out.flush()
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_size < first + end:  # that was no hole
        raise _shorter(source)
    out.seek(place + end - start)
    out.truncate()  # or rather extend, over a hole at the end


def _sparse(source: Source, out: BinaryIO) -> int | None:
    """The descriptor of a source that may have holes, where `out` can have them too: it is a
    file, does not append, and stands at its end, as a hole would not clear what is there."""
    fileno = getattr(source, "fileno", None)
    if fileno is None:
        return None
    try:
        from fcntl import F_GETFL, fcntl

        out.flush()
        to = out.fileno()
        status = os.fstat(to)
        if (
            stat.S_ISREG(status.st_mode)
            and not fcntl(to, F_GETFL) & os.O_APPEND
            and status.st_size <= out.tell()
        ):
            fd: int = fileno()
            return fd
    except (OSError, AttributeError, ImportError):  # a pipe, no file at all, or Windows
        pass
    return None


def _share_blocks(fd: int, start: int, end: int, to: int, place: int) -> tuple[int, int] | None:
    """Let both files share what lies in whole blocks, holes too. Start and end of that in the
    source; None where the file system cannot, or blocks of one would lie across those of the
    other."""
    from fcntl import ioctl

    block = os.fstat(to).st_blksize
    first, last = -(-start // block) * block, end // block * block
    if block < 1 or (place - start) % block or first >= last:
        return None
    try:
        ioctl(
            to, _FICLONERANGE, struct.pack("qQQQ", fd, first, last - first, place + first - start)
        )
    except (OSError, OverflowError):
        return None
    return first, last


def _copy_by_hand(source: Source, start: int, end: int, out: BinaryIO) -> None:
    while start < end:
        data = source.read_at(start, min(CHUNK, end - start))
        if not data:
            raise _shorter(source)
        out.write(data)
        start += len(data)


def _shorter(source: Source) -> InputError:
    return InputError(f"{source.name}: has become shorter while it was read")


def _copy_in_kernel(fd: int, start: int, end: int, to: int, place: int) -> int:
    """Copy as far as the kernel does it, and return how far that is."""
    at = start
    try:
        while at < end:
            done = os.copy_file_range(fd, to, end - at, at, place + at - start)
            if not done:
                break
            at += done
    except (OSError, AttributeError):  # other file systems, old kernels: the caller does it
        pass
    return at


def _stretches_of_data(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Start and end of each run of data in a part of a file; all of it where the system does
    not tell."""
    while start < end:
        try:
            data = min(os.lseek(fd, start, os.SEEK_DATA), end)
            hole = min(os.lseek(fd, data, os.SEEK_HOLE), end)
        except (OSError, AttributeError) as error:
            if getattr(error, "errno", None) == errno.ENXIO:  # a hole up to the file's end
                return
            data, hole = start, end
        if data < hole:
            yield data, hole
        start = hole
