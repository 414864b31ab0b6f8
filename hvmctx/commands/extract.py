"""Extract a payload from an image: the HVM context, the device model's file, the configuration,
one record of either the context or the streams, a value, or (--what memory) the guest's memory."""

from __future__ import annotations

from hvmctx.commands import inputs
from hvmctx.files.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "extract the HVM context, the device model's file, the configuration, memory ..."
EXAMPLES = (
    "hvmctx extract guest.save -o context  # the HVM context",
    "hvmctx extract guest.save --what config -o guest.json",
    "hvmctx extract guest.save --what memory --format elf -o core",
)


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    inputs.add_output(parser)
    inputs.add_what(parser, ". Or memory: the guest's")
    parser.add_argument(
        "--format", choices=("raw", "elf"), default="raw",
        help="for --what memory: raw, a sparse file (default), or an ELF core for gdb",
    )  # fmt: skip


def run(args: Namespace) -> int:
    from hvmctx.edit.payloads import MEMORY, is_not_kept

    if args.what == MEMORY:
        return _memory(args)
    from hvmctx.edit.editor import edit

    again = is_not_kept(args.what)
    with inputs.open_seekable(args) if again else inputs.open_input(args) as image:
        payload = edit(image).take(args.what)
        with replacing(args.output, force=args.force, like=[image.source.access]) as out:
            out.write(payload)
        return inputs.report(image)


def _memory(args: Namespace) -> int:
    from hvmctx.edit.memory import extract_memory

    inputs.whole_file(args.output, "extract", "memory is written with holes")
    with inputs.open_seekable(args) as image:
        with replacing(args.output, force=args.force, like=[image.source.access]) as out:
            extract_memory(image, out, args.format)
        return inputs.report(image)
