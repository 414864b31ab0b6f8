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
    from hvmctx.json_form.document import Document

    target, layer = inputs.target_of(args)
    problems: list[FormatError] = []
    with open_source(target, inputs.limits_of(args)) as source:
        like = [source.access]  # of an open one only
        document = Document.of_input(source, layer, problems)
    with replacing(args.output, force=args.force, like=like) as out:
        out.write(document.to_text(hex_wide=args.hex).encode())
    inputs.warn(problems)
    return 0
