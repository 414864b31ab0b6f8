"""The command line: finds the command, parses its arguments, runs it, and turns errors into
exit statuses. It knows no format, and imports nothing that the command does not need.
"""

from __future__ import annotations

import gc
import io
import os
import sys

from hvmctx import messages
from hvmctx.errors import HvmctxError, InputError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import NoReturn

    from hvmctx.commands import Command
else:

    class Namespace:
        """argparse's, whose import alone takes as long as a dump."""

        def __init__(self, **values):
            self.__dict__.update(values)


__all__ = ["COMMANDS", "EXAMPLES", "GROUPS", "main", "run"]

GROUPS = {
    "look": ("dump", "info", "report", "get", "locate", "hexdump", "x", "stack"),
    "check": ("verify", "restore", "diagnose", "place", "policy", "compat", "diff", "plan"),
    "many": ("scan",),
    "change": ("set", "replace", "strip", "repair"),
    "make": ("extract", "to-json", "from-json", "convert", "build", "schema"),
    "live": ("save", "load", "host"),
    "fuzz": ("fuzz",),
}
"""The commands as the overview shows them. Each is the module of its name in
`hvmctx.commands`, `-` written `_`."""
COMMANDS = tuple(name for names in GROUPS.values() for name in names)
EXAMPLES = (
    "hvmctx guest.save  # what xen-hvmctx prints",
    "hvmctx info guest.save",
    "hvmctx restore guest.save --release 4.17  # would Xen 4.17 take it?",
)

OK, FAILED, USAGE = 0, 1, 2
_INTERRUPTED, _PIPE_CLOSED = 130, 141


def run() -> NoReturn:
    """The process of one command: `main` on its arguments, then the end.

    Python takes down all that it has loaded, one object after the other, which is a seventh of
    a dump. Here the system does, unless somebody still has something to do: a thread, what was
    registered with `atexit`, a profiler, or `python -i`."""
    status = main()
    waited_for = sys.flags.inspect or sys.gettrace() or sys.getprofile() or _is_monitored()
    if not waited_for and sys.modules.keys().isdisjoint(("atexit", "threading")):
        try:
            sys.stdout.flush()
        except (AttributeError, OSError, ValueError):  # closed, or full: Python's to tell
            sys.exit(status)
        os._exit(status)
    sys.exit(status)


def _is_monitored() -> bool:
    """By a tool such as cProfile, from Python 3.12 on."""
    monitoring = getattr(sys, "monitoring", None)
    return monitoring is not None and any(map(monitoring.get_tool, range(6)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, or 1 if the answer is negative (findings,
    refused, differs, damaged), or 2 for a mistake in the arguments; 130 after Ctrl-C, and
    141 if the reader of the output has gone, as a shell would say of both."""
    unreadable = [FAILED]
    try:
        return _main(argv, unreadable)
    except MemoryError:
        pass  # what the frames held that failed is free only after this
    except SystemError as error:  # CPython's, where it runs out of memory and forgets to say so
        if "without exception set" not in str(error):
            raise
    except ImportError as error:  # too little memory or too few descriptors for a library
        return _complain(InputError(f"a part of Python cannot be loaded: {error}"), unreadable[0])
    return _out_of_memory(unreadable[0])


def _out_of_memory(status: int) -> int:
    """Say so, with no more of it than there may be."""
    try:
        return _complain(InputError("out of memory"), status)
    except MemoryError:
        os.write(2, b"hvmctx: out of memory\n")
        return status


def _main(argv: Sequence[str] | None, unreadable: list[int]) -> int:
    """`unreadable` gets the exit status that the command has for an input that it cannot read."""
    if argv is None:
        # A run makes few cycles. Looking for them after every 700 objects, as Python does by
        # default, took a tenth of a dump.
        gc.set_threshold(50_000)
        _import_nothing_from_here()
    arguments = list(sys.argv[1:] if argv is None else argv)
    _make_streams_ready()
    try:
        if sys.stdout is None:
            raise InputError("standard output is closed")
        if arguments[:1] == ["help"]:
            arguments = _asked_help(arguments[1:])
        if not arguments or arguments[0] in ("-h", "--help", "--version"):
            status = _overview(arguments)
        else:
            if arguments[0] in COMMANDS:
                name = arguments.pop(0)
            else:
                _refuse_misspelt(arguments[0])
                name = "dump"
            command = command_of(name)
            unreadable[0] = getattr(command, "UNREADABLE", FAILED)
            status = _run(command, name, arguments)
        sys.stdout.flush()
        return status
    except UsageError as error:
        return _complain(error, USAGE)
    except HvmctxError as error:
        return _complain(error, unreadable[0])
    except BrokenPipeError:  # the reader of our output has gone: nothing to say
        messages.forget(sys.stdout)
        return _PIPE_CLOSED
    except OSError as error:  # the system's: a full disk, a device that has gone
        where = f"{error.filename}: " if error.filename else ""
        return _complain(InputError(f"{where}{error.strerror or error}"), unreadable[0])
    except KeyboardInterrupt:
        return _INTERRUPTED


def _import_nothing_from_here() -> None:
    """Python looks for modules first in the script's folder or, with -m, in the working
    directory: from now on it does not, so that a `lzma.py` there is left alone."""
    first = (sys.path[0] or os.curdir) if sys.path else ""
    if not os.path.exists(first):  # as a rule Python's own archive, which is not there
        return
    for place in (os.path.dirname(os.path.realpath(sys.argv[0])), os.curdir):
        if os.path.exists(place) and os.path.samefile(first, place):
            del sys.path[0]
            return


def _make_streams_ready() -> None:
    """Standard output takes any text, whatever its encoding, and all of it."""
    out = sys.stdout
    raw = getattr(out, "buffer", None)
    if isinstance(raw, io.RawIOBase) and out is sys.__stdout__:
        # PYTHONUNBUFFERED: a raw file may write less than it is given
        whole = io.BufferedWriter(io.FileIO(raw.fileno(), "wb", closefd=False))
        sys.stdout = io.TextIOWrapper(whole, getattr(out, "encoding", None), line_buffering=True)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    messages.make_ready()


def _refuse_misspelt(word: str) -> None:
    """Raises UsageError for a word that is not a file, nor called like one, and resembles the
    name of a command."""
    if word.startswith("-") or "." in word or os.path.lexists(word):
        return
    if guess := messages.did_you_mean(word, COMMANDS):
        raise UsageError(f"no command or file is called {word}{guess}")


def _asked_help(words: list[str]) -> list[str]:
    """What `hvmctx help WORDS` stands for. Raises UsageError for one that names no command."""
    if words and words[0] not in COMMANDS:
        raise UsageError(f"help: no command is called {words[0]}; see hvmctx --help")
    return [*words, "--help"]


def _run(command: Command, name: str, arguments: list[str]) -> int:
    try:
        args = _parse(command, name, arguments)
    except SystemExit as done:  # argparse has printed its help
        return int(done.code or OK)
    color = getattr(args, "color", "auto")
    if color == "auto":
        return _run_parsed(command, args)
    from hvmctx.parsers import using_color

    with using_color(color):
        return _run_parsed(command, args)


def _run_parsed(command: Command, args: Namespace) -> int:
    if getattr(args, "vmport_profile", None) is None:
        return command.run(args)
    from hvmctx.abi.vmport import using
    from hvmctx.commands.inputs import profile_of

    with using(profile_of(args.vmport_profile)):
        return command.run(args)


def command_of(name: str) -> Command:
    # not importlib, whose own import takes longer than this one
    command: Command = __import__("hvmctx.commands." + name.replace("-", "_"), fromlist=["run"])
    return command


def _complain(error: HvmctxError, status: int) -> int:
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError:  # the disk is full, which is what the error is about
            messages.forget(sys.stdout)
    messages.say(str(error))
    return status


def _parse(command: Command, name: str, arguments: list[str]) -> Namespace:
    if not any(word.startswith("-") for word in arguments):
        values = _Words().parse(command, arguments)
        if values is not None:
            return Namespace(**values)
    from hvmctx.parsers import parser_of

    parser = parser_of(command, name)
    if any(action.nargs == "A..." for action in parser._actions):  # it has actions of its own
        return parser.parse_args(arguments)
    return parser.parse_intermixed_args(arguments)  # options may stand between the words


class _Words:
    """In place of argparse's parser, whose import alone takes as long as a dump: for a command
    line without options. It notes the words and the defaults that a command declares."""

    def __init__(self) -> None:
        self._values: dict[str, object] = {}
        self._names: list[str] = []
        self._needed = 0
        self._last = False
        self._known = True

    def parse(self, command: Command, words: list[str]) -> dict[str, object] | None:
        """None for what argparse has to see, mistakes among it."""
        try:
            command.add_arguments(self)  # type: ignore[arg-type]
        except AttributeError:  # it has actions of its own
            return None
        names = self._names
        more = len(words) - len(names)
        if (
            not self._known
            or not names
            or len(words) < self._needed
            or (more > 0 and not self._last)
        ):
            return None
        values = {**self._values, **dict.fromkeys(names), **dict(zip(names, words))}
        if self._last:
            values[names[-1]] = words[len(names) - 1 :]
        return values

    def add_argument(self, *names: str, **how: object) -> None:
        if not names[0].startswith("-"):
            number = how.get("nargs")
            self._known &= not (self._last or {"type", "choices", "default"} & how.keys())
            self._known &= number in (None, "?", "+", "*")
            self._names.append(names[0])
            if number in (None, "+"):
                self._needed = len(self._names)
            self._last = number in ("+", "*")
            return
        name = how.get("dest") or next((x for x in names if x.startswith("--")), names[0])
        default = how.get("default", False if how.get("action") == "store_true" else None)
        self._values[str(name).lstrip("-").replace("-", "_")] = default
        self._known &= not (how.get("required") or (isinstance(default, str) and "type" in how))

    def add_mutually_exclusive_group(self, *, required: bool = False) -> _Words:
        self._known &= not required
        return self


def _overview(arguments: list[str]) -> int:
    if not arguments:
        raise UsageError("no command and no input; see hvmctx --help")
    if arguments == ["--version"]:
        return _version()
    from hvmctx.parsers import examples

    lines = ["usage: hvmctx COMMAND ...   or: hvmctx INPUT   (the same as hvmctx dump INPUT)"]
    for group, names in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {name:<10} {command_of(name).HELP}" for name in names)]
    lines += ["", "INPUT is a path, - for standard input, or the DOMID of a running domain."]
    lines += ["hvmctx help COMMAND says more about a command, hvmctx --version which this is."]
    sys.stdout.write("\n".join(lines) + "\n" + examples(EXAMPLES))
    return OK


def _version() -> int:
    from hvmctx import __version__
    from hvmctx.revision import revision

    commit = revision()
    messages.show(f"hvmctx {__version__}{f' ({commit})' if commit else ''}")
    return OK
