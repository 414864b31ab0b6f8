"""Progress of long work on a terminal's standard error: rich's bar if rich is installed, otherwise
a line that is written over. Nothing where nobody watches."""

from __future__ import annotations

from hvmctx import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Progress"]

_EVERY = 0.2
"""Seconds between two lines."""


class Progress:
    """Of `total` things, called `what`."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._shown = 0.0
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if messages.watched():
            self._bar = _rich_bar()
            if self._bar is not None:
                self._bar.start()
                self._task = self._bar.add_task(self._what, total=self._total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._shown:
            self._show()
            messages.end_progress()

    def advance(self) -> None:
        """One more is done."""
        self._done += 1
        if self._bar is not None:
            self._bar.advance(self._task)
        elif messages.watched():
            from time import monotonic

            if (now := monotonic()) - self._shown >= _EVERY:
                self._shown = now
                self._show()

    def _show(self) -> None:
        messages.progress(f"{self._done} of {self._total} {self._what} ")


def _rich_bar() -> Any:
    try:
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ImportError:
        return None
    columns = *Bar.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn()
    return Bar(*columns, console=Console(stderr=True), transient=True,
               redirect_stdout=False, redirect_stderr=False)  # fmt: skip
