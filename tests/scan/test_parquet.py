"""Rows as Parquet are the rows as JSON."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from hvmctx.errors import InputError, UsageError
from hvmctx.scan.output import PARQUET, Output
from hvmctx.scan.parquet import check, read, write
from hvmctx.scan.row import COLUMNS, Asked, empty_row, row_of
from tests.builders.samples import EXAMPLE

pytest.importorskip("pyarrow")

ROWS = [row_of(str(EXAMPLE), Asked(["4.6", "4.17"])), empty_row("none", "not found")]


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    for rows in (ROWS, [], ROWS * 700):
        out = io.BytesIO()
        write(out, iter(rows))
        path.write_bytes(out.getvalue())
        assert list(read(str(path))) == rows


def test_what_pyarrow_sees(tmp_path: Path) -> None:
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    with path.open("wb") as out:
        write(out, ROWS)
    table = parquet.read_table(path)
    assert table.column_names == list(COLUMNS)
    assert table["vcpus"].to_pylist() == [1, None]
    assert table["verdicts"].to_pylist()[0][0]["rule"] == "libxc-version"


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    with (tmp_path / "rows").open("wb") as out:
        write(out, [empty_row("a\udc80\0", "b\udcff")])
    (row,) = read(str(tmp_path / "rows"))
    assert (row["input"], row["error"]) == ("a\\udc80\0", "b\\udcff")


def test_output(tmp_path: Path) -> None:
    path = str(tmp_path / "rows.parquet")
    with Output(path, PARQUET, resume=False, force=False).opened() as put:
        put(ROWS[0])
    again = Output(path, PARQUET, resume=True, force=False)
    assert list(again.earlier()) == ROWS[:1]
    with again.opened() as put:
        put(ROWS[1])
    assert list(read(path)) == ROWS


def test_what_is_no_parquet(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "rows"
    path.write_bytes(b"PAR1 is not enough")
    with pytest.raises(InputError, match="rows"):
        list(read(str(path)))
    parquet.write_table(pyarrow.table({"other": [1]}), path)
    with pytest.raises(InputError, match="has no rows of a scan"):
        list(read(str(path)))
    with pytest.raises(InputError):
        list(read(str(tmp_path / "none")))


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    check()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=r"pip install hvmctx\[parquet\]"):
        check()
