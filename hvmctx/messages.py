"""What people are shown: lines on standard error, lines on standard output, and the one function
that makes text safe for both. Guests, toolstacks, file names and arguments choose such text, so
that it may hold whatever a terminal acts on.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

__all__ = [
    "TOO_DEEP", "colored", "columns", "did_you_mean", "end_progress", "forget", "has_color",
    "make_ready", "printable", "progress", "say", "show", "show_json", "show_parts", "warn",
    "watched", "why_not_json",
]  # fmt: skip

TOO_DEEP = "values are nested too deep"

_UNSEEN = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    "\ufe00\ufe01\ufe02\ufe03\ufe04\ufe05\ufe06\ufe07\ufe08\ufe09\ufe0a\ufe0b\ufe0c\ufe0d\ufe0e\ufe0f"
)
_UNSEEN_FROM, _UNSEEN_TO = "\U000e0100", "\U000e01ef"
"""Characters that Python calls printable, and nobody sees: joiners, fillers, and selectors of
variants (Unicode's Default_Ignorable_Code_Point), and the blank of Braille. Plain text: a set
of them would be made at every start, and few runs ask for it."""


def printable(text: str) -> str:
    """Text on one line, safe for a terminal: all that is not seen or moves what is seen is escaped
    as in a Python string. That is control characters, ends of lines, spaces other than the
    ordinary one, marks of direction, characters of no width, halves of surrogate pairs (bytes
    of a file name that are not UTF-8), private and unassigned ones.

    A backslash stays as it is, as paths such as `VMPORT.guestinfo["\\xff"]` are to be copied:
    what looks like an escape may be the text's own. JSON is exact.

    >>> print(printable("café\\x1b[31m\\n\\u202e"))
    café\\x1b[31m\\n\\u202e
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _is_seen(c) else ascii(c)[1:-1] for c in text)


def _is_seen(c: str) -> bool:
    return c.isprintable() and c not in _UNSEEN and not _UNSEEN_FROM <= c <= _UNSEEN_TO


_COLORS = {
    "error": 31, "refuse": 31, "violation": 31, "unreadable": 31, "problem": 31, "warning": 33,
    "note": 36, "accept": 32,
}  # fmt: skip
"""The words that lines are looked through for, and what a terminal is told to show each in."""


def has_color(stream: TextIO | None = None) -> bool:
    """Whether lines on `stream`, by default standard error, have colours: NO_COLOR and FORCE_COLOR
    in the environment say so, as `--color` does; otherwise, whether it is a terminal that can."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return (stream or sys.stderr).isatty() and os.environ.get("TERM") != "dumb"


def colored(line: str, stream: TextIO) -> str:
    """A line that is safe to show, with the word that its first or second part consists of in
    colour: `error: ...`, or `guest.save: refuse: ...`."""
    parts = line.split(": ", 2)
    for at, word in enumerate(parts[:2]):
        if word in _COLORS and has_color(stream):
            parts[at] = f"\x1b[{_COLORS[word]}m{word}\x1b[0m"
            return ": ".join(parts)
    return line


def columns() -> int:
    """How wide the terminal is that people read on. As shutil.get_terminal_size() says it, whose
    module takes longer to import."""
    try:
        return int(os.environ["COLUMNS"]) or 80
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:  # not a terminal
        return 80


def make_ready() -> None:
    """Messages go nowhere where standard error is closed; other packages write to it too."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the end


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word that is unknown: the known one that it resembles, in any
    case, if there is one.

    >>> did_you_mean("ripp", ["rax", "rip"]), did_you_mean("x", ["rax"])
    ('; did you mean rip?', '')
    """
    from difflib import get_close_matches
    from itertools import islice

    short = islice((name for name in known if len(name) <= _LONGEST_GUESS), _MOST_GUESSES)
    names = {name.lower(): name for name in short}
    close = get_close_matches(word[:_LONGEST_GUESS].lower(), names, 1)
    return f"; did you mean {names[close[0]]}?" if close else ""


_LONGEST_GUESS, _MOST_GUESSES = 60, 1000
"""As comparing takes time, and an image may hold any number of names of any length."""


def why_not_json(error: ValueError | RecursionError) -> str:
    """What Python's reader says of a text, and what it says in words about itself in ours."""
    if isinstance(error, RecursionError):
        return TOO_DEEP
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    return "a number has too many digits" if type(error) is ValueError else str(error)


def say(text: str) -> None:
    """A message: one line on standard error. If that cannot be written, nobody is there to be
    told, and the command goes on."""
    _write(f"hvmctx: {printable(text)}\n")


def warn(text: str) -> None:
    """A message about something that the command goes on in spite of."""
    say(f"warning: {text}")


def watched() -> bool:
    """Whether standard error is a terminal, where progress can be shown."""
    return sys.stderr.isatty()


def progress(text: str) -> None:
    """Write over the last progress. `end_progress` is called when there is no more."""
    _write(f"\r{printable(text)}")


def end_progress() -> None:
    _write("\n")


def _write(text: str) -> None:
    try:
        sys.stderr.write(colored(text, sys.stderr))
        sys.stderr.flush()
    except (OSError, ValueError):  # full, closed, or its reader has gone
        forget(sys.stderr)


def forget(stream: TextIO | None) -> None:
    """Keep Python from writing at exit what it could not write before."""
    if stream is None:
        return
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):  # no /dev/null, or not a file of the system
        pass


def show(text: str) -> None:
    """One line on standard output."""
    sys.stdout.write(colored(printable(text), sys.stdout) + "\n")


_SHADES = {"red": 31, "green": 32, "bold": 1}


def show_parts(parts: Iterable[tuple[str, str]]) -> None:
    """One line on standard output, in pieces: each a text, and "red", "green", "bold" or ""."""
    color = has_color(sys.stdout)
    for text, shade in parts:
        safe = printable(text)
        sys.stdout.write(f"\x1b[{_SHADES[shade]}m{safe}\x1b[0m" if color and shade else safe)
    sys.stdout.write("\n")


def show_json(plain: object) -> None:
    """A JSON document on standard output, all of it ASCII."""
    import json

    sys.stdout.write(json.dumps(plain, indent=1) + "\n")
