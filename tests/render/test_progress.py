"""Progress, on a terminal with rich and without, and elsewhere."""

from __future__ import annotations

import sys

import pytest

from hvmctx import messages
from hvmctx.render.progress import Progress


class Terminal:
    """What has been written to it; after `gone`, it fails."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""
        self.gone = False

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def write(self, text: str) -> int:
        if self.gone:
            raise OSError(5, "Input/output error")
        self.text += text
        return len(text)

    def flush(self) -> None:
        self.write("")


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """It is standard error from now on; not a fixture, after which pytest sets its own."""
    made = Terminal()
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setattr(messages, "forget", lambda stream: None)
    return made


def work(total: float | None) -> None:
    with Progress(total) as progress:
        for number in range(4):
            progress.show(number, f"{number} of 4, a\x1b[1m")


@pytest.mark.parametrize("total", [4, None])
def test_with_rich(total: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    terminal = terminal_of(monkeypatch)
    work(total)
    assert "3 of 4, a\\x1b[1m" in terminal.text and "\u2501" in terminal.text
    assert terminal.text.endswith("\x1b[?25h"), "the cursor is back"


@pytest.mark.parametrize("how", ["no rich", "no colours"])
def test_without(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    if how == "no rich":
        monkeypatch.setitem(sys.modules, "rich.console", None)
    else:
        monkeypatch.setenv("NO_COLOR", "1")
    work(4)
    assert terminal.text == "".join(f"\r{n} of 4, a\\x1b[1m " for n in range(4)) + "\n"


def test_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    work(4)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("after", [0, 2])
def test_a_terminal_that_goes(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with Progress(4) as progress:
        for number in range(4):
            terminal.gone |= number == after
            progress.show(number, "work")
