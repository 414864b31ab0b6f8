"""Show what differs between two images or contexts, field by field. Images with different
layers around them are compared by what is inside. Exits with 0 if nothing differs, 1 if
something does, 2 if an input cannot be read to its end (what is there is compared)."""

from __future__ import annotations

import sys

from hvmctx import messages
from hvmctx.commands import inputs
from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable

    from hvmctx.edit.diff import Difference

__all__ = ["EXAMPLES", "HELP", "UNREADABLE", "add_arguments", "run"]

HELP = "show what differs between two images or contexts, field by field"
EXAMPLES = (
    "hvmctx diff guest.save guest.hvm",
    "hvmctx set guest.hvm CPU/0.rip=0 -o - | hvmctx diff guest.hvm - --format json",
)
UNREADABLE = 2


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="an image or a context; - is standard input")
    parser.add_argument("second", metavar="B", help="the other one")
    parser.add_argument("--memory", action="store_true", help="compare page contents too")
    inputs.add_vmport_profile(parser)
    inputs.add_limits(parser)
    parser.add_argument(
        "--format", choices=("text", "json"), default="text",
        help="text for people (default), or json: an object for each difference",
    )  # fmt: skip


def run(args: Namespace) -> int:
    from hvmctx.edit.diff import diff

    if args.first == args.second == "-":
        raise UsageError("diff: only one of the two can be standard input")
    one, other = (
        inputs.open_file(args, name, "diff", seekable=True) for name in (args.first, args.second)
    )
    with one, other:
        write = _as_json if args.format == "json" else _as_text
        found = write(diff(one, other, memory=args.memory))
    for image in (one, other):
        inputs.report(image)
    if not (one.complete and other.complete):
        return UNREADABLE
    return 1 if found else 0


def _as_text(differences: Iterable[Difference]) -> int:
    """As they come: of two big memories there are many. How many there were."""
    number = 0
    for difference in differences:
        messages.show(str(difference))
        number += 1
    return number


def _as_json(differences: Iterable[Difference]) -> int:
    import json

    number = 0
    for number, difference in enumerate(differences, 1):
        sys.stdout.write("[\n " if number == 1 else ",\n ")
        sys.stdout.write(json.dumps(difference.as_dict()))
    sys.stdout.write("\n]\n" if number else "[]\n")
    return number
