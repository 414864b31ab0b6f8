"""Print values of an image or a bare context, one per line: numbers with 0x, bytes as hex. A
path is what `diff` prints: CPU/0.rip, HVM_PARAMS.STORE_PFN, CPUID[7,0].ebx, config.c_info.name.
Of a path of several values (a record, an array, wildcards) all are printed, each as PATH=VALUE,
which `set` takes. With --format json it is one object, with numbers as numbers."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.commands import inputs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "print values: CPU/0.rip, HVM_PARAMS.17, 'CPU/*.cr*', config.c_info.name ..."
EXAMPLES = (
    "hvmctx get guest.save CPU/0.rip CPU/0.cr4",
    "hvmctx get guest.save 'CPU/*.cr*' PIT.channels[0] config.c_info --format json",
    "hvmctx get guest.save --list 'HVM_PARAMS.*'  # the paths that there are",
    "hvmctx get - CPU/0.rip < guest.hvm  # a bare context",
)


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    inputs.add_vmport_profile(parser)
    parser.add_argument(
        "--list", action="store_true", help="print the paths of the values, not the values"
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text",
        help="text, a line for each value (default), or json, one object",
    )  # fmt: skip
    parser.add_argument(
        "paths", metavar="PATH", nargs="+",
        help="what to print; * and ? stand for any text and any letter",
    )  # fmt: skip


def run(args: Namespace) -> int:
    from hvmctx.edit.editor import edit, shown

    with inputs.open_input(args) as image:
        editor = edit(image)
        found = {path: list(editor.paths(path)) for path in args.paths}
        lines = []
        plain: dict[str, int | str] = {}
        for path, those in found.items():
            for one in those:
                value = "" if args.list else editor.get(one)
                plain[one] = value if isinstance(value, int) else shown(value)
                lines.append(shown(value) if those == [path] else f"{one}={shown(value)}")
        if args.format == "json":
            messages.show_json(list(plain) if args.list else plain)
        else:
            for line in plain if args.list else lines:
                messages.show(line)
        return inputs.report(image)
