"""Output files that are whole or not there: written under a temporary name beside the
final one, and renamed when all is well."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager

from hvmctx.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

STDOUT = "-"


@contextmanager
def replacing(path: str, *, force: bool = False) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends, and vanishes when it raises.
    `-` is standard output. Raises InputError: when `path` exists and not `force`, or for
    what the system says of it."""
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if not force:
        _refuse_existing(path)
    if os.path.isdir(path):
        raise InputError(f"{path}: is a directory")
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        file = os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), "w+b")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        with file:
            yield file
            file.flush()
        _rename(temporary, path, force)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise InputError(f"{path}: {error.strerror or error}") from error
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)


def _refuse_existing(path: str) -> None:
    if os.path.lexists(path):
        raise InputError(f"{path}: exists; --force replaces it")


def _rename(temporary: str, path: str, force: bool) -> None:
    if force:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)  # unlike a rename it fails where a file has appeared
    except FileExistsError:
        _refuse_existing(path)
        raise
    except OSError:  # a file system without hard links
        _refuse_existing(path)
        os.replace(temporary, path)
