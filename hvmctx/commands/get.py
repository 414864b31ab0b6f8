"""Print values of an image or a bare context, one per line: numbers with 0x, bytes as hex.
A path is RECORD[/INSTANCE].FIELD, such as CPU/0.rip or HVM_PARAMS.STORE_PFN."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.commands import inputs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "print single values: CPU/0.rip, HVM_PARAMS.17 ..."
EXAMPLES = (
    "hvmctx get guest.save CPU/0.rip CPU/0.cr4",
    "hvmctx get guest.save HVM_PARAMS.STORE_PFN",
    "hvmctx get - CPU/0.rip < guest.hvm  # a bare context",
)


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    inputs.add_vmport_profile(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="what to print")


def run(args: Namespace) -> int:
    from hvmctx.edit.editor import edit

    with inputs.open_input(args) as image:
        editor = edit(image)
        values = [editor.get(path) for path in args.paths]
        for value in values:
            messages.show(_shown(value))
        return inputs.report(image)


def _shown(value: int | bytes | str) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str) else f"{value:#x}"
