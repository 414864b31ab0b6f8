"""The parsers of the commands, and what `--help` prints. Imported only for a command line with
options: argparse alone takes as long to import as a dump.
"""

from __future__ import annotations

import os
from argparse import SUPPRESS, ArgumentParser, HelpFormatter
from contextlib import contextmanager

from hvmctx.errors import UsageError
from hvmctx.messages import columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from hvmctx.commands import Command

__all__ = ["examples", "parser_of", "using_color"]

PROGRAM = "hvmctx"


def parser_of(command: Command, name: str) -> ArgumentParser:
    """The parser of a command. It raises UsageError for a mistake, and SystemExit when it has
    printed its help."""
    prog = f"{PROGRAM} {name}"

    class Parser(ArgumentParser):
        """Also of the actions of a command, each with the examples that name it. That is why
        `--color` has no default: an action's would hide what stands before it."""

        def __init__(self, *, prog: str, description: str | None) -> None:
            super().__init__(
                prog=prog, description=description, allow_abbrev=False, formatter_class=_Formatter
            )
            self.add_argument(
                "--color", choices=("auto", "always", "never"), default=SUPPRESS,
                help="whether lines have colours (default: auto, on a terminal unless NO_COLOR "
                "is set)",
            )  # fmt: skip

        def error(self, message: str) -> NoReturn:
            raise UsageError(f"{self.prog.removeprefix(f'{PROGRAM} ')}: {message}")

        def format_help(self) -> str:
            lines = command.EXAMPLES
            if self.prog != prog:
                lines = tuple(line for line in lines if self.prog in line)
            return super().format_help() + examples(lines)

    parser = Parser(prog=prog, description=command.__doc__)
    command.add_arguments(parser)
    return parser


class _Formatter(HelpFormatter):
    """Of the terminal's width. The base class imports shutil for that, once for every option that
    is declared."""

    def __init__(self, prog: str, **options: int) -> None:
        super().__init__(prog, width=columns() - 2, **options)


def examples(lines: tuple[str, ...]) -> str:
    """The last part of a help text."""
    return "\nexamples:\n" + "".join(f"  {line}\n" for line in lines)


_COLOR = {"always": "FORCE_COLOR", "never": "NO_COLOR"}


@contextmanager
def using_color(when: str) -> Iterator[None]:
    """Have always or never colours. It is said as users say it, in the environment, which rich,
    argparse and other programs that a command starts look at too."""
    before = {name: os.environ.pop(name, None) for name in _COLOR.values()}
    os.environ[_COLOR[when]] = "1"
    try:
        yield
    finally:
        del os.environ[_COLOR[when]]
        os.environ.update({name: value for name, value in before.items() if value is not None})
