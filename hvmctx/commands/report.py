"""Write a page about an image, to be read in a browser: its layers, a picture of its memory, the
state of its vcpus and devices in words, the CPU policy, VMPORT, what each release of Xen would say
of it and what mends that, and what differs from another image.

It is one file, which loads nothing and needs no script. Whatever a guest could have written in it
is shown as text. The exit status is 0, 1 if the image or the other one is damaged (the page is
written all the same), 2 if one cannot be read at all."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.abi.releases import SPAN, Release
from hvmctx.commands import inputs
from hvmctx.errors import HvmctxError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from hvmctx.edit.difference import Difference
    from hvmctx.image.image import Image
    from hvmctx.restore.host import Host

__all__ = ["EXAMPLES", "HELP", "UNREADABLE", "add_arguments", "run"]

HELP = "write a page about an image, for a browser"
EXAMPLES = (
    "hvmctx report guest.save -o report.html",
    "hvmctx report guest.save other.save --host host.json -o both.html",
)
UNREADABLE = 2


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    parser.add_argument("other", metavar="OTHER", nargs="?", help="another one, to compare it with")
    parser.add_argument(
        "--release", action="append", metavar="RELEASE",
        help=f"judge for this Xen, {SPAN} or newest; may be given several times (default: the one "
        "that wrote it and all newer ones)",
    )  # fmt: skip
    inputs.add_host(parser)
    inputs.add_vmport_profile(parser)
    inputs.add_output(parser)


def run(args: Namespace) -> int:
    from contextlib import ExitStack

    from hvmctx.files.output import replacing
    from hvmctx.render.html import check

    check()
    if args.input == args.other == "-":
        raise UsageError("report: only one of the two can be standard input")
    releases = [Release(release) for release in args.release or ()]
    host = inputs.host_asked(args)
    with ExitStack() as stack:
        image = stack.enter_context(inputs.open_seekable(args))
        other = None
        if args.other is not None:
            other = stack.enter_context(inputs.open_file(args, args.other, "report", seekable=True))
        page = _page(args, image, other, releases, {} if host is None else {args.host: host})
        like = [each.source.access for each in (image, other) if each is not None]
        with replacing(args.output, force=args.force, like=like) as out:
            out.write(page.encode())
        damaged = [_say_problems(each) for each in (image, other) if each is not None]
    return int(any(damaged))


def _say_problems(image: Image) -> bool:
    """A line for each, as the page has them. Returns whether there are any."""
    from hvmctx.render.describe import describe

    problems = describe(image, policy=True)["problems"]
    for problem in problems:
        messages.say(problem)
    return bool(problems)


def _page(
    args: Namespace,
    image: Image,
    other: Image | None,
    releases: list[Release],
    hosts: dict[str, Host],
) -> str:
    import os

    from hvmctx.findings import Finding
    from hvmctx.mend.outlook import outlooks
    from hvmctx.render.report import report_page
    from hvmctx.verify.views import STRICT, judge

    findings: list[Finding] = []
    try:
        done = judge(image, STRICT, releases=releases or None, vmport=inputs.patched_xen(args))
        findings, judged = done.findings, str(done)
    except HvmctxError as error:  # nothing of it can be judged
        judged = str(error)
    return report_page(
        image,
        outlooks(image, releases, {os.path.basename(name): host for name, host in hosts.items()}),
        findings,
        judged=judged,
        other=args.other or "",
        differences=None if other is None else _differences(image, other),
    )


def _differences(image: Image, other: Image) -> Iterator[tuple[str, Difference]]:
    """With the record that each is in. Errors come when they are asked for."""
    from hvmctx.edit.diff import diff
    from hvmctx.edit.paths import Path

    for difference in diff(image, other):
        yield Path(difference.path).head, difference
