"""Make the context or image again that a JSON file of to-json describes."""

from __future__ import annotations

from hvmctx.commands import inputs
from hvmctx.files.output import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.files.access import Access

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "make a context or an image from such JSON"
EXAMPLES = (
    "hvmctx to-json guest.save -o guest.json",
    "hvmctx from-json guest.json -o again.save",
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("input", metavar="FILE", help="JSON of to-json; - is standard input")
    inputs.add_output(parser)
    inputs.add_vmport_profile(parser)
    inputs.add_limits(parser)


def run(args: Namespace) -> int:
    from hvmctx.json_form.document import loads_json

    like: list[Access | None] = []
    limits = inputs.limits_of(args)
    data = loads_json(inputs.read_file(args.input, like, limits), limits=limits)
    with replacing(args.output, force=args.force, like=like) as out:
        out.write(data)
    return 0
