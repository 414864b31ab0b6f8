"""Output files that are whole or not there: written under a temporary name beside the
final one, and renamed when all is well."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager, suppress
from itertools import count

from hvmctx.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO, NoReturn

__all__ = ["STDOUT", "is_temporary", "replacing"]

STDOUT = "-"
_TEMPORARY = ".hvmctx-", ".tmp"
"""How the name of a file that is not whole yet starts and ends."""
_numbers = count()


def is_temporary(name: str) -> bool:
    """Whether a file is called as one that `replacing` has not yet renamed."""
    return name.startswith(_TEMPORARY[0]) and name.endswith(_TEMPORARY[1])


@contextmanager
def replacing(path: str, *, force: bool = False) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends, and vanishes if it raises. `-` is
    standard output; a device or a FIFO is written to directly; of a link, the file that it
    points to is replaced. Raises InputError if `path` exists without `force`, or if the
    system refuses it."""
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if "\0" in path:
        raise InputError(f"{path!r}: embedded null byte")
    if os.path.isdir(path):
        raise InputError(f"{path}: is a directory")
    if not force and not _swallows(path):
        _refuse_existing(path)
    if os.path.exists(path) and not os.path.isfile(path):
        with _naming(path), open(path, "wb") as stream:
            yield stream
        return
    if os.path.islink(path):
        path = os.path.realpath(path)
    name = f"{_TEMPORARY[0]}{os.getpid()}-{next(_numbers)}{_TEMPORARY[1]}"
    temporary = os.path.join(os.path.dirname(path), name)
    try:
        file = os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), "w+b")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        with _ending_in_order(), _naming(path):
            with file:
                yield file
                file.flush()
                _like(path, file.fileno())
            _rename(temporary, path, force)
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)


def _like(path: str, fd: int) -> None:
    """Give the new file the mode and, where that is allowed, the owner of what it replaces."""
    try:
        status = os.stat(path)
    except OSError:
        return
    os.fchmod(fd, stat.S_IMODE(status.st_mode))
    with suppress(OSError):
        os.fchown(fd, status.st_uid, status.st_gid)


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block with an exception, so that no temporary file is left.
    Only in the main thread, and only where nobody else handles them."""
    import signal

    old = []
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            with suppress(ValueError):  # not in the main thread
                old.append((number, signal.signal(number, _end)))
    try:
        yield
    finally:
        for number, handler in old:
            signal.signal(number, handler)


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """An error of the system as an InputError that names the file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def _swallows(path: str) -> bool:
    """Whether writing there replaces nothing: a terminal, /dev/null, a FIFO."""
    try:
        kind = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(kind) or stat.S_ISFIFO(kind)


def _refuse_existing(path: str) -> None:
    if os.path.lexists(path):
        raise InputError(f"{path}: exists; --force replaces it")


def _rename(temporary: str, path: str, force: bool) -> None:
    if force:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)  # unlike a rename it fails if a file has appeared there
    except FileExistsError:
        _refuse_existing(path)
        raise
    except OSError:  # a file system without hard links
        _refuse_existing(path)
        os.replace(temporary, path)
