"""Say what Xen would do with an image, or with a bare HVM context: restore it, and what it
changes, or refuse it, and by which rule. Of an image the streams are judged as the
toolstack of the release reads them, then the context as the hypervisor loads it."""

from __future__ import annotations

from hvmctx.abi.releases import NEWEST, SPAN, Release
from hvmctx.commands import inputs
from hvmctx.stream.reader import CONTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from hvmctx.image.image import Image
    from hvmctx.restore.guest import Guest

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "say whether Xen would restore it, and if not, why"
EXAMPLES = (
    "hvmctx restore guest.save --release 4.17",
    "hvmctx restore guest.hvm --vcpus 1 --format json",
    "hvmctx restore --explain cpu-efer",
)


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_judged(parser)
    parser.add_argument("--release", default=NEWEST, help=f"which Xen, {SPAN} or newest")
    parser.add_argument(
        "--policy", metavar="IMAGE", help="take the guest's CPU policy and devices from this image"
    )


def run(args: Namespace) -> int:
    if not inputs.check_judged(args, "restore"):
        return 0
    release = Release(args.release)
    from hvmctx.restore.image import would_restore
    from hvmctx.restore.machine import Machine

    with inputs.open_input(args, keep_words=True) as image:
        verdict = would_restore(
            image, release, Machine(vmport=inputs.patched_xen(args)), guest_of=_guest_of(args),
            checkpointed=args.checkpointed,
        )  # fmt: skip
    if args.format == "json":
        import json

        print(json.dumps(verdict.as_dict(), indent=1))
    elif verdict.accepted:
        what = "load this context" if image.format == CONTEXT else "restore this image"
        print(f"accept: Xen {args.release} would {what}")
        for change in verdict.applied:
            print(f"  {change}")
    else:
        print(f"{verdict.verdict}: Xen {args.release}: {verdict.why}")
    return 0 if verdict.accepted else 1


def _guest_of(args: Namespace) -> Callable[[Image], Guest]:
    """The guest to load into: that of --policy's image, or of the one to restore."""
    from functools import partial

    from hvmctx.restore.guest import Guest

    guest_of = partial(Guest.of_image, vcpus=args.vcpus)
    if args.policy is None:
        return guest_of

    def of_policy(_: Image) -> Guest:
        from hvmctx.image.image import open_image

        with open_image(inputs.no_domid(args.policy, "restore --policy")) as other:
            return guest_of(other)

    return of_policy
