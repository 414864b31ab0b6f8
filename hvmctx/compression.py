"""gzip and xz from the standard library, zstd and lz4 with the extra, over any source.

Decompression is forward only, bounded in memory (a window of at most 256 MiB is accepted
of xz and zstd), and its errors are `FormatError`s of the layer gzip, xz, zstd or lz4.
"""

from __future__ import annotations

import importlib
import lzma
import zlib

from hvmctx.errors import FormatError, InputError, TruncatedError
from hvmctx.source import PipeSource, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WINDOW = 1 << 28
_CHUNK = 1 << 16


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


def _xz() -> Any:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_WINDOW)


_STREAMED = {b"\x1f\x8b": ("gzip", _Gzip), b"\xfd7": ("xz", _xz)}
_EXTRA = {b"\x28\xb5": ("zstd", "zstandard"), b"\x04\x22": ("lz4", "lz4.frame")}


class _Decompressor:
    """A file-like reader of the decompressed bytes. Members may follow one another."""

    def __init__(self, source: Source, name: str, make: Any) -> None:
        self._source = source
        self._name = name
        self._make = make
        self._inner = make()
        self._input = b""
        self._at_start = False

    def read(self, count: int) -> bytes:
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
                out: bytes = self._inner.decompress(data, count)
            except (zlib.error, lzma.LZMAError) as error:
                raise self._error(FormatError, f"damaged compressed data ({error})") from error
            self._at_start = False
            if out:
                return out

    def _next_member(self) -> bool:
        self._input = self._inner.unused_data.lstrip(b"\0") or bytes(self._source.read(_CHUNK))
        self._inner = self._make()
        self._at_start = True
        return bool(self._input)

    def _error(self, kind: type[FormatError], problem: str) -> FormatError:
        return kind(problem, layer=self._name, offset=self._source.position)

    def close(self) -> None:
        self._source.close()


class _Foreign:
    """A third-party reader, its errors turned into ours."""

    def __init__(self, source: Source, name: str, inner: Any) -> None:
        self._source = source
        self._name = name
        self._inner = inner

    def read(self, count: int) -> bytes:
        try:
            return bytes(self._inner.read(count))
        except Exception as error:  # each library has its own exceptions
            raise FormatError(
                f"damaged compressed data ({error})", layer=self._name, offset=self._source.position
            ) from error

    def close(self) -> None:
        self._source.close()


def decompressed(source: Source, head: bytes) -> PipeSource:
    """The contents of a compressed source, whose first bytes are `head`."""
    if head[:2] in _STREAMED:
        name, make = _STREAMED[head[:2]]
        reader: Any = _Decompressor(source, name, make)
    else:
        name, module = _EXTRA[head[:2]]
        try:
            library = importlib.import_module(module)
        except ImportError:
            raise InputError(
                f"{source.name}: compressed with {name}, which needs `pip install "
                f"hvmctx[compression]`"
            ) from None
        if name == "zstd":
            inner = library.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(
                source, read_across_frames=True
            )
        else:
            inner = library.open(source, "rb")
        reader = _Foreign(source, name, inner)
    pipe = PipeSource(reader, source.name, owned=True)
    pipe.compression = name
    return pipe
