"""docs/commands/: a page of each command. What the parser knows is made anew each time, what stands
between is written by hand. A command without a page gets one of its examples, as a session."""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction
from pathlib import Path

from hvmctx.cli import COMMANDS, GROUPS, command_of
from hvmctx.parsers import PROGRAM, parser_of
from tests.builders.documents import NOT_RUN
from tools.markdown import table_row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvmctx.commands import Command

FOLDER = Path(__file__).parent.parent / "docs" / "commands"
START, END = "<!-- made by tools/commands_doc.py -->", "<!-- until here -->"
MADE = re.compile(f"{START}.*?{END}", re.DOTALL)
OVERVIEW = f"""\
# Commands

{START}
"""


def page(name: str, text: str = "") -> str:
    """A command's page out of its last version."""
    command = command_of(name)
    head = f"{START}\n\n# {PROGRAM} {name}\n\n{command.__doc__}\n\n{END}"
    options = f"{START}\n\n## Arguments\n{''.join(_arguments(name))}\n{END}"
    between = MADE.split(text)[1] if text else f"\n\n{_examples(command)}\n"
    return f"{head}{between}{options}\n"


def _examples(command: Command) -> str:
    runs = [x for x in command.EXAMPLES if x.startswith(f"{PROGRAM} ")]
    lines = [x for x in runs if not x.startswith(tuple(NOT_RUN))]
    apart = [x for x in command.EXAMPLES if x not in lines]
    text = "".join(f"$ {line}\n" for line in lines)
    blocks = [f"```console\n{text}```\n"] if lines else []
    blocks += ["".join(f"    {line}\n" for line in apart)] if apart else []
    return "## Examples\n\n" + "\n".join(blocks)


def _arguments(name: str) -> Iterator[str]:
    parser = parser_of(command_of(name), name)
    actions = [action for action in parser._actions if isinstance(action, _SubParsersAction)]
    if not actions:
        yield from _table(parser)
    for action in actions:
        for inner in dict.fromkeys(action.choices.values()):
            yield f"\n### {inner.prog.removeprefix(f'{PROGRAM} ')}\n\n{inner.description}\n"
            yield from _table(inner)


def _table(parser: ArgumentParser) -> Iterator[str]:
    yield "\n| argument | what it says |\n|---|---|\n"
    for action in sorted(parser._actions, key=lambda action: bool(action.option_strings)):
        if action.help != SUPPRESS and action.dest not in ("help", "color"):
            words = parser._get_formatter()._expand_help(action)
            yield table_row(_invocation(action), _cell(words))


def _invocation(action: Action) -> str:
    value = ""
    if action.nargs != 0:
        value = str(action.metavar or "{" + ",".join(map(str, action.choices or ())) + "}")
    names = ", ".join(action.option_strings)
    return f"`{f'{names} {value}'.strip()}`".replace("|", "\\|")


def _cell(text: str) -> str:
    """Text as it is: no emphasis, no markup."""
    return re.sub(r"([|*_<\[\\])", r"\\\1", text)


def overview() -> str:
    """The page of all commands."""
    text = OVERVIEW
    for group, names in GROUPS.items():
        text += f"\n## {group.capitalize()}\n\n| command | |\n|---|---|\n"
        for name in names:
            text += table_row(f"[{name}]({name}.md)", _cell(command_of(name).HELP))
    text += f"\n{END}\n"
    return text


def files() -> dict[str, str]:
    """What `make generate` writes."""
    pages = {"docs/commands/index.md": overview()}
    for name in COMMANDS:
        path = FOLDER / f"{name}.md"
        text = path.read_text() if path.is_file() else ""
        pages[f"docs/commands/{name}.md"] = page(name, text)
    return pages
