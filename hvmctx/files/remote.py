"""Inputs at a URL, through fsspec: http, https, s3, gs, sftp and whatever else has a backend that
is installed. Of a server that gives ranges only those are requested that somebody reads.
"""

from __future__ import annotations

import importlib
import os
import re
from contextlib import contextmanager

from hvmctx.errors import HvmctxError, InputError
from hvmctx.files.ahead import AheadSource
from hvmctx.files.source import CHUNK, ObjectSource, PipeSource, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["has_wildcards", "is_url", "listed", "open_url"]

AHEAD = 16 << 10
"""Bytes of the smallest request. A batch of pages as Xen writes it, 4 MiB, has 8 KiB of words at
its start, so that one request a batch is enough."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*://")
_AS_IT_IS = {"client_kwargs": {"auto_decompress": False}}
"""For aiohttp: what a server compresses on the way is not what it was asked for, and has no
bounds."""


def is_url(name: str) -> bool:
    """Whether a name that no file has is a URL.

    >>> is_url("https://host/guest.save"), is_url("guest.save"), is_url("./a://b")
    (True, False, False)
    """
    return _URL.match(name) is not None


def has_wildcards(name: str) -> bool:
    """Whether `listed`, or `glob`, may find several files for a name."""
    return any(mark in name for mark in "*?[")


def open_url(url: str) -> Source:
    """A source over what is there: seekable if the server gives ranges, otherwise read once,
    forwards. Raises InputError."""
    with _naming(url):
        files, path = _files_of(url)
        file = _File(url, files.open(path, "rb", cache_type="none"))
    try:
        return AheadSource(_Seekable(file), AHEAD)
    except InputError:  # no ranges, or no size
        return PipeSource(file, url, owned=file, at_once=CHUNK)


def listed(url: str) -> list[str]:
    """The URLs of what matches one with wildcards; of the files in one that ends in a slash.
    Raises InputError, also where there is none."""
    with _naming(url):
        files, path = _files_of(url + "*" if url.endswith("/") else url)
        found = files.glob(path, detail=True)
        names = [files.unstrip_protocol(name) for name, about in sorted(found.items())
                 if about.get("type") != "directory"]  # fmt: skip
    if not names:
        raise InputError(f"{url}: matches nothing")
    return names


class _File:
    """A file of fsspec, of which whatever goes wrong is an InputError: each backend raises errors
    of its own."""

    def __init__(self, url: str, file: Any) -> None:
        self.name = url
        self._file = file

    def read(self, count: int) -> bytes:
        with _naming(self.name):
            return bytes(self._file.read(count))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _naming(self.name):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return 0

    def close(self) -> None:
        with _naming(self.name):
            self._file.close()


class _Seekable(ObjectSource):
    def __init__(self, file: _File) -> None:
        super().__init__(file)  # type: ignore[arg-type]  # as far as it is used
        self._remote = file

    def close(self) -> None:
        self._remote.close()


def _files_of(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there."""
    core = importlib.import_module("fsspec.core")
    http = url.lower().startswith(("http://", "https://"))
    files, path = core.url_to_fs(url, **(_AS_IT_IS if http else {}))
    return files, path


@contextmanager
def _naming(url: str) -> Iterator[None]:
    try:
        yield
    except (HvmctxError, MemoryError):
        raise
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("fsspec", "aiohttp"):
            raise InputError(f"{url}: {error}") from error
        raise InputError(f"{url}: needs `pip install hvmctx[remote]`") from error
    except FileNotFoundError as error:
        raise InputError(f"{url}: not found") from error
    except Exception as error:  # whatever a backend raises
        raise InputError(f"{url}: {str(error) or type(error).__name__}") from error
