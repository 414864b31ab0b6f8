"""Rows as a Parquet file, with pyarrow: the columns of `row.COLUMNS`, verdicts as a list of
structs."""

from __future__ import annotations

import importlib
from itertools import islice

from hvmctx.errors import InputError, UsageError
from hvmctx.scan.row import COLUMNS, key_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, BinaryIO

    from hvmctx.scan.row import Row

__all__ = ["check", "read", "write"]

_AT_ONCE = 1000
"""Rows in memory, and in a row group."""


def check() -> None:
    """Raises UsageError if pyarrow is not installed."""
    try:
        importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UsageError("scan: Parquet needs `pip install hvmctx[parquet]`") from None


def write(out: BinaryIO, rows: Iterable[Row]) -> None:
    """All rows into a binary file."""
    arrow, parquet = _libraries()
    schema = arrow.schema([(name, _type(arrow, kind)) for name, kind in COLUMNS.items()])
    left = iter(rows)
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        while some := list(islice(left, _AT_ONCE)):
            plain = [_as_utf8({name: row.get(name) for name in COLUMNS}) for row in some]
            writer.write_table(arrow.Table.from_pylist(plain, schema=schema))


def read(path: str) -> Iterator[Row]:
    """The rows of such a file. Raises InputError."""
    arrow, parquet = _libraries()
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_AT_ONCE):
                for row in batch.to_pylist():
                    if not isinstance(row.get("input"), str):
                        raise InputError(f"{path}: has no rows of a scan")
                    yield row
    except (arrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: {error}") from error


def _libraries() -> tuple[Any, Any]:
    return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")


def _type(arrow: Any, kind: object) -> Any:
    if isinstance(kind, list):
        return arrow.list_(_type(arrow, kind[0]))
    if isinstance(kind, dict):
        return arrow.struct([(name, _type(arrow, each)) for name, each in kind.items()])
    made: dict[object, Any] = {str: arrow.string(), int: arrow.int64(), bool: arrow.bool_()}
    return made[kind]


def _as_utf8(value: Any) -> Any:
    """With every text as `key_of` has it."""
    if isinstance(value, str):
        return key_of(value)
    if isinstance(value, list):
        return [_as_utf8(each) for each in value]
    if isinstance(value, dict):
        return {name: _as_utf8(each) for name, each in value.items()}
    return value
