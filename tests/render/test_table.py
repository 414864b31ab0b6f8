from __future__ import annotations

import io
import sys

import pytest

from hvmctx.render.table import Table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def table() -> Table:
    made = Table("record", "count")
    made.add("CPU", 2)
    made.add("VIRIDIAN_DOMAIN", 10)
    return made


PLAIN = "record           count\nCPU                  2\nVIRIDIAN_DOMAIN     10\n"


def test_plain() -> None:
    out = io.StringIO()
    table().print(out)
    assert out.getvalue() == PLAIN
    assert "".join(Table("a", "b").lines()) == "a  b\n"


def test_on_a_terminal() -> None:
    pytest.importorskip("rich")
    out = Terminal()
    table().print(out)
    assert "VIRIDIAN_DOMAIN" in out.getvalue() and out.getvalue() != PLAIN


def test_on_a_terminal_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    out = Terminal()
    table().print(out)
    assert out.getvalue() == PLAIN


def test_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    table().print()
    assert capsys.readouterr().out == PLAIN
