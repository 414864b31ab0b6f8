"""How far long work is, on a terminal: rich's bar if rich is installed, otherwise one line that is
written over."""

from __future__ import annotations

from hvmctx import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import Self

__all__ = ["Progress"]


class Progress:
    """Shown on standard error if that is a terminal, and nowhere otherwise. `total` is what `done`
    will have come to in the end, in any unit; None where nobody knows.

    >>> with Progress(200) as progress:
    ...     for number in range(200):
    ...         progress.show(number, f"{number} of 200")
    """

    def __init__(self, total: float | None = None) -> None:
        self._bar = _bar(total) if messages.watched() and messages.has_color() else None
        self._line = False

    def show(self, done: float, text: str) -> None:
        """`text` says what is done so far, in a few words."""
        if self._bar is not None:
            try:
                self._bar.start()
                self._bar.update(
                    self._bar.task_ids[0], completed=done, description=messages.printable(text),
                    refresh=True,
                )  # fmt: skip
            except (OSError, ValueError):  # the terminal has gone
                self._bar = None
        elif messages.watched():
            messages.progress(f"{text} ")
            self._line = True

    def end(self) -> None:
        """What else is said goes below."""
        if self._bar is not None:
            try:
                self._bar.stop()
            except (OSError, ValueError):
                self._bar = None
        elif self._line:
            messages.end_progress()
            self._line = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


def _bar(total: float | None) -> Any:
    """rich's, without a thread of its own, as work may fork; None if rich is not installed."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ImportError:
        return None
    columns = [TextColumn("{task.description}", markup=False), BarColumn()]
    bar = Bar(
        *columns, *([] if total is None else [TimeRemainingColumn()]),
        console=Console(stderr=True), auto_refresh=False, redirect_stdout=False,
    )  # fmt: skip
    bar.add_task("", total=total)
    return bar
