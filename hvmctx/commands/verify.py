"""Check an image, a stream or a bare context, and print what is wrong with it, one finding a
line. As verifier: what Xen's verify-stream-v2 checks. As restore: what the restore of the
releases would refuse, by default of the one that wrote the image and of all newer ones.
As strict: those, and everything questionable. The last line says what was judged. Exits with
1 if there are errors, with 2 if the input cannot be read."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.abi.releases import SPAN
from hvmctx.commands import inputs
from hvmctx.findings import ERROR, SEVERITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["EXAMPLES", "HELP", "UNREADABLE", "add_arguments", "run"]

HELP = "check it: as the genuine verifier, as a restore would, or strictly"
EXAMPLES = (
    "hvmctx verify guest.save",
    "hvmctx verify guest.save --as restore --release 4.17",
    "hvmctx verify guest.save --format sarif > guest.sarif",
    "hvmctx verify --explain cpu-efer",
)
UNREADABLE = 2


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("input", metavar="INPUT", nargs="?", help="as for dump")
    inputs.add_judged(parser)
    parser.add_argument(
        "--format", choices=("text", "json", "sarif"), default="text",
        help="text for people (default); json: the findings, for programs; sarif: a log of SARIF "
        "2.1.0, for dashboards and code hosts",
    )  # fmt: skip
    parser.add_argument(
        "--as", choices=("verifier", "restore", "strict"), default="restore", dest="view",
        help="restore: what Xen would refuse (default); verifier: what its verify-stream-v2 "
        "refuses; strict: both, and whatever is questionable",
    )  # fmt: skip
    parser.add_argument("--release", metavar="RELEASE", help=f"only this Xen, {SPAN} or newest")
    inputs.add_host(parser)
    parser.add_argument(
        "--fail-on", choices=SEVERITIES, default=ERROR,
        help="exit with 1 for findings of this severity and above (default: error)",
    )  # fmt: skip


def run(args: Namespace) -> int:
    if not inputs.check_judged(args, "verify"):
        return 0
    from hvmctx.verify.views import judge

    releases = None
    if args.release is not None:
        from hvmctx.abi.releases import Release

        releases = [Release(args.release)]
    target, layer = inputs.target_of(args)
    judged = judge(
        target, args.view, releases=releases, layer=layer, vcpus=args.vcpus,
        checkpointed=args.checkpointed, vmport=inputs.patched_xen(args),
        host=inputs.host_asked(args), limits=inputs.limits_of(args),
    )  # fmt: skip
    if args.format == "json":
        from hvmctx.verify.explain import link_of

        messages.show_json(
            [{**one.as_dict(), "docs": link_of(one.rule)} for one in judged.findings]
        )
    elif args.format == "sarif":
        from hvmctx.revision import __version__
        from hvmctx.verify.sarif import log

        messages.show_json(log(judged, args.input, __version__))
    else:
        for finding in judged.findings:
            messages.show(str(finding))
        more = "; docs/rules.md and --explain RULE say more" if judged.findings else ""
        messages.show(f"{judged}{more}")
    weights = [SEVERITIES.index(finding.severity) for finding in judged.findings]
    return 1 if weights and max(weights) >= SEVERITIES.index(args.fail_on) else 0
