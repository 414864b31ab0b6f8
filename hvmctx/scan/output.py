"""Where the rows go: lines of JSON or a Parquet file, and what a run that was cut short has left.

While a scan runs, a file's rows are in a journal beside it, a line each, that takes its name when
the scan is done. `--resume` goes on from the journal, and from the file of an earlier scan.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress

from hvmctx.errors import InputError, UsageError
from hvmctx.files.output import STDOUT, replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from hvmctx.scan.row import Row

__all__ = ["NDJSON", "PARQUET", "Output", "line_of"]

NDJSON, PARQUET = "ndjson", "parquet"
_JOURNAL = ".part"


def line_of(row: Row) -> bytes:
    """A row as JSON, all of it ASCII."""
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


class Output:
    """What is written of a scan: to the file `path`, to standard output, or nothing for None.

    Raises UsageError for a journal that nobody asked to go on from, InputError for a file that
    exists without `force`."""

    def __init__(self, path: str | None, form: str, *, resume: bool, force: bool) -> None:
        self._path = path
        self._form = form
        self._again = resume
        self._force = force or resume
        self._file: BinaryIO | None = None
        self.journal = ""
        """Where rows are kept until the scan is done."""
        if path in (None, STDOUT):
            if resume:
                raise UsageError("scan: --resume goes on with a file: -o FILE")
            return
        self.journal = f"{path}{_JOURNAL}"
        if os.path.lexists(self.journal) and not resume and not force:
            raise UsageError(f"scan: {self.journal} is of a scan that was cut short: --resume")
        if os.path.lexists(str(path)) and not self._force:
            raise InputError(f"{path}: exists; --force replaces it, --resume adds to it")

    def earlier(self) -> Iterator[Row]:
        """The rows that are there already: those of the file, then those of the journal."""
        if not self._again:
            return
        if os.path.exists(str(self._path)):
            yield from _rows_in(str(self._path), self._form)
        if os.path.exists(self.journal):
            yield from _rows_of(self.journal, cut=True)

    @contextmanager
    def opened(self) -> Iterator[Callable[[Row], object]]:
        """What to call with each new row. When the block ends, the file is there, whole. Ended by
        an exception, it leaves the journal."""
        if self._path is None:
            yield lambda row: None
            return
        if self._path == STDOUT:
            with replacing(STDOUT) as out:
                yield lambda row: out.write(line_of(row))
            return
        with self._open_journal() as file:

            def write(row: Row) -> None:
                file.write(line_of(row))

            yield write
        self._finish()

    @contextmanager
    def _open_journal(self) -> Iterator[BinaryIO]:
        """For nobody else's eyes: it has what guests are called."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        flags |= getattr(os, "O_BINARY", 0) | (0 if self._again else os.O_TRUNC)
        try:
            with open(os.open(self.journal, flags, 0o600), "ab") as file:
                _drop_half_a_line(self.journal, file)
                yield file
        except OSError as error:
            raise InputError(f"{self.journal}: {error.strerror or error}") from error

    def _finish(self) -> None:
        path = str(self._path)
        with replacing(path, force=self._force, like=[None]) as out:
            rows = self.earlier() if self._again else _rows_of(self.journal)
            if self._form == PARQUET:
                from hvmctx.scan.parquet import write

                write(out, rows)
            else:
                out.writelines(map(line_of, rows))
        with suppress(FileNotFoundError):
            os.unlink(self.journal)


def _drop_half_a_line(path: str, file: BinaryIO) -> None:
    """A run that was killed may have left one."""
    with open(path, "rb") as there:
        size = there.seek(0, os.SEEK_END)
        while size:
            start = max(0, size - 4096)
            there.seek(start)
            end = there.read(size - start).rfind(b"\n")
            if end >= 0:
                size = start + end + 1
                break
            size = start
    file.truncate(size)


def _rows_in(path: str, form: str) -> Iterator[Row]:
    if form == PARQUET:
        from hvmctx.scan.parquet import read

        return read(path)
    return _rows_of(path)


def _rows_of(path: str, *, cut: bool = False) -> Iterator[Row]:
    """The rows of a file of lines; the last line of one that was `cut` need not be whole."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                except ValueError:
                    row = None
                if isinstance(row, dict) and isinstance(row.get("input"), str):
                    yield row
                elif not (cut and not line.endswith(b"\n")):
                    raise InputError(f"{path}: line {number} is no row of a scan")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
