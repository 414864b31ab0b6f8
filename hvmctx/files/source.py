"""Where bytes come from: files by offset, pipes in one pass, buffers without copying.

A `Source` is read forwards: `read`, `skip`, `position`. One that is `seekable` also
answers `read_at`. No call allocates what the input only claims to have.
"""

from __future__ import annotations

import os
import stat
from _thread import allocate_lock

from hvmctx.buffers import Buffer, flat
from hvmctx.errors import HvmctxError, InputError
from hvmctx.limits import DEFAULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import BinaryIO, Protocol

    from hvmctx.errors import FormatError
    from hvmctx.files.access import Access
    from hvmctx.limits import Limits

    class Readable(Protocol):
        """A binary file object, as far as a source needs one: `read` returns no bytes at
        the end, and None where a descriptor that does not block has nothing yet. What it
        also has of `name`, `fileno`, `seekable`, `tell` and `seek` is used."""

        def read(self, count: int, /) -> bytes | None: ...

    class Closable(Readable, Protocol):
        """One that the source may close."""

        def close(self) -> object: ...


__all__ = ["CHUNK", "BufferSource", "FileSource", "ObjectSource", "PipeSource", "Source"]

CHUNK = 1 << 20
"""Most bytes asked of a pipe at once, and held while discarding."""


class Source:
    """Base of all sources: all that a seekable one does follows from `read_at`.

    `position` is the offset of the next byte to be read; `size` is None where it is not known
    before the end; `compression` is gzip, xz, zstd, lz4 or empty; `limits` say how much of it
    its readers take.
    """

    seekable = True
    name = "input"
    compression = ""
    start = 0
    """Where in its file the source begins."""
    limits: Limits = DEFAULT
    _access: Access | None = None

    def __init__(self, size: int) -> None:
        self.position = 0
        self.size: int | None = size

    def read_at(self, offset: int, count: int) -> bytes | memoryview:
        """Up to `count` bytes at `offset`; fewer only at the end. Does not move. Raises
        InputError where reading fails, and for a source that is not seekable."""
        raise NotImplementedError

    def read(self, count: int) -> bytes | memoryview:
        """Up to `count` bytes at `position`; fewer only at the end."""
        data = self.read_at(self.position, count)
        self.position += len(data)
        return data

    def whole_size(self) -> int:
        """How many bytes there are. Raises InputError for a source that is not seekable."""
        if self.size is None:
            raise self._not_twice()
        return self.size

    def _not_twice(self) -> InputError:
        return InputError(f"{self.name}: cannot be read twice")

    @property
    def trouble(self) -> FormatError | None:
        """The error that ended the source early. What comes before the damage in compressed
        data is read as if it were all."""
        return None

    def raise_trouble(self) -> None:
        """Raise `trouble`, for a caller that wants all or nothing. Reads ahead by a byte, as
        damage shows only when it is reached."""
        self.peek(1)
        if self.trouble is not None:
            raise self.trouble

    def peek(self, count: int) -> bytes:
        """The next bytes, which a later `read` gives again."""
        return bytes(self.read_at(self.position, count))

    def skip(self, count: int) -> int:
        """Move forwards. Returns how many bytes there were to skip."""
        moved = max(0, min(count, self.whole_size() - self.position))
        self.position += moved
        return moved

    @property
    def access(self) -> Access | None:
        """Who may read its file; None where the bytes are not a file's, or nobody can tell. To
        be asked first while it is open: only what writes an output asks at all."""
        if self._access is None and (fileno := getattr(self, "fileno", None)) is not None:
            from hvmctx.files.access import Access

            self._access = Access.of(fileno())
        return self._access

    @access.setter
    def access(self, access: Access | None) -> None:
        self._access = access

    def close(self) -> None:
        """Release what the source itself opened."""

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class BufferSource(Source):
    """Bytes in memory. Reads are views, never copies."""

    name = "buffer"

    def __init__(self, buffer: Buffer) -> None:
        self._view = memoryview(flat(memoryview(buffer)))
        super().__init__(len(self._view))

    def read_at(self, offset: int, count: int) -> memoryview:
        return self._view[offset : offset + count]


class FileSource(Source):
    """A regular file or block device, by offset, from `start` on."""

    def __init__(self, fd: int, name: str, *, start: int = 0, owned: bool = True) -> None:
        self.name = name
        self.start = start
        self._fd = fd
        self._owned = owned
        try:
            status = os.fstat(fd)
            regular = stat.S_ISREG(status.st_mode)
            size = status.st_size if regular else os.lseek(fd, 0, os.SEEK_END)
        except OSError as error:
            raise InputError(f"{name}: {error.strerror}") from error
        super().__init__(max(0, size - start))

    def fileno(self) -> int:
        return self._fd

    def read_at(self, offset: int, count: int) -> bytes:
        count = min(count, self.whole_size() - offset)
        if count <= 0:
            return b""
        pread = _pread()
        try:
            data = pread(self._fd, count, self.start + offset)
            while len(data) < count:  # the kernel gives at most 2 GiB at once
                more = pread(self._fd, count - len(data), self.start + offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise InputError(f"{self.name}: {error.strerror}") from error
        return data

    def close(self) -> None:
        if self._owned and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _pread() -> Callable[[int, int, int], bytes]:
    return getattr(os, "pread", None) or _seek_and_read


def _seek_and_read(fd: int, count: int, offset: int) -> bytes:
    """Windows has no `pread`. The descriptor is left where it was: it may be somebody's."""
    with _SEEKING:
        before = os.lseek(fd, 0, os.SEEK_CUR)
        try:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, count)
        finally:
            os.lseek(fd, before, os.SEEK_SET)


_SEEKING = allocate_lock()


class ObjectSource(Source):
    """A seekable file object without a descriptor, from where it stands when given."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.name = str(getattr(file, "name", "file object"))
        self._start = file.tell()
        super().__init__(file.seek(0, os.SEEK_END) - self._start)

    def read_at(self, offset: int, count: int) -> bytes:
        count = min(count, self.whole_size() - offset)
        if count <= 0:
            return b""
        try:
            self._file.seek(self._start + offset)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name}: {error}") from error
        return _read_up_to(self._file, count, self.name)


class PipeSource(Source):
    """A file object read once, forwards. What is skipped is read in pieces of at most CHUNK
    and dropped."""

    seekable = False

    def __init__(
        self, file: Readable, name: str, *, owned: Closable | None = None, at_once: int = 0
    ) -> None:
        """`owned` is what `close` closes. `at_once` is the least that is asked of the file, for
        one that nobody else reads: headers of eight bytes then cost no call each."""
        self.name = name
        self._file = file
        self._owned = owned
        self._at_once = at_once
        self._ahead = b""
        self._taken = 0
        """How much of what was read ahead has been given."""
        self.position = 0
        self.size = None

    def read_at(self, offset: int, count: int) -> bytes:
        raise self._not_twice()

    def peek(self, count: int) -> bytes:
        ahead = self._ahead[self._taken :]
        if len(ahead) < count:
            ahead += self._more(count - len(ahead))
            self._ahead, self._taken = ahead, 0
        return ahead[:count]

    def read(self, count: int) -> bytes:
        end = self._taken + count
        data = self._ahead[self._taken : end]
        self._taken = end
        if len(data) < count:
            missing = count - len(data)
            self._ahead, self._taken = self._more(missing), missing
            data = b"".join((data, self._ahead[:missing])) if data else self._ahead[:missing]
        self.position += len(data)
        return data

    def _more(self, count: int) -> bytes:
        """The next bytes of the file, `count` or more if there are as many."""
        return _read_up_to(self._file, max(count, self._at_once), self.name)

    def skip(self, count: int) -> int:
        left = count
        while left:
            got = len(self.read(min(left, CHUNK)))
            if not got:
                break
            left -= got
        return count - left

    def close(self) -> None:
        if self._owned is not None:
            self._owned.close()


def _read_up_to(file: Readable, count: int, name: str) -> bytes:
    """`count` bytes, fewer at the end of the file; in pieces of at most CHUNK, so that a
    count that is only claimed costs nothing."""
    pieces: list[bytes] = []
    have = 0
    try:
        while have < count:
            want = min(count - have, CHUNK)
            data = file.read(want)
            if data is None:  # a descriptor that does not block has nothing yet
                _wait_for(file)
                continue
            if len(data) > want:
                raise InputError(f"{name}: gave {len(data)} bytes, asked for {want}")
            if not data:
                break
            pieces.append(data)
            have += len(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    except HvmctxError:
        raise
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}") from error
    except (EOFError, ValueError) as error:
        raise InputError(f"{name}: {error}") from error


def _wait_for(file: Readable) -> None:
    from select import select

    select([file], [], [])  # type: ignore[type-var]  # what gives None has a descriptor
