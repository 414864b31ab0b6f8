"""Write an image with another payload in it, all else as it was: the HVM context, the
device model's file, or the body of one record."""

from __future__ import annotations

from hvmctx.commands import inputs
from hvmctx.files.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

HELP = "put in another HVM context, device model's file, or record"


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    parser.add_argument("payload", metavar="FILE", help="what to put in")
    inputs.add_output(parser)
    inputs.add_what(parser)


def run(args: Namespace) -> int:
    from hvmctx.edit.payloads import put
    from hvmctx.edit.splice import splice

    payload = inputs.read_file(args.payload)
    with inputs.open_seekable(args) as image:
        edit = put(image, args.what, payload)
        with replacing(args.output, force=args.force) as out:
            splice(image.source, out, [edit])
        inputs.warn(image.problems)
    return 0
