"""Write an image with another payload in it, all else as it was: the HVM context, the
device model's file, or the body of one record."""

from __future__ import annotations

from hvmctx.commands import inputs
from hvmctx.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.edit.splice import Edit
    from hvmctx.image import Image

HELP = "put in another HVM context, device model's file, or record"


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    parser.add_argument("payload", metavar="FILE", help="what to put in")
    inputs.add_output(parser)
    inputs.add_what(parser)


def run(args: Namespace) -> int:
    from hvmctx.edit.splice import splice

    payload = inputs.read_file(args.payload)
    with inputs.open_seekable(args) as image:
        edit = _edit(image, args.what, payload)
        with replacing(args.output, force=args.force) as out:
            splice(image.source, out, [edit])
    return 0


def _edit(image: Image, what: str, payload: bytes) -> Edit:
    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.edit.paths import context_edit, record_edit

    place = inputs.place_of(image, what)
    if place.stream is not None:
        body = place.prefix + payload
        return record_edit(place.stream, body)
    if place.context is None:
        return context_edit(image, payload)
    context = HvmContext.parse(image.hvm_context.to_bytes())
    context.record(*place.context).body = payload
    return context_edit(image, context.to_bytes())
