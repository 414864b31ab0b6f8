"""That each command is a `Command`: mypy and pyright compare the modules with it."""

from __future__ import annotations

from hvmctx.cli import COMMANDS
from hvmctx.commands import (
    build,
    compat,
    convert,
    diagnose,
    diff,
    dump,
    extract,
    from_json,
    fuzz,
    get,
    hexdump,
    host,
    info,
    load,
    locate,
    place,
    plan,
    policy,
    repair,
    replace,
    report,
    restore,
    save,
    scan,
    schema,
    set,
    stack,
    strip,
    to_json,
    verify,
    x,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.commands import Command

MODULES: tuple[Command, ...] = (
    build, compat, convert, diagnose, diff, dump, extract, from_json, fuzz, get, hexdump, host,
    info, load, locate, place, plan, policy, repair, replace, report, restore, save, scan, schema,
    set, stack, strip, to_json, verify, x,
)  # fmt: skip


def test_every_command_is_a_command() -> None:
    assert len(MODULES) == len(COMMANDS)
    for module in MODULES:
        assert module.HELP and module.HELP[0].islower() and "\n" not in module.HELP
        assert module.__doc__
