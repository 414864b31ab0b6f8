"""Write an image with one payload replaced and everything else as it was: the HVM context,
the device model's file, or the body of one record."""

from __future__ import annotations

from hvmctx.commands import inputs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.files.access import Access

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "replace the HVM context, the device model's file, or a record"
EXAMPLES = (
    "hvmctx replace guest.save guest.hvm -o changed.save  # the HVM context",
    "hvmctx extract guest.hvm --what record:CPU/0 -o cpu",
    "hvmctx replace guest.save cpu --what record:CPU/0 -o other.save",
)


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    parser.add_argument("payload", metavar="FILE", help="the new payload")
    inputs.add_output(parser)
    inputs.add_what(parser)


def run(args: Namespace) -> int:
    from hvmctx.edit.editor import edit

    like: list[Access | None] = []
    payload = inputs.read_file(args.payload, like, inputs.limits_of(args))
    with inputs.open_seekable(args) as image:
        editor = edit(image)
        editor.put(args.what, payload)
        editor.write(args.output, force=args.force, like=like)
        inputs.warn(image.problems)
    return 0
