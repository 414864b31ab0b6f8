"""Completion of the command line in bash, zsh and fish, under share/: out of the commands' parsers,
by shtab."""

from __future__ import annotations

from argparse import Action, ArgumentParser, _SubParsersAction

import shtab

from hvmctx.abi.registry import record_types
from hvmctx.abi.releases import NEWEST, RELEASES
from hvmctx.cli import COMMANDS, command_of
from hvmctx.fuzz import NAMES
from hvmctx.parsers import PROGRAM, parser_of
from hvmctx.verify.registry import rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FILES = ("INPUT", "IMAGE", "FILE", "NAME|FILE", "A", "B")
WORDS: dict[str, Iterable[str]] = {
    "RELEASE": (*RELEASES, NEWEST),
    "RULE": dict.fromkeys(rule.id for rule in rules()),
    "TARGET": NAMES,
    "TYPE[/INSTANCE]": [kind.name for kind in record_types()],
}
"""By metavar: what can stand there."""


def whole_parser() -> ArgumentParser:
    """A parser of all commands, which hvmctx itself has no use for: it makes that of one."""
    whole = ArgumentParser(PROGRAM)
    whole.add_argument("--version", action="store_true", help="print which hvmctx this is")
    commands = whole.add_subparsers(parser_class=_parser)  # type: ignore[call-overload]
    for name in COMMANDS:
        commands.add_parser(name, help=command_of(name).HELP)
    commands.add_parser("help", help="print what --help does")
    for action in _actions(whole):
        _complete(action)
    return whole


def _parser(*, prog: str, **_: object) -> ArgumentParser:
    name = prog.removeprefix(f"{PROGRAM} ")
    if name in COMMANDS:
        return parser_of(command_of(name), name)
    parser = ArgumentParser(prog, description="Print what --help does.")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, nargs="?")
    return parser


def _actions(parser: ArgumentParser) -> Iterable[Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, _SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)


def _complete(action: Action) -> None:
    """Tell shtab what can stand there. It takes a colon in a metavar for zsh's own."""
    if not isinstance(action.metavar, str):
        return
    if action.metavar in FILES:
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    elif action.metavar == "DIR":
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    elif action.metavar in WORDS:
        action.choices = WORDS[action.metavar]
    action.metavar = action.metavar.replace(":", " ")


def _script(shell: str, *alter: tuple[str, str]) -> str:
    """shtab's, with places altered for what it does not know: a command line may also start with
    a file."""
    text: str = shtab.complete(whole_parser(), shell)
    for old, new in alter:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text.rstrip("\n") + "\n"


_FISH = """\
complete -c hvmctx -n "_shtab_hvmctx_using; and test \\$_shtab_hvmctx_npos -eq 0" \
-ka "(__fish_complete_path (commandline -ct))"
"""


def files() -> dict[str, str]:
    """What `make generate` writes."""
    first = f"_describe '{PROGRAM} commands' _commands"
    return {
        f"share/bash-completion/completions/{PROGRAM}": _script(
            "bash", ("complete -o bashdefault -F", "complete -o bashdefault -o default -F")
        ),
        f"share/zsh/site-functions/_{PROGRAM}": _script("zsh", (first, f"{first}\n  _files")),
        f"share/fish/vendor_completions.d/{PROGRAM}.fish": _script("fish") + _FISH,
    }
