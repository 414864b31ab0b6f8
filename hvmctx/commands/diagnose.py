"""Read what Xen's programs have logged of a restore that failed, and say why it did: which rule of
which releases, about which record and field. LOG is the text of `xl dmesg`, of `xl -vvv restore`,
of libxl, libxenguest or xenopsd, or all of them in one file; other lines are passed over.

With IMAGE, the image that was to be restored, the model of the restore is asked too: what the
image has in that field, which rule it was where the log leaves that open, and with which edits
Xen would take it (`hvmctx repair` makes them).

Exits with 1 if something was refused, with 0 if the log has no such line and the image, if given,
is accepted."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.abi.releases import SPAN
from hvmctx.commands import inputs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator
    from typing import Any

    from hvmctx.image.image import Image
    from hvmctx.mend.diagnose import Diagnosis, Said
    from hvmctx.restore.guest import Guest

__all__ = ["EXAMPLES", "HELP", "UNREADABLE", "add_arguments", "run"]

HELP = "say why a restore failed, from its log"
EXAMPLES = (
    "xl dmesg | hvmctx diagnose -",
    "hvmctx diagnose restore.log guest.save",
    "hvmctx diagnose restore.log guest.save --release 4.17 --format json",
)
UNREADABLE = 2


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("log", metavar="LOG", help="a file, or - for standard input")
    parser.add_argument(
        "input", metavar="IMAGE", nargs="?", help="the image that was to be restored"
    )
    parser.add_argument("--layer", choices=inputs.LAYERS, help="what IMAGE starts with")
    parser.add_argument(
        "--release",
        metavar="RELEASE",
        help=f"the Xen that refused, {SPAN} or newest (default: what the log says)",
    )
    parser.add_argument("--vcpus", type=int, metavar="N", help="how many vcpus the guest has")
    parser.add_argument(
        "--policy", metavar="IMAGE", help="take the guest's CPU policy and devices from this image"
    )
    inputs.add_host(parser)
    parser.add_argument(
        "--format", choices=("text", "json"), default="text",
        help="text for people (default), or json: every line that matters, for programs",
    )  # fmt: skip
    inputs.add_limits(parser)


def run(args: Namespace) -> int:
    from contextlib import nullcontext

    from hvmctx.errors import UsageError
    from hvmctx.files.opening import open_source, read_whole
    from hvmctx.mend.diagnose import diagnose, lines_of

    inputs.check_vcpus(args, "diagnose")
    host = inputs.host_asked(args)
    release = args.release if host is None or args.release else host.release
    if [args.log, args.input, args.policy, args.host].count("-") > 1:
        raise UsageError("diagnose: standard input can be read only once")
    limits = inputs.limits_of(args)
    with open_source(inputs.no_domid(args.log, "diagnose"), limits) as source:
        data = read_whole(source)
        source.raise_trouble()
    with inputs.open_seekable(args) if args.input else nullcontext() as image:
        found = diagnose(
            lines_of(data), image, release, limits=limits, host=host,
            guest_of=lambda now: _guest_of(args, now),
        )  # fmt: skip
        if args.format == "json":
            messages.show_json(_as_json(found))
        else:
            for line in _lines(args, found):
                messages.show(line)
    if found.full:
        messages.warn(
            f"only the first {len(found.said)} lines that matter are told; "
            "--limits rule_findings=N allows more"
        )
    accepted = found.repair is None or (not found.repair and found.repair.verdict.accepted)
    return 0 if accepted and not found.refused else 1


def _guest_of(args: Namespace, image: Image) -> Guest:
    from hvmctx.restore.guest import Guest

    if args.policy is None:
        return Guest.of_image(image, args.vcpus)
    return inputs.guest_of_policy(args, "diagnose")


def _as_json(found: Diagnosis) -> dict[str, Any]:
    mended = found.repair
    return {
        "releases": [str(release) for release in found.releases],
        "release": str(found.release),
        "lines": [said.as_dict() for said in found.said],
        "before": found.verdict.as_dict() if found.verdict else None,
        "edits": [edit.as_dict() for edit in mended] if mended is not None else None,
        "verdict": mended.verdict.as_dict() if mended is not None else None,
    }


def _lines(args: Namespace, found: Diagnosis) -> Iterator[str]:
    for said in found.said:
        if said.words or said.rules:
            yield f"line {said.number}: {said.text.strip()}"
            yield from _meaning(said)
    if found.refused and not any(said.words or said.rules for said in found.said):
        yield f"no rule of Xen {found.release} says what this log says; --release names another"
    if not found.refused:
        yield "no line of this log says that a restore was refused"
    if found.repair is not None:
        yield from _of_image(args, found)


def _meaning(said: Said) -> Iterator[str]:
    who = f"the {said.source}" if said.source == "hypervisor" else said.source
    answer = f" ({said.errno})" if said.errno else ""
    place = f": {said.path}" if said.path else ""
    value = f" is {said.value} in the image" if said.value else ""
    start = f"  {who}{answer}{place}{value}: "
    told = [f"{rule.words} [{rule.id}; {rule.releases}]" for rule in said.rules]
    if len(told) == 1:
        yield f"{start}{told[0]}{f'; {said.words}' if said.words else ''}"
        return
    yield f"{start}{said.words or 'one of these'}"
    yield from (f"    {line}" for line in told)


def _of_image(args: Namespace, found: Diagnosis) -> Iterator[str]:
    from hvmctx.commands.repair import shown
    from hvmctx.verify.restoring import span

    mended, verdict = found.repair, found.verdict
    assert mended is not None and verdict is not None
    which = f"Xen {found.release}"
    if len(found.releases) > 1:
        which += f" (the log may be of {span(found.releases)}; --release says which)"
    if verdict.accepted:
        yield f"{args.input}: accept: {which} would take it: what was refused is not in this image"
        return
    yield f"{args.input}: {verdict.verdict}: {which}: {verdict.why}"
    if mended:
        yield from shown(mended, args.input, found.release)
    else:
        yield "hvmctx repair has no remedy for that"
