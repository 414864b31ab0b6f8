"""From what a caller gives (a path, a URL, a buffer, a file object) to a `Source`."""

from __future__ import annotations

import io
import os
import stat

from hvmctx.errors import InputError
from hvmctx.files.source import CHUNK, BufferSource, FileSource, ObjectSource, PipeSource, Source
from hvmctx.limits import DEFAULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO, TypeGuard

    from hvmctx.buffers import AnyBuffer, Buffer
    from hvmctx.files.source import Readable
    from hvmctx.limits import Limits

    Target = str | os.PathLike[str] | AnyBuffer | Readable | Source
    """What can be opened. Text that names no file and looks like a URL is one; an mmap counts as a
    buffer, from where it stands."""

__all__ = [
    "is_compressed",
    "open_seekable",
    "open_source",
    "open_stored",
    "open_whole",
    "read_whole",
    "unopened",
    "unpacked",
    "without_waiting",
]


def open_source(target: Target, limits: Limits | None = None) -> Source:
    """A source over a path, a URL, a buffer, or a binary file object, which is read from where it
    stands and not closed; compressed data are decompressed on the way, and an XVA is read as the
    disk of the suspended guest in it. A source is taken as it is. `limits` are for all who read
    it (default: those of the source, or the defaults). Raises InputError, and FormatError for an
    XVA without such a disk."""
    source = target if isinstance(target, Source) else _opened(target, limits or DEFAULT)
    if limits is not None:
        source.limits = limits
    return source


def _opened(target: str | os.PathLike[str] | AnyBuffer | Readable, limits: Limits) -> Source:
    if isinstance(target, (str, os.PathLike)):
        source = open_stored(os.fspath(target))
    else:
        buffer = _buffer(target)
        if buffer is not None:
            source = BufferSource(buffer)
        elif _is_readable(target):
            source = _open_object(target)
        else:
            raise InputError(
                f"cannot read from {type(target).__name__}; expected a path, bytes or a binary file"
            )
    return unpacked(source, limits)


def unpacked(source: Source, limits: Limits) -> Source:
    """What is in a compressed source; any other as it is. Closes it where that fails."""
    try:
        head = source.peek(8)
        if is_compressed(head):
            from hvmctx.files.compression import decompressed

            source = decompressed(source, head, limits)
            head = source.peek(8)
        if head.startswith(_XVA):
            from hvmctx.files.xva import SECTOR, is_header, suspended_disk

            if is_header(source.peek(SECTOR)):
                source.limits = limits
                return suspended_disk(source)
    except BaseException:
        source.close()
        raise
    return source


def open_seekable(target: Target, limits: Limits | None = None) -> Source:
    """As `open_source`, but what can be read only once is first written to a temporary
    file that vanishes when closed, `Limits.spooled` bytes at most. Raises InputError, also when
    there is no room for it, and LimitError."""
    source = open_source(target, limits)
    if source.seekable:
        return source
    from tempfile import TemporaryFile, gettempdir

    limits = source.limits
    with source:
        try:
            with TemporaryFile() as spool:
                while data := source.read(CHUNK):
                    if source.position > limits.spooled:
                        raise limits.over("spooled", "bytes", layer="input", offset=limits.spooled)
                    spool.write(data)
                source.raise_trouble()
                spool.flush()
                spooled = FileSource(os.dup(spool.fileno()), source.name)
                spooled.limits, spooled.access = limits, source.access
                return spooled
        except OSError as error:
            raise InputError(
                f"{source.name}: cannot be copied to {gettempdir()}: {error.strerror or error}"
            ) from error


def open_whole(target: Target, limits: Limits | None = None) -> Source:
    """As `open_source`, but what can be read only once is read into memory, `Limits.input` bytes
    at most. Raises InputError and LimitError, and FormatError for damaged compression."""
    source = open_source(target, limits)
    if source.seekable:
        return source
    with source:
        data = read_whole(source)
        source.raise_trouble()
    whole = BufferSource(data)
    whole.name, whole.limits, whole.access = source.name, source.limits, source.access
    return whole


def read_whole(source: Source, *, layer: str = "input", record: str = "") -> bytes | memoryview:
    """All that is left of a source, `Limits.input` bytes at most. Raises LimitError, which names
    the layer and the record, before anything is read where the source knows its size."""
    limits, size = source.limits, source.size
    data = source.read(limits.input + 1) if size is None or size <= limits.input else None
    if data is None or len(data) > limits.input:
        raise limits.over("input", "bytes", layer=layer, offset=limits.input, record=record)
    return data


def unopened(path: str, error: OSError | ValueError) -> InputError:
    """That a file cannot be opened."""
    if not path:
        return InputError("the name of the input file is empty")
    return InputError(f"{path}: {getattr(error, 'strerror', None) or error}")


def without_waiting(path: str, flags: int) -> int:
    """An `opener` for `open` that opens a FIFO, too, that nobody writes to: to say that it is
    one."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _buffer(target: AnyBuffer | Readable) -> memoryview | None:
    try:
        view = memoryview(target)  # type: ignore[arg-type]  # it raises for anything else
    except (TypeError, ValueError):  # no buffer, or a closed one
        return None
    tell = getattr(target, "tell", None)  # an mmap's
    return view if tell is None else view[tell() :]


_COMPRESSED = (b"\x1f\x8b", b"\xfd7zX", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
"""What gzip, xz, zstd and lz4 files start with; no Xen format starts so."""


_XVA = (b"ova.xml\0", b"Ref:")
"""What XAPI's archives start with: a tar, of a description or of a disk."""


def is_compressed(head: Buffer) -> bool:
    """Whether `open_source` would decompress an input that starts with these bytes."""
    return bytes(head[:4]).startswith(_COMPRESSED)


_READING = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""Windows has descriptors that read text, unless told otherwise."""


def open_stored(path: str) -> Source:
    """A source over the bytes of a file, or at a URL, as they are stored. Raises InputError."""
    try:
        fd = os.open(path, _READING)
    except OSError as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) and "://" in path:
            from hvmctx.files.remote import is_url, open_url

            if is_url(path):
                return open_url(path)
        raise unopened(path, error) from error
    except ValueError as error:  # a NUL within the path
        raise InputError(f"{path!r}: {error}") from error
    try:
        kind = os.fstat(fd).st_mode
        if stat.S_ISDIR(kind):
            raise InputError(f"{path}: Is a directory")
        if stat.S_ISREG(kind) or stat.S_ISBLK(kind):
            return FileSource(fd, path)
        file = os.fdopen(fd, "rb", buffering=0)
        return PipeSource(file, path, owned=file)
    except BaseException:
        os.close(fd)
        raise


def _open_object(file: Readable) -> Source:
    name = str(getattr(file, "name", "file object"))
    try:
        source = _by_descriptor(file, name)
        if source is not None:
            return source
        source = ObjectSource(file) if _is_seekable(file) else PipeSource(file, name)
        probe = file.read(0)
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {error}") from error
    if not isinstance(probe, bytes):
        raise InputError(f"{name}: opened as text, expected a binary file")
    return source


def _is_readable(target: object) -> TypeGuard[Readable]:
    return hasattr(target, "read")


def _is_seekable(file: Readable) -> TypeGuard[BinaryIO]:
    seekable = getattr(file, "seekable", None)
    return seekable is not None and bool(seekable())


def _by_descriptor(file: Readable, name: str) -> Source | None:
    """A regular file that Python has opened, by its descriptor: that takes offsets, and does
    not read ahead as a buffered object does."""
    if not isinstance(file, (io.FileIO, io.BufferedReader, io.BufferedRandom)):
        return None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode) or not file.readable():
        return None
    file.flush()
    return FileSource(file.fileno(), name, start=file.tell(), owned=False)
