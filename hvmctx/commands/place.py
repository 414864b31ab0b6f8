"""Say which host takes which image: a matrix, image by host, with the reason in each cell. DIR has
a file for each host: what `hvmctx host` wrote there, or an image that was saved there. Each is
judged by the Xen that it runs, or by --release.

JSON is an array of objects with `image`, `host`, `release` and what `hvmctx restore --host` says;
CSV has a line for each image and a column for each host. The exit status is 0 if there is a host
for every image, 1 if not, 2 if an image or a host cannot be read."""

from __future__ import annotations

import sys

from hvmctx import messages
from hvmctx.abi.releases import NEWEST, SPAN, Release
from hvmctx.commands import inputs
from hvmctx.errors import HvmctxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from hvmctx.restore.host import Host
    from hvmctx.restore.placing import Placement

    Cell = Placement | HvmctxError

__all__ = ["EXAMPLES", "HELP", "UNREADABLE", "add_arguments", "run"]

HELP = "say which host takes which image, and why not"
EXAMPLES = (
    "hvmctx place guest.save --hosts hosts",
    "hvmctx place guest.save other.save --hosts hosts --format csv > matrix.csv",
)
UNREADABLE = 2
_HOMELESS = 1


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", nargs="+", help="a path")
    parser.add_argument(
        "--hosts", metavar="DIR", required=True, help="a directory with a file for each host"
    )
    parser.add_argument(
        "--release", metavar="RELEASE", help=f"which Xen, {SPAN} or newest (default: each host's)"
    )
    parser.add_argument(
        "--format", choices=("text", "json", "csv"), default="text",
        help="text for people (default), json, or csv with a column for each host",
    )  # fmt: skip
    inputs.add_limits(parser)


def run(args: Namespace) -> int:
    asked = Release(args.release) if args.release else None
    hosts = inputs.hosts_of(args, "place")
    releases = {name: asked or host.release or Release(NEWEST) for name, host in hosts.items()}
    matrix: dict[str, dict[str, Cell]] = {}
    for image in args.image:
        matrix[image] = {name: _cell(args, image, hosts[name], releases[name]) for name in hosts}
    if args.format == "json":
        messages.show_json([
            {"image": image, "host": name, "release": str(releases[name]), **_as_plain(cell)}
            for image, cells in matrix.items() for name, cell in cells.items()
        ])  # fmt: skip
    elif args.format == "csv":
        _show_csv(matrix, list(hosts))
    else:
        _show_text(matrix, list(hosts))
    return max(_status(cells) for cells in matrix.values())


def _cell(args: Namespace, image: str, host: Host, release: Release) -> Cell:
    from hvmctx.restore.placing import place

    try:
        with inputs.open_file(args, image, "place") as opened:
            return place(opened, host, release)
    except HvmctxError as error:
        return error


def _as_plain(cell: Cell) -> dict[str, object]:
    if isinstance(cell, HvmctxError):
        return {"verdict": "unreadable", "text": str(cell)}
    return cell.as_dict()


def _in_words(cell: Cell) -> str:
    """A cell of the matrix."""
    if isinstance(cell, HvmctxError):
        return f"unreadable: {cell}"
    verdict, short = cell.verdict, cell.in_short
    if verdict.accepted:
        return f"accept{f': {short}' if short else ''}"
    if cell.blocking:
        return f"{verdict.verdict}: {short} [{verdict.rule}]"
    return f"{verdict.verdict}: {verdict.reason} [{verdict.rule}]"


def _status(cells: dict[str, Cell]) -> int:
    if any(isinstance(cell, HvmctxError) for cell in cells.values()):
        return UNREADABLE
    taken = any(not isinstance(c, HvmctxError) and c.verdict.accepted for c in cells.values())
    return 0 if taken else _HOMELESS


def _show_text(matrix: dict[str, dict[str, Cell]], hosts: list[str]) -> None:
    """A line for each host under each image, as the reasons are too long for columns."""
    width = max(len(messages.printable(name)) for name in hosts)
    for image, cells in matrix.items():
        messages.show(image)
        for name, cell in cells.items():
            messages.show(f"  {messages.printable(name):<{width}}  {_in_words(cell)}")


def _show_csv(matrix: dict[str, dict[str, Cell]], hosts: list[str]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["image", *map(messages.printable, hosts)])
    for image, cells in matrix.items():
        row = [image, *(_in_words(cells[name]) for name in hosts)]
        writer.writerow([messages.printable(cell) for cell in row])
