"""What all commands have in common: the arguments INPUT, --layer, -o, and opening them."""

from __future__ import annotations

import sys

from hvmctx.errors import UsageError
from hvmctx.image import Image, open_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

LAYERS = ("xl", "libxl", "libxc", "context", "legacy")


def add_input(parser: ArgumentParser, name: str = "input") -> None:
    parser.add_argument(
        name, metavar="INPUT", help="a path, - for standard input, or a running domain's DOMID"
    )
    parser.add_argument(
        "--layer", choices=LAYERS, help="what the input starts with (default: look at it)"
    )


def add_output(parser: ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="where to; - is standard output"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing FILE")


def is_domid(text: str) -> bool:
    """All digits: a file of such a name is given as ./123."""
    return text.isascii() and text.isdigit()


def open_input(args: Namespace, **how: Any) -> Image:
    """The image that INPUT names; a live domain's context counts as one."""
    if is_domid(args.input):
        if args.layer not in (None, "context"):
            raise UsageError("a running domain gives a context: --layer does not go with DOMID")
        from hvmctx.live import domain_context

        return open_image(domain_context(int(args.input)), layer="context")
    target = sys.stdin.buffer if args.input == "-" else args.input
    return open_image(target, layer=args.layer, **how)


def report(image: Image) -> int:
    """Say on stderr, a line each, what was wrong with the input. The exit status."""
    sys.stdout.flush()
    for problem in image.problems:
        print(f"hvmctx: {problem}", file=sys.stderr)
    return 1 if image.problems else 0
