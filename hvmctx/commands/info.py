"""Describe an image: layers, guest, memory, device model, records, and anything unusual."""

from __future__ import annotations

import sys

from hvmctx import messages
from hvmctx.commands import inputs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "describe an image: layers, guest, memory, records, device model"
EXAMPLES = (
    "hvmctx info guest.save",
    "hvmctx info guest.save --records",
    "hvmctx info guest.save --policy",
    "hvmctx info - --format json < guest.save",
)


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    parser.add_argument(
        "--records", action="store_true", help="list every header and record, with its offset"
    )
    parser.add_argument(
        "--policy", action="store_true", help="decode the guest's CPU policy: features by name"
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text",
        help="text for people (default), or json: all that is found, for programs",
    )  # fmt: skip


def run(args: Namespace) -> int:
    from hvmctx.render.describe import describe

    with inputs.open_input(args) as image:
        description = describe(image, index=args.records, policy=args.policy)
        if args.format == "json":
            messages.show_json(description)
        else:
            from hvmctx.render.describe_text import print_description

            print_description(description, sys.stdout)
        return 1 if description["problems"] else 0
