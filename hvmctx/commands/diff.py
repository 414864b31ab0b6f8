"""Show what differs between two images or contexts, field by field. Images with different
layers around them are compared by what is inside. A line PATH: BEFORE -> AFTER for each
difference, by record, and the number of them before those of a record that has several: first
the vcpus and platform, last the device model and memory. Exits with 0 if nothing differs (but for
what is ignored), 1 if something does, 2 if an input cannot be read to its end (what is there is
compared)."""

from __future__ import annotations

import sys
from itertools import chain, groupby, islice

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
    "hvmctx diff guest.save guest.hvm --ignore tsc,tmr_val",
    "hvmctx set guest.hvm CPU/0.rip=0 -o - | hvmctx diff guest.hvm - --format json",
)
UNREADABLE = 2


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="an image or a context; - is standard input")
    parser.add_argument("second", metavar="B", help="the other one")
    parser.add_argument("--memory", action="store_true", help="compare page contents too")
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="NAME,...",
        help="leave out fields or records of these names (tsc,TMR_VAL), or paths as get takes them "
        "('CPU/*.tsc'); can be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--stat", action="store_true", help="only the number of differences in each record"
    )
    inputs.add_vmport_profile(parser)
    inputs.add_limits(parser)
    parser.add_argument(
        "--format", choices=("text", "json"), default="text",
        help="text for people (default), or json: an object for each difference; with --stat a "
        "number for each record",
    )  # fmt: skip


def run(args: Namespace) -> int:
    from hvmctx.edit.diff import diff

    if args.first == args.second == "-":
        raise UsageError("diff: only one of the two can be standard input")
    one, other = (
        inputs.open_file(args, name, "diff", seekable=True) for name in (args.first, args.second)
    )
    with one, other:
        found = diff(one, other, memory=args.memory)
        if args.ignore:
            from hvmctx.edit.paths import naming

            ignored = naming(args.ignore)
            found = (difference for difference in found if not ignored(difference.path))
        if args.stat:
            number = _counts(found, args.format)
        else:
            number = _as_json(found) if args.format == "json" else _as_text(found)
    for image in (one, other):
        inputs.report(image)
    if not (one.complete and other.complete):
        return UNREADABLE
    return 1 if number else 0


def _as_text(differences: Iterable[Difference]) -> int:
    """Record by record, as they come: of two big memories there are many. How many there were."""
    number = 0
    for name, group in groupby(differences, _record):
        first = list(islice(group, _HELD))
        number += len(first)
        if len(first) > 1:
            more = f"more than {len(first) - 1}" if len(first) == _HELD else ""
            messages.show_parts([(_number(name, sum(each.count for each in first), more), "bold")])
        for difference in chain(first, group):
            messages.show_parts((text, _COLORS[side]) for text, side in difference.parts())
    return number


def _counts(differences: Iterable[Difference], how: str) -> int:
    """The number of differences in each record; and of those records."""
    numbers: dict[str, int] = {}
    for difference in differences:
        name = _record(difference)
        numbers[name] = numbers.get(name, 0) + difference.count
    if how == "json":
        messages.show_json(numbers)
    else:
        for name, number in numbers.items():
            messages.show(_number(name, number))
    return len(numbers)


_HELD = 10_001
"""Differences of a record that are counted before the first of them is shown."""
_COLORS = {"-": "red", "+": "green", "": ""}


def _record(difference: Difference) -> str:
    """The record that it is in, or the table: what its path starts with."""
    from hvmctx.edit.paths import Path

    return Path(difference.path).head


def _number(name: str, number: int, more: str = "") -> str:
    """`CPU/0: 7 differ`."""
    what = " page" if name == "pfn" else ""
    several = "s" if what and number != 1 else ""
    return f"{name}: {more or number}{what}{several} differ{'s' if number == 1 else ''}"


def _as_json(differences: Iterable[Difference]) -> int:
    import json

    number = 0
    for number, difference in enumerate(differences, 1):
        sys.stdout.write("[\n " if number == 1 else ",\n ")
        sys.stdout.write(json.dumps(difference.as_dict()))
    sys.stdout.write("\n]\n" if number else "[]\n")
    return number
