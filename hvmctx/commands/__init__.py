"""The commands, a module each: arguments in, exit status out, no knowledge of a format.
`inputs` is what they have in common.

The module of a command is a `Command`. It may also have `UNREADABLE`, the exit status for an
input that it cannot read, if that is not 1.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Protocol

    class Command(Protocol):
        """What `cli` asks of the module of a command. Its docstring is the description
        that `--help` prints."""

        @property
        def HELP(self) -> str:
            """Its line in the overview."""
            ...

        @property
        def EXAMPLES(self) -> tuple[str, ...]:
            """Two or three shell lines, with which `--help` ends; the tests run them."""
            ...

        def add_arguments(self, parser: ArgumentParser) -> None: ...

        def run(self, args: Namespace) -> int:
            """Returns the exit status."""
            ...
