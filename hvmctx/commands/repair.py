"""Find the smallest edits with which Xen takes an image or a bare context that it refuses, and
show them as `hvmctx set` commands, each with what it does and what is lost. With -o the image
is written with all of them made: a copy, if it needs none; nothing, if it cannot be repaired.

The edits are proved by the model of the restore: the last line is its verdict on the image that
has them all. What a guest cannot run without is not taken away; what cannot be repaired is
said, and the exit status is 1."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.abi.releases import NEWEST, SPAN, Release
from hvmctx.commands import inputs
from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from hvmctx.files.access import Access
    from hvmctx.image.image import Image
    from hvmctx.mend.repair import Repair
    from hvmctx.restore.guest import Guest

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run", "shown"]

HELP = "find the edits with which Xen takes it"
EXAMPLES = (
    "hvmctx repair guest.save --release 4.17  # shows them",
    "hvmctx repair guest.save --release 4.17 -o repaired.save",
    "hvmctx repair guest.hvm --policy guest.save --format json",
)


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    parser.add_argument("--release", metavar="RELEASE", help=f"for which Xen, {SPAN} or newest")
    parser.add_argument("--vcpus", type=int, metavar="N", help="how many vcpus the guest has")
    parser.add_argument(
        "--policy", metavar="IMAGE", help="take the guest's CPU policy and devices from this image"
    )
    inputs.add_host(parser)
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="text for people (default), or json: the edits and the verdict, for programs",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write the repaired image; without, only show"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing FILE")


def run(args: Namespace) -> int:
    from hvmctx.mend.repair import repair

    inputs.check_vcpus(args, "repair")
    host = inputs.host_asked(args)
    release = Release(args.release or (host and host.release) or NEWEST)
    if args.output == "-":
        raise UsageError("repair: -o takes a file: standard output has what was edited")
    like: list[Access | None] = []
    with inputs.open_seekable(args) as image:
        mended = repair(image, release, host=host, guest_of=lambda now: _guest_of(args, now, like))
        if args.format == "json":
            messages.show_json(
                {
                    "edits": [edit.as_dict() for edit in mended],
                    "verdict": mended.verdict.as_dict(),
                }
            )
        else:
            for line in shown(mended, args.input, release):
                messages.show(line)
        if args.output is not None and mended.verdict.accepted:
            mended.write(args.output, force=args.force, like=like)
            if args.format == "text":
                messages.show(f"written to {args.output}")
    return 0 if mended.verdict.accepted else 1


def _guest_of(args: Namespace, image: Image, like: list[Access | None]) -> Guest:
    from hvmctx.restore.guest import Guest

    if args.policy is None:
        return Guest.of_image(image, args.vcpus)
    return inputs.guest_of_policy(args, "repair", like)


def shown(mended: Repair, image: str, release: Release) -> Iterator[str]:
    """The edits as commands, each with the reason, and whether the release takes the image then."""
    from hvmctx.mend.repair import as_command

    told = ""
    for edit in mended:
        if edit.reason != told:
            told = edit.reason
            yield f"{edit.where} [{edit.rule}]: {edit.reason}"
        yield f"  {as_command(edit.change, image)}{edit.was}"
    verdict = mended.verdict
    number = f"{len(mended)} edit{'' if len(mended) == 1 else 's'}"
    if not verdict.accepted:
        after = f"even with the {number} above Xen {release}" if mended else f"Xen {release}"
        yield f"cannot be repaired: {after} refuses it: {verdict.why}"
    elif mended:
        yield f"accept: Xen {release} takes it with {number} (hvmctx repair -o FILE makes them)"
    else:
        yield f"accept: Xen {release} takes it as it is"
