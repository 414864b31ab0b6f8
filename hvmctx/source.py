"""Where bytes come from: files by offset, pipes in one pass, buffers without copying.

A `Source` is read forwards: `read`, `skip`, `position`. One that is `seekable` also
answers `read_at`. No call allocates by a length that the input claims: what is not there
is not allocated.
"""

from __future__ import annotations

import os
import stat

from hvmctx.errors import HvmctxError, InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    Target = str | os.PathLike[str] | bytes | bytearray | memoryview | Any

CHUNK = 1 << 20
"""Most bytes asked of a pipe at once, and held while discarding."""


class Source:
    """Base of all sources: what a seekable source does with `read_at` alone."""

    seekable = True
    name = "input"
    compression = ""

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
            raise self._once()
        return self.size

    def _once(self) -> InputError:
        return InputError(f"{self.name}: cannot be read twice")

    def peek(self, count: int) -> bytes:
        """The next bytes, which a later `read` gives again."""
        return bytes(self.read_at(self.position, count))

    def skip(self, count: int) -> int:
        """Move forwards. Returns how many bytes there were to skip."""
        moved = max(0, min(count, self.whole_size() - self.position))
        self.position += moved
        return moved

    def copy(self, count: int, out: BinaryIO) -> int:
        """Write the next `count` bytes to `out`, a chunk at a time. Returns how many there
        were."""
        left = count
        while left:
            data = self.read(min(left, CHUNK))
            if not data:
                break
            out.write(data)
            left -= len(data)
        return count - left

    def close(self) -> None:
        """Release what the source itself opened."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BufferSource(Source):
    """Bytes in memory. Reads are views, never copies."""

    name = "buffer"

    def __init__(self, buffer: bytes | bytearray | memoryview) -> None:
        view = memoryview(buffer)
        plain = view.format == "B" and view.ndim == 1 and view.c_contiguous
        self._view = view if plain else memoryview(view.tobytes())
        super().__init__(len(self._view))

    def read_at(self, offset: int, count: int) -> memoryview:
        return self._view[offset : offset + count]


class FileSource(Source):
    """A regular file or block device, by offset."""

    def __init__(self, fd: int, name: str, *, owned: bool = True) -> None:
        self.name = name
        self._fd = fd
        self._owned = owned
        try:
            size = os.lseek(fd, 0, os.SEEK_END)
        except OSError as error:
            raise InputError(f"{name}: {error.strerror}") from error
        super().__init__(size)

    def fileno(self) -> int:
        return self._fd

    def read_at(self, offset: int, count: int) -> bytes:
        count = min(count, self.whole_size() - offset)
        if count <= 0:
            return b""
        try:
            data = os.pread(self._fd, count, offset)
            while len(data) < count:  # the kernel gives at most 2 GiB at once
                more = os.pread(self._fd, count - len(data), offset + len(data))
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


class ObjectSource(Source):
    """A seekable file object, from where it stood when it was given."""

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
    """A file object read once, forwards. What is skipped is read in bounded pieces and
    dropped."""

    seekable = False

    def __init__(self, file: Any, name: str, *, owned: bool = False) -> None:
        self.name = name
        self._file = file
        self._owned = owned
        self._ahead = b""
        self.position = 0
        self.size = None

    def read_at(self, offset: int, count: int) -> bytes:
        raise self._once()

    def peek(self, count: int) -> bytes:
        if len(self._ahead) < count:
            self._ahead += _read_up_to(self._file, count - len(self._ahead), self.name)
        return self._ahead[:count]

    def read(self, count: int) -> bytes:
        data, self._ahead = self._ahead[:count], self._ahead[count:]
        if len(data) < count:
            data += _read_up_to(self._file, count - len(data), self.name)
        self.position += len(data)
        return data

    def skip(self, count: int) -> int:
        left = count
        while left:
            got = len(self.read(min(left, CHUNK)))
            if not got:
                break
            left -= got
        return count - left

    def close(self) -> None:
        if self._owned:
            self._file.close()


def _read_up_to(file: Any, count: int, name: str) -> bytes:
    """`count` bytes, fewer at the end of the file; pieces of at most CHUNK, so that a
    claimed count costs nothing."""
    try:
        data: bytes = file.read(min(count, CHUNK))
        if len(data) == count or not data:
            return data or b""
        pieces = [data]
        have = len(data)
        while have < count:
            data = file.read(min(count - have, CHUNK))
            if not data:
                break
            pieces.append(data)
            have += len(data)
        return b"".join(pieces)
    except HvmctxError:
        raise
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}") from error
    except (EOFError, ValueError) as error:
        raise InputError(f"{name}: {error}") from error


def open_source(target: Target) -> Source:
    """A source over a path, a buffer, or a binary file object (from where it stands; not
    closed); compressed data are decompressed on the way. A source is taken as it is. Raises
    InputError."""
    if isinstance(target, Source):
        return target
    if isinstance(target, (bytes, bytearray, memoryview)):
        source: Source = BufferSource(target)
    elif isinstance(target, (str, os.PathLike)):
        source = _open_path(os.fspath(target))
    elif hasattr(target, "read"):
        source = _open_object(target)
    else:
        raise InputError(f"cannot read from {type(target).__name__}")
    try:
        head = source.peek(8)
        if is_compressed(head):
            from hvmctx.compression import decompressed

            return decompressed(source, head)
    except BaseException:
        source.close()
        raise
    return source


def open_seekable(target: Target) -> Source:
    """As `open_source`, but what can be read only once is first written to a temporary
    file that vanishes when closed. Raises InputError when that has no room, too."""
    source = open_source(target)
    if source.seekable:
        return source
    from tempfile import TemporaryFile, gettempdir

    with source:
        try:
            with TemporaryFile() as spool:
                while data := source.read(CHUNK):
                    spool.write(data)
                spool.flush()
                return FileSource(os.dup(spool.fileno()), source.name)
        except OSError as error:
            raise InputError(
                f"{source.name}: to {gettempdir()}: {error.strerror or error}"
            ) from error


_COMPRESSED = (b"\x1f\x8b", b"\xfd7zX", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
"""What gzip, xz, zstd and lz4 files start with; no Xen format starts so."""


def is_compressed(head: bytes | bytearray | memoryview) -> bool:
    """Whether an input that starts with these bytes is one that `open_source` looks
    through."""
    return bytes(head[:4]).startswith(_COMPRESSED)


def _open_path(path: str) -> Source:
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # a NUL within the path
        raise InputError(f"{path!r}: {error}") from error
    try:
        kind = os.fstat(fd).st_mode
        if stat.S_ISDIR(kind):
            raise InputError(f"{path}: is a directory")
        if stat.S_ISREG(kind) or stat.S_ISBLK(kind):
            return FileSource(fd, path)
        return PipeSource(os.fdopen(fd, "rb", buffering=0), path, owned=True)
    except BaseException:
        os.close(fd)
        raise


def _open_object(file: Any) -> Source:
    name = str(getattr(file, "name", "file object"))
    try:
        seekable = bool(file.seekable()) if hasattr(file, "seekable") else False
        source = ObjectSource(file) if seekable else PipeSource(file, name)
        probe = file.read(0)
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {error}") from error
    if not isinstance(probe, bytes):
        raise InputError(f"{name}: opened as text, expected a binary file")
    return source
