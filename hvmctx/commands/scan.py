"""Look at many saved guests: what each is, whether Xen would restore it, where, and if not, why.
Of an image the headers, the page words and the small records are read, no pages.

A row for each image: an object a line (NDJSON), or a Parquet file. Its members are in docs/scan.md.
A directory stands for the files in it, a pattern such as '/var/lib/xen/**/*.save' for what it
matches, URLs may have both. Without --release each image is judged for the release that wrote it
and for all newer ones. --summary and --html say what it all comes to.

The exit status is 0 if all images restore everywhere that was asked, 1 if one does not or is
damaged, 2 if one cannot be read at all."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.abi.releases import SPAN
from hvmctx.commands import inputs
from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from hvmctx.restore.host import Host
    from hvmctx.scan.output import Output
    from hvmctx.scan.row import Asked
    from hvmctx.scan.summary import Summary

__all__ = ["EXAMPLES", "HELP", "UNREADABLE", "add_arguments", "run"]

HELP = "look at many images: a row each, and a summary"
EXAMPLES = (
    "hvmctx scan guest.save --release 4.20 --summary",
    "hvmctx scan guest.save '*.hvm' -o rows.ndjson --html fleet.html",
    "hvmctx scan *.save -o rows.ndjson --resume --summary  # what is not there yet",
)
UNREADABLE = 2
_OF_PARQUET = ".parquet"
_MOST_JOBS = 256


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "input", metavar="PATH|GLOB|URL", nargs="*", help="images, directories, patterns"
    )
    parser.add_argument(
        "--release", action="append", metavar="RELEASE",
        help=f"judge for this Xen, {SPAN} or newest; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--hosts", metavar="DIR", help="judge for these hosts too: files that hvmctx host wrote"
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
    path = args.output or (None if args.summary or args.html else "-")
    form = args.format or (PARQUET if (path or "").endswith(_OF_PARQUET) else NDJSON)
    if form == PARQUET:
        from hvmctx.scan.parquet import check

        if path in (None, "-"):
            raise UsageError("scan: Parquet needs -o FILE")
        check()
    asked = Asked(
        args.release or (), _hosts_of(args), strict=args.strict, content=args.content_hash,
        limits=inputs.limits_of(args),
    )  # fmt: skip
    output = Output(path, form, resume=args.resume, force=args.force)
    summary = Summary()
    _scan(args, asked, output, summary)
    if args.summary:
        from hvmctx.render.fleet import print_summary

        print_summary(summary.as_dict())
    if args.html:
        _write_page(args, summary)
    if summary.unreadable:
        return UNREADABLE
    return 1 if summary.damaged or summary.refused else 0


def _scan(args: Namespace, asked: Asked, output: Output, summary: Summary) -> None:
    from hvmctx.render.progress import Progress
    from hvmctx.scan.output import key_of
    from hvmctx.scan.scanning import default_jobs, scan

    seen = set()
    for row in output.earlier():
        asked.check(row)
        seen.add(key_of(row["input"]))
        summary.add(row)
    names = [name for name in dict.fromkeys(_names(args)) if key_of(name) not in seen]
    jobs = args.jobs or default_jobs(len(names))
    try:
        with output.opened() as write, Progress("images", len(names)) as progress:
            for row in scan(names, asked, jobs=jobs, dask=args.dask):
                write(row)
                summary.add(row)
                progress.advance()
    except BaseException:
        if output.journal:
            messages.say(f"{summary.images} rows are in {output.journal}; --resume goes on")
        raise


def _names(args: Namespace) -> Iterator[str]:
    """Every image that the arguments name. Raises InputError, UsageError."""
    from glob import glob
    from os.path import isfile, lexists

    from hvmctx.errors import InputError
    from hvmctx.files.remote import has_wildcards, is_url, listed

    for name in args.input:
        inputs.no_domid(name, "scan")
        if name == "-":
            raise UsageError("scan: standard input is one image: hvmctx info -")
        if inputs.is_directory(name):
            yield from inputs.files_in(name)
        elif lexists(name):
            yield name
        elif is_url(name):
            yield from listed(name) if has_wildcards(name) or name.endswith("/") else [name]
        elif has_wildcards(name):
            found = sorted(path for path in glob(name, recursive=True) if isfile(path))
            if not found:
                raise InputError(f"{name}: matches no file")
            yield from found
        else:
            yield name


def _hosts_of(args: Namespace) -> dict[str, Host]:
    """By the names of their files. Raises UsageError for a file that is none."""
    if args.hosts is None:
        return {}
    import json
    from pathlib import Path

    from hvmctx.errors import HvmctxError
    from hvmctx.restore.host import Host

    hosts = {}
    try:
        for path in inputs.files_in(args.hosts):
            try:
                hosts[Path(path).stem] = Host.from_dict(json.loads(inputs.read_file(path)))
            except (HvmctxError, ValueError, RecursionError) as error:
                raise UsageError(f"scan --hosts: {path}: {error}") from error
    except UsageError:
        raise
    except HvmctxError as error:
        raise UsageError(f"scan --hosts: {error}") from error
    return hosts


def _write_page(args: Namespace, summary: Summary) -> None:
    from hvmctx.files.output import replacing
    from hvmctx.render.fleet import fleet_page

    with replacing(args.html, force=args.force or args.resume, like=[None]) as out:
        out.write(fleet_page(summary.as_dict()).encode())
