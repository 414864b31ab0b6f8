"""Say what changed between two releases of Xen for saves and loads: lengths of records, what a
restore refuses and suffers by, which bits are taken, errnos, what is read of streams, and the text
of xen-hvmctx. It needs no image. A release without a point release means the tip of its branch."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.abi.releases import SPAN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from hvmctx.verify.compat import ReleaseChange

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "say what changed between two releases for saves and loads"
EXAMPLES = (
    "hvmctx compat 4.17 4.18",
    "hvmctx compat 4.13 4.20 --records CPU,LAPIC",
    "hvmctx compat 4.17 4.20 --format markdown",
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "first", metavar="FIRST", help=f"a release: {SPAN}, newest, or a tag's name"
    )
    parser.add_argument("second", metavar="SECOND", help="the other one")
    parser.add_argument(
        "--records", metavar="NAME,...", help="only what is about these records, such as CPU,LAPIC"
    )
    parser.add_argument(
        "--format", choices=("text", "json", "markdown"), default="text",
        help="text, a line for each change (default); json, a list of objects; markdown, tables",
    )  # fmt: skip


def run(args: Namespace) -> int:
    from hvmctx.verify.compat import changes

    records = args.records.split(",") if args.records else None
    found = changes(args.first, args.second, records=records)
    if args.format == "json":
        messages.show_json([change.as_dict() for change in found])
        return 0
    as_lines = _markdown if args.format == "markdown" else _text
    for line in as_lines(found, args.first, args.second):
        messages.show(line)
    return 0


def _by_topic(found: list[ReleaseChange]) -> Iterator[tuple[str, list[ReleaseChange]]]:
    from hvmctx.verify.compat import TOPICS

    for topic, heading in TOPICS.items():
        if those := [change for change in found if change.topic == topic]:
            yield heading, those


def _text(found: list[ReleaseChange], first: str, second: str) -> Iterator[str]:
    for heading, those in _by_topic(found):
        yield f"{heading}:"
        yield from (f"  {change}" for change in those)
    yield f"{len(found)} changes from Xen {first} to {second}"


def _markdown(found: list[ReleaseChange], first: str, second: str) -> Iterator[str]:
    yield f"# From Xen {first} to {second}"
    for heading, those in _by_topic(found):
        yield from ("", f"## {heading}", "")
        yield f"| record | what | {first} | {second} | since |"
        yield "|---|---|---|---|---|"
        for change in those:
            cells = (change.record, change.what, change.first, change.second, change.since)
            yield f"| {' | '.join((cell or '').replace('|', chr(92) + '|') for cell in cells)} |"
