"""Parts of one file into another.

Between regular files the kernel copies (`copy_file_range`), and holes stay holes: page data
never enter this process.
"""

from __future__ import annotations

import errno
import os

from hvmctx.files.source import CHUNK, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["copy_range"]


def copy_range(source: Source, start: int, end: int, out: BinaryIO) -> None:
    """Copy bytes `start` to `end` - 1 of a seekable source, as many as there are, to where
    `out` stands."""
    end = min(end, source.whole_size())
    first = source.start
    start = _copy_in_kernel(source, first + start, first + end, out) - first
    while start < end:
        data = source.read_at(start, min(CHUNK, end - start))
        if not data:
            return
        out.write(data)
        start += len(data)


def _copy_in_kernel(source: Source, start: int, end: int, out: BinaryIO) -> int:
    """Copy as far as the kernel does it, and return how far that is; offsets are those of the
    source's file. Holes are stepped over, as `copy_file_range` does not keep them on every
    file system (on ext4 it writes zeroes)."""
    fileno = getattr(source, "fileno", None)
    if fileno is None or not hasattr(os, "copy_file_range") or end - start < CHUNK:
        return start
    try:
        out.flush()
        to = out.fileno()
        place = os.lseek(to, 0, os.SEEK_CUR)
        if os.fstat(to).st_size > place:  # a hole would not clear what is there
            return start
        os.copy_file_range(fileno(), to, 0, start)  # refuses pipes and files that append
        try:
            while start < end:
                data, hole = _next_data(fileno(), start, end)
                place = os.lseek(to, data - start, os.SEEK_CUR)
                start = data
                while start < hole:
                    done = os.copy_file_range(fileno(), to, hole - start, start)
                    if not done:
                        return start
                    start += done
        finally:
            place = os.lseek(to, 0, os.SEEK_CUR)
            if os.fstat(to).st_size < place:
                os.ftruncate(to, place)
            out.seek(place)
    except OSError:  # other file systems, pipes, old kernels: the caller copies by hand
        pass
    return start


def _next_data(fd: int, start: int, end: int) -> tuple[int, int]:
    """Start and end of the next run of data in a file, both at most `end`."""
    if not hasattr(os, "SEEK_DATA"):
        return start, end
    try:
        data = min(os.lseek(fd, start, os.SEEK_DATA), end)
        return data, min(os.lseek(fd, data, os.SEEK_HOLE), end)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the file's end
            return end, end
        return start, end
