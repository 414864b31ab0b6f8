"""Write a context or an image as JSON that from-json turns back into the very bytes."""

from __future__ import annotations

from hvmctx.commands import inputs
from hvmctx.files.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.errors import FormatError

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "convert to lossless JSON"
EXAMPLES = (
    "hvmctx to-json guest.save -o guest.json",
    "hvmctx to-json guest.hvm --hex -o - | grep rip",
)


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    inputs.add_vmport_profile(parser)
    inputs.add_output(parser)
    parser.add_argument(
        "--hex", action="store_true", help="numbers of 2^32 and more as strings such as 0x1f"
    )


def run(args: Namespace) -> int:
    from hvmctx.files.opening import open_source
    from hvmctx.json_form.document import opened_whole, parts_of_image
    from hvmctx.json_form.text import pieces

    target, layer = inputs.target_of(args)
    problems: list[FormatError] = []
    with open_source(target, inputs.limits_of(args)) as source:
        like = [source.access]  # of an open one only
        with opened_whole(source, layer) as image:
            parts = parts_of_image(image, problems)
            with replacing(args.output, force=args.force, like=like) as out:
                for piece in pieces(parts, hex_wide=args.hex):
                    out.write(piece.encode())
                out.write(b"\n")
    inputs.warn(problems)
    return 0
