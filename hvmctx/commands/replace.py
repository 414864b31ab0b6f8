"""Write an image with one payload replaced and everything else as it was: the HVM context,
the device model's file, the configuration, the body of one record, or a value: what `extract`
with the same --what has written."""

from __future__ import annotations

from hvmctx.commands import inputs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.files.access import Access

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "replace the HVM context, the device model's file, the configuration, a record ..."
EXAMPLES = (
    "hvmctx replace guest.save guest.hvm -o changed.save  # the HVM context",
    "hvmctx extract guest.save --what config -o guest.json  # to be edited",
    "hvmctx replace guest.save guest.json --what config -o other.save",
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
