"""gzip and xz from the standard library, zstd and lz4 with the extra, over any source.

Decompression goes forwards only and is bounded in memory: `Limits.window` is the most that xz
and zstd may ask for. Damage, and more than `Limits.unpacked`, end the source, whose `trouble`
is then a `FormatError` of the layer gzip, xz, zstd or lz4.
"""

from __future__ import annotations

import importlib
import lzma
import zlib
from contextlib import contextmanager
from functools import partial

from hvmctx.errors import FormatError, InputError, TruncatedError
from hvmctx.files.source import PipeSource, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO, Protocol

    from hvmctx.limits import Limits

    class _Library(Protocol):
        """A decompressor of one member, as `lzma` and `lz4` have it. `decompress` returns at
        most `max_length` bytes, and none may be due to more input being needed."""

        @property
        def needs_input(self) -> bool: ...
        @property
        def eof(self) -> bool: ...
        @property
        def unused_data(self) -> bytes | None: ...
        def decompress(self, data: bytes, max_length: int) -> bytes: ...


__all__ = ["compressed", "decompressed"]

_CHUNK = 1 << 16
"""Bytes of compressed data taken at once, and the least of what comes out."""


class _Gzip:
    """zlib's decompressor with the interface of lzma's."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._left = b""
        self._full = False

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._inner.decompress(self._left + data, max_length)
        self._left = self._inner.unconsumed_tail
        self._full = len(out) == max_length  # zlib may hold back more output then
        return out

    @property
    def needs_input(self) -> bool:
        return not self._left and not self._full

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


class _Zstd:
    """zstandard's decompressor with the interface of lzma's. It cannot bound its output, so
    it gets its input little by little: four bytes can make a block of 128 KiB, no more."""

    _PIECE = 256
    _WINDOWS = 1 << 10, 1 << 31
    """The least and the most that the library can be told to allow; 0 means something else."""

    def __init__(self, window: int) -> None:
        library = importlib.import_module("zstandard")
        allowed = min(max(window, self._WINDOWS[0]), self._WINDOWS[1])
        self._inner = library.ZstdDecompressor(max_window_size=allowed).decompressobj()
        self._input = b""
        self._fed = 0
        self._output = b""
        self._given = 0

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if data:  # nothing is left of what came before, see needs_input
            self._input, self._fed = data, 0
        if self._given == len(self._output):
            self._output, self._given = b"", 0
            if self._fed < len(self._input):
                piece = self._input[self._fed : self._fed + self._PIECE]
                self._fed += len(piece)
                self._output = self._inner.decompress(piece)
        out = self._output[self._given : self._given + max_length]
        self._given += len(out)
        return out

    @property
    def needs_input(self) -> bool:
        return self._fed == len(self._input) and self._given == len(self._output)

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof) and self._given == len(self._output)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data) + self._input[self._fed :]


def _gzip(_: int) -> _Library:
    return _Gzip()


def _xz(window: int) -> _Library:
    # what it needs besides the window is not much more than 1 MiB
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=window + (2 << 20))


def _lz4(_: int) -> _Library:
    decompressor: _Library = importlib.import_module("lz4.frame").LZ4FrameDecompressor()
    return decompressor


_FORMATS: dict[bytes, tuple[str, Callable[[int], _Library]]] = {
    b"\x1f\x8b": ("gzip", _gzip),
    b"\xfd7": ("xz", _xz),
    b"\x28\xb5": ("zstd", _Zstd),
    b"\x04\x22": ("lz4", _lz4),
}


class _Decompressor:
    """A file-like reader of the decompressed bytes. Members may follow one another."""

    def __init__(
        self, source: Source, name: str, make: Callable[[int], _Library], limits: Limits
    ) -> None:
        self._source = source
        self._name = name
        self._make = partial(make, limits.window)
        self._inner = self._make()
        self._limits = limits
        self._left = limits.unpacked
        self._input = b""
        self._at_start = False
        self.trouble: FormatError | None = None

    def read(self, count: int) -> bytes:
        """Up to `count` bytes; none at the end, or where the data are damaged: `trouble` then
        says how."""
        if self.trouble is None:
            try:
                data = self._decompress(count)
                self._left -= len(data)
                if self._left >= 0:
                    return data
                self.trouble = self._limits.over(
                    "unpacked", "bytes", layer=self._name, offset=self._source.position
                )
            except FormatError as error:
                self.trouble = error
        return b""

    def _decompress(self, count: int) -> bytes:
        while True:
            if self._inner.eof and not self._next_member():
                return b""
            if self._inner.needs_input and not self._input:
                self._input = bytes(self._source.read(_CHUNK))
                if not self._input:
                    if self._at_start:
                        return b""
                    raise self._error(TruncatedError, "the compressed data end early")
            data, self._input = self._input, b""
            try:
                out = self._inner.decompress(data, count)
            except MemoryError:  # which says nothing of the data
                raise
            except Exception as error:  # each library has its own
                raise self._error(FormatError, f"damaged compressed data ({error})") from error
            self._at_start = False
            if out:
                return out

    def _next_member(self) -> bool:
        data = (self._inner.unused_data or b"").lstrip(b"\0")  # tapes and disks are padded
        while not data and (more := bytes(self._source.read(_CHUNK))):
            data = more.lstrip(b"\0")
        self._input = data
        self._inner = self._make()
        self._at_start = True
        return bool(self._input)

    def _error(self, kind: type[FormatError], problem: str) -> FormatError:
        return kind(problem, layer=self._name, offset=self._source.position)

    def close(self) -> None:
        self._source.close()


class _DecompressedSource(PipeSource):
    def __init__(self, reader: _Decompressor, name: str, compression: str) -> None:
        super().__init__(reader, name, owned=reader, at_once=_CHUNK)
        self.compression = compression
        self._reader = reader

    @property
    def trouble(self) -> FormatError | None:
        """Once all that came before it has been read."""
        return None if self._taken < len(self._ahead) else self._reader.trouble


def decompressed(source: Source, head: bytes, limits: Limits) -> PipeSource:
    """The contents of a compressed source, whose first bytes are `head`."""
    name, make = _FORMATS[head[:2]]
    try:
        reader = _Decompressor(source, name, make, limits)
    except ImportError:
        raise InputError(
            f"{source.name}: compressed with {name}, which needs `pip install hvmctx[compression]`"
        ) from None
    made = _DecompressedSource(reader, source.name, name)
    made.access = source.access
    return made


class _Compressing:
    """A file to write to, without a descriptor: what is written there is not what arrives."""

    def __init__(self, writer: BinaryIO) -> None:
        self.write = writer.write


@contextmanager
def compressed(file: BinaryIO, name: str | None) -> Iterator[BinaryIO]:
    """A file whose bytes are compressed into another one: with zstd, or as they are for None.
    Raises InputError where zstandard is not installed."""
    if name is None:
        yield file
        return
    try:
        library = importlib.import_module("zstandard")
    except ImportError:
        raise InputError(f"{name} needs `pip install hvmctx[compression]`") from None
    with library.ZstdCompressor().stream_writer(file, closefd=False) as writer:
        yield _Compressing(writer)  # type: ignore[misc]
