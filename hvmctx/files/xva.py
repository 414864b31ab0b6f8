"""An XVA, as XAPI exports guests: a tar, in which a disk is blocks of 1 MiB, `Ref:4/00000000`,
`Ref:4/00000001` and so on, each with a checksum in a file beside it. A block that is not there is
zeros. The disk that the guest was suspended to is read as if it were a file.

Read in order, as it comes, an archive need not be seekable; of one that is, only the headers are
read before somebody asks for a block, and nothing is copied.

Source: xen-api at e2ee48d6, ocaml/xapi/stream_vdi.ml; POSIX ustar.
"""

from __future__ import annotations

from hvmctx.errors import FormatError, TruncatedError
from hvmctx.files.source import CHUNK, PipeSource, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SECTOR", "is_header", "suspended_disk"]

_BLOCK = 1 << 20
SECTOR = 512
_SIGNATURE = b"XenSavedDom"
_LAYER = "xva"


class _Entry:
    """A file in a tar: its name, and how many bytes follow its header; `offset` is theirs."""

    __slots__ = ("name", "offset", "size")

    def __init__(self, name: str, size: int, offset: int) -> None:
        self.name = name
        self.size = size
        self.offset = offset


def _entries(source: Source) -> Iterator[_Entry]:
    """Each file, in order. Its contents may be read while it is being looked at. Raises
    FormatError, TruncatedError."""
    while True:
        offset = source.position
        header = bytes(source.read(SECTOR))
        if not header.strip(b"\0"):
            return  # the end: zeros, or nothing
        if len(header) < SECTOR:
            raise _wrong("the archive ends within a header", offset, TruncatedError)
        name = header[:100].partition(b"\0")[0].decode("latin-1")
        entry = _Entry(name, _size_of(header, offset), source.position)
        yield entry
        end = entry.offset + -(-entry.size // SECTOR) * SECTOR
        missing = end - source.position
        if missing > 0 and source.skip(missing) < missing:
            raise _wrong(f"the archive ends within {name[:60]!a}", offset, TruncatedError)


def _size_of(header: bytes, offset: int) -> int:
    text = header[124:136].strip(b" \0")
    sums = header[:148] + b" " * 8 + header[156:]
    try:
        size, expected = int(text or b"0", 8), int(header[148:156].strip(b" \0") or b"0", 8)
    except ValueError:
        raise _wrong("the header of a file in the archive is damaged", offset) from None
    if sum(sums) != expected or size < 0:
        raise _wrong("the header of a file in the archive is damaged", offset)
    return size


def is_header(sector: bytes) -> bool:
    """Whether these 512 bytes are the header of a file in a tar, by its checksum: a few bytes of a
    name may stand anywhere."""
    try:
        _size_of(sector, 0)
    except FormatError:
        return False
    return len(sector) == SECTOR


def _wrong(problem: str, offset: int, kind: type[FormatError] = FormatError) -> FormatError:
    return kind(problem, layer=_LAYER, offset=offset)


def _blocks(archive: Source) -> Iterator[tuple[int, _Entry]]:
    """The blocks of the disk with the image, by their numbers, each higher than the one before, as
    XAPI writes them. Raises as `_entries` does, LimitError for a disk that would be too large, and
    FormatError for a block out of order, and where there is no such disk."""
    disk, last = "", -1
    most = archive.limits.unpacked // _BLOCK
    for entry in _entries(archive):
        name, _, digits = entry.name.partition("/")
        is_block = digits.isascii() and digits.isdigit() and entry.size <= _BLOCK
        if not is_block or not name.startswith("Ref:") or (disk and name != disk):
            continue
        number = int(digits)
        if not disk and (number or archive.peek(len(_SIGNATURE)) != _SIGNATURE):
            continue
        disk = name
        if number >= most:
            raise archive.limits.over("unpacked", "bytes", layer=_LAYER, offset=entry.offset)
        if number <= last:
            raise FormatError(
                f"the blocks of {disk[:60]!a} are not in order", layer=_LAYER, offset=entry.offset,
                found=f"block {number} after block {last}", expected=f"block {last + 1} or later",
            )  # fmt: skip
        last = number
        yield number, entry
    if not disk:
        raise FormatError(
            "no disk in the archive holds a suspended guest", layer=_LAYER,
            offset=archive.position, expected="a disk whose first block starts with XenSavedDom",
        )  # fmt: skip


class _Disk(Source):
    """The disk in a seekable archive, by the places of its blocks. It ends where one that comes in
    order would: before what is wrong, which is its `trouble` then."""

    def __init__(self, archive: Source) -> None:
        self._archive = archive
        self._offsets: dict[int, int] = {}
        self._short: dict[int, int] = {}
        """Those of less than 1 MiB: their sizes."""
        self._trouble: FormatError | None = None
        last = 0
        try:
            for last, entry in _blocks(archive):
                self._offsets[last] = entry.offset
                there = min(entry.size, archive.whole_size() - entry.offset)
                if there < _BLOCK:
                    self._short[last] = there
        except FormatError as error:
            if not self._offsets:
                raise
            self._trouble = error
        super().__init__(last * _BLOCK + self._short.get(last, _BLOCK))
        self.name = archive.name
        self.limits = archive.limits
        self.access = archive.access

    @property
    def trouble(self) -> FormatError | None:
        """Once all that comes before it has been read."""
        return self._trouble if self.position >= self.whole_size() else None

    def read_at(self, offset: int, count: int) -> bytes:
        count = max(0, min(count, self.whole_size() - offset))
        pieces = []
        while count:
            number, start = divmod(offset, _BLOCK)
            piece = self._part(number, start, min(count, _BLOCK - start))
            pieces.append(piece)
            offset += len(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _part(self, number: int, start: int, count: int) -> bytes:
        """Bytes of one block."""
        at = self._offsets.get(number)
        there = 0 if at is None else self._short.get(number, _BLOCK) - start
        if at is None or there <= 0:
            return bytes(count)
        return bytes(self._archive.read_at(at + start, min(count, there))).ljust(count, b"\0")

    def close(self) -> None:
        self._archive.close()


class _Reader:
    """A file-like reader of the disk in an archive that comes in order."""

    def __init__(self, archive: Source) -> None:
        self._archive = archive
        self._pieces = self._read()
        self._data = b""
        self.trouble: FormatError | None = None

    def read(self, count: int) -> bytes:
        while not self._data:
            try:
                self._data = next(self._pieces)
            except StopIteration:
                break
            except FormatError as error:
                self.trouble = error
                break
        data, self._data = self._data[:count], self._data[count:]
        return data

    def _read(self) -> Iterator[bytes]:
        at = 0
        for number, entry in _blocks(self._archive):
            while at < number * _BLOCK:
                zeros = bytes(min(CHUNK, number * _BLOCK - at))
                at += len(zeros)
                yield zeros
            data = bytes(self._archive.read(entry.size))
            at += len(data)
            yield data

    def close(self) -> None:
        self._archive.close()


class _PipedDisk(PipeSource):
    def __init__(self, reader: _Reader, archive: Source) -> None:
        super().__init__(reader, archive.name, owned=reader, at_once=1 << 16)
        self.compression = archive.compression
        self.limits = archive.limits
        self.access = archive.access
        self._reader = reader
        self._archive = archive

    @property
    def trouble(self) -> FormatError | None:
        """Once all that came before it has been read."""
        ahead = self._taken < len(self._ahead)
        return None if ahead else self._reader.trouble or self._archive.trouble


def suspended_disk(archive: Source) -> Source:
    """The disk in an archive that holds a suspended guest, as a source; seekable if the archive
    is. Closing it closes the archive. Raises FormatError where there is none, or the archive is
    damaged; of one that is not seekable, that is its `trouble`."""
    if archive.seekable:
        return _Disk(archive)
    return _PipedDisk(_Reader(archive), archive)
