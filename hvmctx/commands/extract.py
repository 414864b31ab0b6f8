"""Take a payload out of an image: the HVM context, the device model's file, or one record
of either the context or the streams."""

from __future__ import annotations

from hvmctx.commands import inputs
from hvmctx.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.image import Image

HELP = "take out the HVM context, the device model's file, or one record"


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    inputs.add_output(parser)
    inputs.add_what(parser)


def run(args: Namespace) -> int:
    with inputs.open_input(args) as image:
        payload = take(image, args.what)
        with replacing(args.output, force=args.force) as out:
            out.write(payload)
        return inputs.report(image)


def take(image: Image, what: str) -> bytes | memoryview:
    """The bytes that `what` names (see `inputs.place_of`)."""
    place = inputs.place_of(image, what)
    if place.stream is not None:
        return image.body(place.stream)[len(place.prefix) :]
    if place.context is None:
        return image.hvm_context.to_bytes()
    return bytes(image.hvm_context.record(*place.context).body)
