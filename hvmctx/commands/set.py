"""Write an image or a bare context with other values in it, all else as it was. A value is
decimal or 0x; hex digits or "text" for bytes. Warns when Xen would take the context
before, and not after."""

from __future__ import annotations

import sys

from hvmctx.abi.declare import VMPORT_TYPECODE
from hvmctx.commands import inputs
from hvmctx.errors import HvmctxError, UsageError
from hvmctx.files.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.image.image import Image

HELP = "write it with other values: CPU/0.rip=0x1000 ..."


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    inputs.add_vmport_profile(parser)
    parser.add_argument("settings", metavar="PATH=VALUE", nargs="+", help="what to set")
    inputs.add_output(parser)


def run(args: Namespace) -> int:
    from hvmctx.edit.paths import Editor
    from hvmctx.edit.splice import splice

    with inputs.open_seekable(args) as image:
        editor = Editor(image)
        before = image.context.to_bytes() if _touches_context(args.settings) else b""
        for setting in args.settings:
            path, equals, value = _split(setting)
            if not equals:
                raise UsageError(f"set: {setting}: expected PATH=VALUE")
            editor.set(path, value)
        with replacing(args.output, force=args.force) as out:
            splice(image.source, out, editor.edits())
        inputs.warn(image.problems)
        if before:
            _warn(image, before, editor.context.to_bytes())
    return 0


def _touches_context(settings: list[str]) -> bool:
    return any(not setting.upper().startswith("HVM_PARAMS.") for setting in settings)


def _split(setting: str) -> tuple[str, str, str]:
    """At the first `=` outside of brackets: keys may hold one, values may hold all of these."""
    inside = quoted = False
    for at, letter in enumerate(setting):
        if letter == '"' and inside:
            quoted = not quoted
        elif letter in "[]" and not quoted:
            inside = letter == "["
        elif letter == "=" and not inside:
            return setting[:at], "=", setting[at + 1 :]
    return setting, "", ""


def _warn(image: Image, before: bytes, after: bytes) -> None:
    from hvmctx.restore.context import load
    from hvmctx.restore.host import Host

    release = image.release
    _warn_of_vmport(before, after)
    try:
        host = Host.of_image(image, release)
    except HvmctxError as error:  # policies that cannot be read
        print(f"hvmctx: warning: whether Xen would take it: {error}", file=sys.stderr)
        return
    refusal = load(after, host)
    if not refusal.accepted and load(before, host).accepted:
        print(
            f"hvmctx: warning: Xen {release} would now refuse the context: {refusal.where}: "
            f"{refusal.text} [{refusal.rule}]",
            file=sys.stderr,
        )


def _warn_of_vmport(before: bytes, after: bytes) -> None:
    """What is wrong with the VMPORT record and was not before; and that it was not of the
    profile in use, whose places then are not where the values went."""
    from hvmctx.context.hvm_context import HvmContext

    old, new = (
        HvmContext.from_bytes(data, damaged=True).records(VMPORT_TYPECODE)[-1:]
        for data in (before, after)
    )
    if not old or bytes(old[0].body) == bytes(new[0].body):
        return
    from hvmctx.abi import vmport
    from hvmctx.findings import ERROR
    from hvmctx.restore.vmport import findings_of

    known, found = (findings_of(record.to_bytes()) for (record,) in (old, new))
    rules = {finding.rule for finding in known}
    for finding in found:
        if finding.rule not in rules:
            rules.add(finding.rule)
            print(f"hvmctx: warning: VMPORT: {finding.text} [{finding.rule}]", file=sys.stderr)
    if any(finding.severity == ERROR or finding.rule in _MISFIT for finding in known):
        print(
            f"hvmctx: warning: VMPORT: the record was no {vmport.used().name} record before "
            "(--vmport-profile says which one it is)",
            file=sys.stderr,
        )


_MISFIT = {"vmport-size", "vmport-count", "vmport-behind"}
