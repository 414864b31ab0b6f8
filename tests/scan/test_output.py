"""Files of rows: whole or not there, and what a run that was cut short leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hvmctx.errors import InputError, UsageError
from hvmctx.scan.output import NDJSON, Output, line_of
from hvmctx.scan.row import empty_row, key_of

ROWS = [empty_row(name, "damaged") for name in ("a", "b\udc80\n", "c")]


def fill(path: Path, rows: list[dict[str, object]], **how: bool) -> None:
    output = Output(
        str(path), NDJSON, resume=how.pop("resume", False), force=how.pop("force", False)
    )
    with output.opened() as write:
        for row in rows:
            write(row)


def read(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    fill(path, ROWS)
    assert read(path) == ROWS and path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["rows"]
    assert line_of(ROWS[1]).isascii() and line_of(ROWS[1]).count(b"\n") == 1
    with pytest.raises(InputError, match="exists; --force replaces it, --resume adds to it"):
        fill(path, ROWS)
    fill(path, ROWS[:1], force=True)
    assert read(path) == ROWS[:1]


def cut_short(path: Path, rows: list[dict[str, object]], **how: bool) -> None:
    output = Output(str(path), NDJSON, resume=how.get("resume", False), force=False)
    with pytest.raises(KeyboardInterrupt), output.opened() as write:
        for row in rows:
            write(row)
        raise KeyboardInterrupt


def test_a_run_that_is_cut_short_goes_on(tmp_path: Path) -> None:
    path, journal = tmp_path / "rows", tmp_path / "rows.part"
    cut_short(path, ROWS[:1])
    assert not path.exists() and read(journal) == ROWS[:1]
    assert journal.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match=r"rows.part is of a scan that was cut short: --resume"):
        fill(path, ROWS)
    journal.write_bytes(journal.read_bytes() + line_of(ROWS[2])[:-9])  # killed in the middle
    again = Output(str(path), NDJSON, resume=True, force=False)
    assert list(again.earlier()) == ROWS[:1]
    cut_short(path, ROWS[1:2], resume=True)
    assert read(journal) == ROWS[:2]
    fill(path, ROWS[2:], resume=True)
    assert read(path) == ROWS and not journal.exists()


def test_a_long_half_of_a_line(tmp_path: Path) -> None:
    path, journal = tmp_path / "rows", tmp_path / "rows.part"
    for whole in (b"", line_of(ROWS[0])):
        journal.write_bytes(whole + b"x" * 10_000)
        fill(path, ROWS[1:], resume=True)
        assert read(path) == ROWS[1:] if not whole else ROWS[:1] + ROWS[1:]
        path.unlink()


def test_a_scan_that_is_whole_is_added_to(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    fill(path, ROWS[:2])
    output = Output(str(path), NDJSON, resume=True, force=False)
    assert list(output.earlier()) == ROWS[:2]
    fill(path, ROWS[2:], resume=True)
    assert read(path) == ROWS


def test_a_new_scan_with_force_drops_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    cut_short(path, ROWS[:2])
    fill(path, ROWS[2:], force=True)
    assert read(path) == ROWS[2:]


@pytest.mark.parametrize("text", [b"{}\n", b"[]\n", b"x\n", b'{"input": 7}\n', b"\xff\n"])
def test_what_is_no_row(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(line_of(ROWS[0]) + text)
    with pytest.raises(InputError, match="line 2 is no row of a scan"):
        list(Output(str(path), NDJSON, resume=True, force=False).earlier())


def test_nowhere_to_go_on() -> None:
    for path in (None, "-"):
        with pytest.raises(UsageError, match="--resume goes on with a file"):
            Output(path, NDJSON, resume=True, force=False)
    with Output(None, NDJSON, resume=False, force=False).opened() as write:
        write(ROWS[0])


def test_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with Output("-", NDJSON, resume=False, force=False).opened() as write:
        write(ROWS[1])
    assert capfdbinary.readouterr().out == line_of(ROWS[1])


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none/rows.part: No such file"):
        fill(tmp_path / "none" / "rows", ROWS)


def test_keys() -> None:
    assert key_of("b\udc80") == key_of(key_of("b\udc80")) == "b\\udc80" and key_of("é") == "é"
