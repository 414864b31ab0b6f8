"""Write an image or a bare context with other values in it, all else as it was. A value is
decimal or 0x; hex digits or "text" for bytes. Warns when Xen would take the context
before, and not after."""

from __future__ import annotations

import sys

from hvmctx.commands import inputs
from hvmctx.errors import UsageError
from hvmctx.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.image import Image

HELP = "write it with other values: CPU/0.rip=0x1000 ..."


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    parser.add_argument("settings", metavar="PATH=VALUE", nargs="+", help="what to set")
    inputs.add_output(parser)


def run(args: Namespace) -> int:
    from hvmctx.edit.paths import Editor
    from hvmctx.edit.splice import splice

    with inputs.open_seekable(args) as image:
        editor = Editor(image)
        before = image.hvm_context.to_bytes() if _touches_context(args.settings) else b""
        for setting in args.settings:
            path, equals, value = _split(setting)
            if not equals:
                raise UsageError(f"set: {setting}: expected PATH=VALUE")
            editor.set(path, value)
        with replacing(args.output, force=args.force) as out:
            splice(image.source, out, editor.edits())
        if before:
            _warn(image, before, editor.context.to_bytes())
    return 0


def _touches_context(settings: list[str]) -> bool:
    return any(not setting.upper().startswith("HVM_PARAMS.") for setting in settings)


def _split(setting: str) -> tuple[str, str, str]:
    """At the first `=` outside of brackets: keys may hold one."""
    closing = setting.rfind("]=")
    if "[" in setting.partition("=")[0] and closing >= 0:
        return setting[: closing + 1], "=", setting[closing + 2 :]
    return setting.partition("=")


def _warn(image: Image, before: bytes, after: bytes) -> None:
    from hvmctx.abi.releases import Release
    from hvmctx.restore.context import load
    from hvmctx.restore.host import Host

    release = Release.of_version(*(image.xen_version or (0, 0)))
    host = Host.of_image(image, release)
    refusal = load(after, host)
    if not refusal.accepted and load(before, host).accepted:
        print(
            f"hvmctx: warning: Xen {release} would now refuse the context: {refusal.record}/"
            f"{refusal.instance}: {refusal.text} [{refusal.rule}]",
            file=sys.stderr,
        )
