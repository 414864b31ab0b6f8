"""Say where a value of an image lies, or what lies at an offset. A PATH is one that `get` takes,
and gives the offset and how many bytes; an OFFSET (decimal or 0x) gives layer, record, field
and which of its bytes. Offsets are those of the input, of a compressed one those of what is in
it."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.commands import inputs
from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "say where a value lies, or what lies at an offset"
EXAMPLES = (
    "hvmctx locate guest.save CPU/0.rip config.c_info.name",
    "hvmctx locate guest.save 0xcd55 100",
    "hvmctx locate guest.hvm LAPIC/0 --format json",
)


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    inputs.add_vmport_profile(parser)
    parser.add_argument(
        "--format", choices=("text", "json"), default="text",
        help="text, a line for each (default), or json, a list of objects",
    )  # fmt: skip
    parser.add_argument("places", metavar="OFFSET|PATH", nargs="+", help="what to look for")


def run(args: Namespace) -> int:
    from hvmctx.edit.location import of_offset, of_path

    with inputs.open_seekable(args) as image:
        found = []
        for place in args.places:
            offset = _offset(place)
            found.append(of_path(image, place) if offset is None else of_offset(image, offset))
        if args.format == "json":
            messages.show_json([one.as_dict() for one in found])
        else:
            for one in found:
                messages.show(str(one))
        return inputs.report(image)


def _offset(text: str) -> int | None:
    """None for a path. Raises UsageError for digits that are no number."""
    if not text[:1].isdigit():
        return None
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"locate: {text!r} is not an offset") from None
