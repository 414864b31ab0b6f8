"""Write what this machine and its Xen offer to guests: version and command line, the CPU, its
policies (raw, host, the most and the default of HVM guests), XSAVE, TSC, nested virtualisation.
Needs root in dom0; or takes the text of `xen-cpuid -p` and `xl info`, from any machine."""

from __future__ import annotations

import json

from hvmctx.commands import inputs
from hvmctx.files.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.restore.host import Host

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "write what this machine offers to guests, as JSON"
EXAMPLES = (
    "hvmctx host",
    "hvmctx host --from-text xen-cpuid.txt xl-info.txt -o host.json",
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--from-text", nargs="+", metavar="FILE",
        help="what xen-cpuid -p printed, and after it, if you have it, what xl info printed",
    )  # fmt: skip
    inputs.add_output(parser, required=False)


def run(args: Namespace) -> int:
    host = _of_text(args.from_text) if args.from_text else _of_this_machine()
    text = json.dumps(host.as_dict(), indent=1) + "\n"
    with replacing(args.output, force=args.force) as out:
        out.write(text.encode())
    return 0


def _of_text(paths: list[str]) -> Host:
    from hvmctx.errors import UsageError
    from hvmctx.restore.host import Host

    if len(paths) > 2:
        raise UsageError("host: --from-text takes one or two files")
    return Host.from_text(*(inputs.read_file(path) for path in paths))


def _of_this_machine() -> Host:
    from hvmctx.live.host import facts
    from hvmctx.live.xen import Xen
    from hvmctx.restore.host import Host

    with Xen() as xen:
        return Host.from_bytes(**facts(xen))
