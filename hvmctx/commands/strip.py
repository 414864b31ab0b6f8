"""Write an image without its page contents: small and easy to share. It dumps the same, and
restores with blank memory. What follows the end of the image is left out."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.commands import inputs
from hvmctx.files.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "write the image without page contents"
EXAMPLES = (
    "hvmctx strip guest.save -o small.save",
    "hvmctx strip guest.save -o - | gzip > small.save.gz",
)


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    inputs.add_output(parser)
    parser.add_argument(
        "--keep-holes", action="store_true", help="keep the records that hold only absent pages"
    )


def run(args: Namespace) -> int:
    from hvmctx.edit.strip import strip
    from hvmctx.files.opening import open_source

    target = inputs.no_domid(args.input, "strip")
    with (
        open_source(target, inputs.limits_of(args)) as source,
        replacing(args.output, force=args.force, like=[source.access]) as out,
    ):
        done = strip(source, out, layer=args.layer, keep_holes=args.keep_holes)
    if done.trailing:
        messages.warn(f"what follows the image, from offset {done.end:#x} on, is left out")
    messages.say(
        f"{done.pages} pages emptied, {done.records} records of {done.absent_words} absent pages "
        "left out"
    )
    return 0
