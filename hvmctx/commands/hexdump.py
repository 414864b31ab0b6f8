"""Print bytes in hex, each line with the field that they belong to: offset in the input, offset
in the record, up to 16 bytes, and the path that `get` and `set` take. Without RECORD all
headers and records come, but no pages, and of long values the start."""

from __future__ import annotations

import sys

from hvmctx import messages
from hvmctx.commands import inputs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from hvmctx.edit.location import Stretch
    from hvmctx.image.image import Image
    from hvmctx.render.hexdump import Part, Reader

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "print bytes in hex, with the field that each belongs to"
EXAMPLES = (
    "hvmctx hexdump guest.save PIT/0",
    "hvmctx hexdump guest.save CPU HVM_PARAMS",
    "hvmctx set guest.save CPU/0.rip=0 -o - | hvmctx hexdump guest.save --diff -",
)
_MOST = 256
"""Bytes of a value that are shown where no record is named."""


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    parser.add_argument(
        "records", metavar="RECORD", nargs="*",
        help="such as CPU/0, PIC, HVM_PARAMS, or the layer of a header (xl, libxc)",
    )  # fmt: skip
    parser.add_argument(
        "--diff", metavar="OTHER", help="only the lines in which another image differs"
    )


def run(args: Namespace) -> int:
    from hvmctx.render.hexdump import changed_lines, lines

    color = messages.has_color(sys.stdout)
    with inputs.open_seekable(args) as image:
        mine = _named(image, args.records)
        if args.diff is None:
            most = None if args.records else _MOST
            for stretch in mine:
                sys.stdout.write(_title(stretch))
                sys.stdout.writelines(
                    lines(_reader(image), stretch.start, _parts(stretch), color=color, most=most)
                )
            return inputs.report(image, config=not args.records)
        with inputs.open_file(args, args.diff, "--diff", seekable=True) as other:
            differ = False
            others = {(one.layer, one.name): one for one in _named(other, args.records)}
            for stretch in mine:
                twin = others.pop((stretch.layer, stretch.name), None)
                if twin is None:
                    differ = True
                    messages.show(f"- {_title(stretch).strip()}: only in {args.input}")
                    continue
                longer = max(stretch, twin, key=lambda one: one.end - one.start)
                moved = stretch.start - longer.start
                parts = ((at + moved, size, name) for at, size, name in _parts(longer))
                reads = [_within(_reader(image), stretch), _within(_reader(other), twin)]
                changes = changed_lines(reads, (stretch.start, twin.start), parts, color=color)
                for number, line in enumerate(changes):
                    differ = True
                    sys.stdout.write(line if number else _title(stretch) + line)
            for stretch in others.values():
                differ = True
                messages.show(f"+ {_title(stretch).strip()}: only in {args.diff}")
            config = not args.records
            damaged = [inputs.report(each, config=config) for each in (image, other)]
            return max(*damaged, int(differ))


def _title(stretch: Stretch) -> str:
    name = messages.printable(stretch.name or "after the context")
    return f"{stretch.layer}: {name} at {stretch.start:#x}, {stretch.end - stretch.start} bytes\n"


def _parts(stretch: Stretch) -> Iterator[Part]:
    for part in stretch.parts():
        yield part.offset, part.length, ", ".join(part.paths) or part.what


def _named(image: Image, names: list[str]) -> Iterator[Stretch]:
    """The stretches that were asked for; all without names. Raises UsageError for a name of
    none."""
    from hvmctx.edit.location import stretches
    from hvmctx.errors import UsageError

    wanted = {name.upper(): name for name in names}
    found = set()
    for stretch in stretches(image):
        names_of = {
            stretch.name.upper(),
            stretch.name.partition("/")[0].upper(),
            stretch.layer.upper(),
        }
        hits = names_of & wanted.keys()
        if hits or not wanted:
            found |= hits
            yield stretch
    for missing in wanted.keys() - found:
        raise UsageError(f"hexdump: the image has no {wanted[missing]}")


def _reader(image: Image) -> Reader:
    from hvmctx.stream.reader import CONTEXT

    if image.format == CONTEXT:
        data = image.context_bytes()
        return lambda at, size: data[at : at + size]
    return image.source.read_at


def _within(read: Reader, stretch: Stretch) -> Reader:
    """Nothing beyond its end: it may be shorter than the other one."""
    return lambda at, size: bytes(read(at, max(0, min(size, stretch.end - at))))
