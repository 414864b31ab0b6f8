"""The command line: finds the command, hands it its arguments, turns errors into exit
statuses. Knows no format; imports nothing that the command at hand does not need.
"""

from __future__ import annotations

import io
import os
import sys

from hvmctx.errors import HvmctxError, InputError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

COMMANDS = (
    "dump",
    "info",
    "verify",
    "extract",
    "strip",
    "to-json",
    "from-json",
    "restore",
    "get",
    "set",
    "replace",
    "diff",
    "build",
    "convert",
    "plan",
    "fuzz",
)
"""Each is the module of that name in `hvmctx.commands`, `-` written `_`."""

OK, FAILED, USAGE = 0, 1, 2
_INTERRUPTED, _PIPE_CLOSED = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    trouble = FAILED
    _make_streams_ready()
    try:
        if sys.stdout is None:
            raise InputError("standard output is closed")
        if not arguments or arguments[0] in ("-h", "--help", "--version"):
            status = _overview(arguments)
        else:
            if arguments[0] in COMMANDS:
                name = arguments.pop(0)
            else:
                _refuse_misspelt(arguments[0])
                name = "dump"
            command = _command(name)
            trouble = getattr(command, "TROUBLE", FAILED)
            status = _run(command, name, arguments)
        sys.stdout.flush()
        return status
    except UsageError as error:
        return _complain(error, USAGE)
    except HvmctxError as error:
        return _complain(error, trouble)
    except BrokenPipeError:  # whoever read our output has gone: nothing to say
        _forget_output()
        return _PIPE_CLOSED
    except OSError as error:  # of the system: a full disk, a device that goes
        where = f"{error.filename}: " if error.filename else ""
        return _complain(InputError(f"{where}{error.strerror or error}"), trouble)
    except MemoryError:
        return _complain(InputError("out of memory"), trouble)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _make_streams_ready() -> None:
    """Whatever an input says can be printed, in whatever encoding, and whole; and errors
    can be said into nothing."""
    out: Any = sys.stdout
    raw = getattr(out, "buffer", None)
    if isinstance(raw, io.RawIOBase) and out is sys.__stdout__:
        # PYTHONUNBUFFERED: a raw file may write less than it is given
        whole = io.BufferedWriter(io.FileIO(raw.fileno(), "wb", closefd=False))
        sys.stdout = io.TextIOWrapper(whole, getattr(out, "encoding", None), line_buffering=True)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the end


def _refuse_misspelt(word: str) -> None:
    """Raises UsageError for what is no file, but nearly a command."""
    if word.startswith("-") or os.path.lexists(word):
        return
    from difflib import get_close_matches

    for command in get_close_matches(word, COMMANDS, 1):
        raise UsageError(f"no command and no file is called {word}; did you mean {command}?")


def _run(command: Any, name: str, arguments: list[str]) -> int:
    status: int
    try:
        args = _parse(command, name, arguments)
    except SystemExit as done:  # argparse has printed its help
        return int(done.code or OK)
    if getattr(args, "vmport_profile", None) is None:
        status = command.run(args)
    else:
        from hvmctx.abi.vmport import using
        from hvmctx.commands.inputs import profile_of

        with using(profile_of(args.vmport_profile)):
            status = command.run(args)
    return status


def _command(name: str) -> Any:
    # not importlib, whose own import takes longer than this one
    return __import__("hvmctx.commands." + name.replace("-", "_"), fromlist=["run"])


def _complain(error: HvmctxError, status: int) -> int:
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError:  # it is full, which is what there is to complain of
            _forget_output()
    print(f"hvmctx: {error}", file=sys.stderr)
    return status


def _forget_output() -> None:
    """What could not be written must not be tried again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Plain:
    """The arguments of a command that was given nothing but its INPUT."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


def _parse(command: Any, name: str, arguments: list[str]) -> Any:
    defaults = getattr(command, "DEFAULTS", None)
    if defaults is not None and len(arguments) == 1 and not arguments[0].startswith("-"):
        return _Plain({**defaults, "input": arguments[0]})  # argparse takes as long as a dump
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise UsageError(f"{self.prog.removeprefix('hvmctx ')}: {message}")

    parser = Parser(prog=f"hvmctx {name}", description=command.__doc__, allow_abbrev=False)
    parser.set_defaults(**(defaults or {}))
    command.add_arguments(parser)
    return parser.parse_args(arguments)


def _overview(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        from hvmctx import __version__

        print(f"hvmctx {__version__}")
        return OK
    lines = ["usage: hvmctx COMMAND ...   or: hvmctx INPUT   (the same as hvmctx dump INPUT)", ""]
    lines += [f"  {name:<10} {_command(name).HELP}" for name in COMMANDS]
    lines += ["", "hvmctx COMMAND --help says more. INPUT is a path, - for standard input, or"]
    lines += ["DOMID, a running domain's number."]
    if not arguments:
        raise UsageError("no command and no input; see hvmctx --help")
    print("\n".join(lines))
    return OK
