"""Look at many saved guests: what each is, whether Xen would restore it, where, and if not, why.
Of an image the headers, the page words and the small records are read, no pages.

A row for each image: an object a line (NDJSON), or a Parquet file. Its members are in docs/scan.md.
A directory stands for the files in it, a pattern such as '/var/lib/xen/**/*.save' for what it
matches, URLs may have both. Without --release each image is judged for the release that wrote it
and for all newer ones. --summary and --html say what it all comes to.

The exit status is 0 if all images restore everywhere that was asked, 1 if one does not or is
damaged, 2 if one cannot be read at all."""

from __future__ import annotations

import os

from hvmctx import messages
from hvmctx.abi.releases import SPAN
from hvmctx.commands import inputs
from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from hvmctx.scan.output import Output
    from hvmctx.scan.row import Asked
    from hvmctx.scan.summary import Summary

__all__ = ["EXAMPLES", "HELP", "UNREADABLE", "add_arguments", "run"]

HELP = "look at many images: a row each, and a summary"
EXAMPLES = (
    "hvmctx scan guest.save --release 4.20 --summary",
    "hvmctx scan guest.save '*.save' -o rows.ndjson --html fleet.html",
    "hvmctx scan *.save -o rows.ndjson --resume --summary  # what is not there yet",
)
UNREADABLE = 2
_OF_PARQUET = ".parquet"
_MOST_JOBS = 256
_SHOWN_EVERY = 0.2
"""Seconds between two looks at the progress."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "input", metavar="PATH|GLOB|URL", nargs="*", help="images, directories, patterns"
    )
    parser.add_argument(
        "--release", action="append", metavar="RELEASE",
        help=f"judge for this Xen, {SPAN} or newest; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--hosts",
        metavar="DIR",
        help="judge for these hosts too: a file for each, as for hvmctx place",
    )
    parser.add_argument(
        "--strict", action="store_true", help="also look for what is questionable in a context"
    )
    parser.add_argument(
        "--content-hash", action="store_true", help="hash all bytes of each image (reads them all)"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write the rows there (default: standard output, "
        "if neither --summary nor --html is given); .parquet for Parquet",
    )  # fmt: skip
    parser.add_argument("--format", choices=("ndjson", "parquet"), help="by default by FILE's name")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument(
        "--resume", action="store_true", help="keep the rows that FILE has, and skip their images"
    )
    parser.add_argument("--summary", action="store_true", help="print what it all comes to")
    parser.add_argument("--html", metavar="FILE", help="write a page about the whole fleet")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (default: processors)")
    parser.add_argument(
        "--dask", metavar="ADDRESS", help="use the Dask cluster with this scheduler instead"
    )
    inputs.add_limits(parser)


def run(args: Namespace) -> int:
    from hvmctx.scan.output import NDJSON, PARQUET, Output
    from hvmctx.scan.row import Asked
    from hvmctx.scan.summary import Summary

    if not args.input and not args.resume:
        raise UsageError("scan: no PATH, GLOB or URL")
    if args.jobs is not None and not 0 < args.jobs <= _MOST_JOBS:
        raise UsageError(f"scan: --jobs {args.jobs}: expected 1 to {_MOST_JOBS}")
    if args.output == "-" and args.summary:
        raise UsageError("scan: rows and a summary do not mix: --summary with -o FILE")
    path = args.output or (None if args.summary or args.html else "-")
    form = args.format or (PARQUET if (path or "").endswith(_OF_PARQUET) else NDJSON)
    if form == PARQUET:
        from hvmctx.scan.parquet import check

        if path in (None, "-"):
            raise UsageError("scan: Parquet needs -o FILE")
        check()
    if args.html:
        from hvmctx.render.html import check as check_html

        check_html()
    hosts = inputs.hosts_of(args, "scan") if args.hosts else {}
    asked = Asked(
        args.release or (), hosts, strict=args.strict, content=args.content_hash,
        limits=inputs.limits_of(args),
    )  # fmt: skip
    output = Output(path, form, resume=args.resume, force=args.force)
    summary = Summary()
    _scan(args, asked, output, summary)
    if path != "-":
        from hvmctx.render.fleet import headline, print_summary

        if args.summary:
            print_summary(summary.as_dict())
        else:
            messages.show(headline(summary.as_dict()))
    if args.html:
        _write_page(args, summary)
    if summary.unreadable:
        return UNREADABLE
    return 1 if summary.damaged or summary.refused else 0


def _scan(args: Namespace, asked: Asked, output: Output, summary: Summary) -> None:
    from time import monotonic

    from hvmctx.render.progress import Progress
    from hvmctx.scan.row import key_of
    from hvmctx.scan.scanning import default_jobs, scan

    seen = set()
    for row in output.earlier():
        asked.check(row)
        seen.add(key_of(row["input"]))
        summary.add(row)
    ours = {os.path.realpath(path) for path in (args.output, output.journal, args.html) if path}
    names = [
        name for name in dict.fromkeys(_names(args))
        if key_of(name) not in seen and os.path.realpath(name) not in ours
    ]  # fmt: skip
    jobs = args.jobs or default_jobs(len(names))
    try:
        with output.opened() as write, Progress(len(names)) as progress:
            shown = 0.0
            for done, row in enumerate(scan(names, asked, jobs=jobs, dask=args.dask), 1):
                write(row)
                summary.add(row)
                if monotonic() - shown >= _SHOWN_EVERY or done == len(names):
                    shown = monotonic()
                    progress.show(done, f"{done} of {len(names)} images")
    except BaseException:
        if os.path.exists(output.journal):
            messages.say(f"the rows that are done are in {output.journal}; --resume goes on")
        raise


def _names(args: Namespace) -> Iterator[str]:
    """Every image that the arguments name. Raises InputError, UsageError."""
    from glob import glob

    from hvmctx.errors import InputError
    from hvmctx.files.remote import has_wildcards, is_url, listed

    for name in args.input:
        inputs.no_domid(name, "scan")
        if name == "-":
            raise UsageError("scan: standard input is one image: hvmctx info -")
        if inputs.is_directory(name):
            yield from inputs.files_in(name)
        elif os.path.lexists(name):
            yield name
        elif is_url(name):
            yield from listed(name) if has_wildcards(name) or name.endswith("/") else [name]
        elif has_wildcards(name):
            found = sorted(path for path in glob(name, recursive=True) if os.path.isfile(path))
            if not found:
                raise InputError(f"{name}: matches no file")
            yield from found
        else:
            yield name


def _write_page(args: Namespace, summary: Summary) -> None:
    from hvmctx.files.output import replacing
    from hvmctx.render.fleet import fleet_page

    with replacing(args.html, force=args.force or args.resume, like=[None]) as out:
        out.write(fleet_page(summary.as_dict()).encode())
