"""Manual pages, under share/man/man1/: hvmctx(1), and one of each command out of its parser."""

from __future__ import annotations

import re
from argparse import Action, ArgumentParser, _SubParsersAction

from hvmctx import __version__
from hvmctx.cli import COMMANDS, EXAMPLES, GROUPS, command_of
from hvmctx.parsers import PROGRAM, parser_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WHOLE = """
.SH SYNOPSIS
.B hvmctx
.I COMMAND
\\&...
.br
.B hvmctx
.I INPUT
.SH DESCRIPTION
hvmctx reads, checks, edits and writes what Xen saves of a guest: the HVM save context, and the
streams and files that carry it. With no command it prints the context of INPUT in the text of
Xen's own xen-hvmctx, as
.BR hvmctx-dump (1)
does.
.PP
INPUT is a path, \\- for standard input, or the DOMID of a running domain, which is all digits
(\\&./7 is a file). Layers are detected; gzip and xz are decompressed on the way, zstd and lz4 too
where Python has a package for them.
.SH OPTIONS
.TP
.BR \\-h ", " \\-\\-help
List the commands;
.B hvmctx help
.I COMMAND
says more about one.
.TP
.B \\-\\-version
Print which hvmctx this is, in a checkout with the commit.
"""
ENDS = """
.SH "EXIT STATUS"
.TP
.B 0
All is well.
.TP
.B 1
What was asked has a negative answer: findings, refused, differs, damaged. What could be read of a
damaged input is printed first.
.TP
.B 2
The arguments are wrong, or the input cannot be read at all.
.SH ENVIRONMENT
.TP
.B NO_COLOR
If not empty: no colours.
.B \\-\\-color always
goes first.
.TP
.B FORCE_COLOR
If not empty: colours, even where the output is no terminal.
.TP
.B COLUMNS
How wide the terminal is.
"""


def _safe(text: str) -> str:
    """Text as troff reads it."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


def _head(name: str, words: str) -> Iterator[str]:
    yield f'.TH {name.upper()} 1 "" "hvmctx {__version__}" "User Commands"'
    yield ".\\\" Made by tools/man_pages.py from the commands' parsers."
    yield f".SH NAME\n{_safe(name)} \\- {_safe(words)}"


def _examples(lines: Iterable[str]) -> Iterator[str]:
    yield ".SH EXAMPLES\n.EX"
    yield from (_safe(line) for line in lines)
    yield ".EE"


def _see(*names: str) -> Iterator[str]:
    yield '.SH "SEE ALSO"'
    yield ",\n".join(f".BR {_safe(name)} ({section})" for name, section in map(_page, names))


def _page(name: str) -> tuple[str, int]:
    return name, 8 if name == "xl" else 1


def _invocation(action: Action) -> str:
    """`-o, --output FILE` in the fonts of a manual."""
    value = ""
    if action.nargs != 0:
        value = f" \\fI{_safe(_value(action))}\\fR"
    names = (f"\\fB{_safe(name)}\\fR" for name in action.option_strings)
    return (", ".join(names) + value).strip()


def _value(action: Action) -> str:
    if action.metavar is None:
        return "|".join(map(str, action.choices or ()))
    name = str(action.metavar)
    return {"+": f"{name}...", "*": f"[{name}...]", "?": f"[{name}]"}.get(str(action.nargs), name)


def _synopsis(parser: ArgumentParser) -> Iterator[str]:
    parts = [f"\\fB{_safe(parser.prog)}\\fR", "[\\fIOPTION\\fR...]"]
    for action in parser._actions:
        if action.required:
            parts.append(_invocation(action))
        elif not action.option_strings:
            parts.append(f"\\fI{_safe(_value(action))}\\fR")
    yield " ".join(parts)


def _arguments(parser: ArgumentParser, *, without: tuple[str, ...] = ()) -> Iterator[str]:
    help_of = parser._get_formatter()._expand_help
    for action in sorted(parser._actions, key=lambda action: bool(action.option_strings)):
        if not isinstance(action, _SubParsersAction) and action.dest not in without:
            yield f".TP\n{_invocation(action)}\n{_safe(help_of(action))}"


def command_page(name: str) -> str:
    """The page of a command: its description, what it takes, examples."""
    command = command_of(name)
    parser = parser_of(command, name)
    actions = [
        inner
        for action in parser._actions
        if isinstance(action, _SubParsersAction)
        for inner in dict.fromkeys(action.choices.values())
    ]
    lines = [*_head(f"{PROGRAM}-{name}", command.HELP), ".SH SYNOPSIS"]
    lines.append("\n.br\n".join("".join(_synopsis(each)) for each in actions or [parser]))
    lines += [".SH DESCRIPTION", _safe((command.__doc__ or "").strip())]
    lines += [".SH OPTIONS", *_arguments(parser)]
    for inner in actions:
        lines += [f".SS {_safe(inner.prog)}", _safe(inner.description or "")]
        lines += _arguments(inner, without=("help", "color"))
    lines += [*_examples(command.EXAMPLES), *_see(PROGRAM)]
    return "\n".join(lines) + "\n"


def whole_page() -> str:
    """hvmctx(1): the commands by group, and what holds for all."""
    words = "read, check, edit and write what Xen saves of a guest"
    lines = [*_head(PROGRAM, words), WHOLE.strip(), ".SH COMMANDS"]
    for group, names in GROUPS.items():
        lines.append(f".SS {group}")
        for name in names:
            page, help_text = _safe(f"{PROGRAM}-{name}"), _safe(command_of(name).HELP)
            lines.append(f".TP\n.BR {page} (1)\n{help_text}")
    lines += [ENDS.strip(), *_examples(EXAMPLES), *_see("xl")]
    return "\n".join(lines) + "\n"


def files() -> dict[str, str]:
    """What `make generate` writes."""
    pages = {
        PROGRAM: whole_page(),
        **{f"{PROGRAM}-{name}": command_page(name) for name in COMMANDS},
    }
    return {f"share/man/man1/{name}.1": text for name, text in pages.items()}
