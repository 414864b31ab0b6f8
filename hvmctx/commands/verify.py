"""Check an image, a stream or a bare context, and print what is wrong with it, a finding a
line. As verifier: what Xen's verify-stream-v2 checks. As restore: what the restore of the
releases would refuse, by default of the one that wrote the image and of all younger ones.
As strict: those, and everything questionable. Exits with 1 if there are errors, with 2 if
the input cannot be read."""

from __future__ import annotations

import sys

from hvmctx.commands import inputs
from hvmctx.errors import UsageError
from hvmctx.findings import ERROR, SEVERITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

HELP = "check it: as the genuine verifier, as a restore would, or strictly"
TROUBLE = 2


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("input", metavar="INPUT", nargs="?", help="as for dump")
    parser.add_argument("--layer", choices=inputs.LAYERS, help="what the input starts with")
    parser.add_argument(
        "--as", choices=("verifier", "restore", "strict"), default="restore", dest="view"
    )
    parser.add_argument("--release", help="only this Xen, 4.0 to 4.22 or newest")
    parser.add_argument("--vcpus", type=int, metavar="N", help="vcpus of the guest to load into")
    parser.add_argument(
        "--checkpointed", action="store_true", help="expect a checkpointed stream (Remus, COLO)"
    )
    inputs.add_vmport_profile(parser, "a Xen with the VMPORT patch (no release has it)")
    parser.add_argument(
        "--fail-on", choices=SEVERITIES, default=ERROR,
        help="exit with 1 for findings of this severity and above (default: error)",
    )  # fmt: skip
    parser.add_argument("--explain", metavar="RULE", help="print a rule, and nothing else")
    parser.add_argument("--format", choices=("text", "json"), default="text", dest="form")


def run(args: Namespace) -> int:
    if args.explain is not None:
        from hvmctx.verify.explain import explain

        sys.stdout.write(explain(args.explain))
        return 0
    if args.input is None:
        raise UsageError("verify: no INPUT")
    from hvmctx.verify.views import verify

    if args.vcpus is not None and not 0 < args.vcpus <= inputs.MOST_VCPUS:
        raise UsageError(f"verify: --vcpus {args.vcpus} is not a number of vcpus")
    profile = None
    if args.vmport_profile is not None:
        from hvmctx.abi import vmport

        profile = vmport.used()
    releases = None
    if args.release is not None:
        from hvmctx.abi.releases import Release

        releases = [Release(args.release)]
    target, layer = inputs.target_of(args)
    findings = verify(
        target, args.view, releases=releases, layer=layer, vcpus=args.vcpus,
        checkpointed=args.checkpointed, vmport=profile,
    )  # fmt: skip
    if args.form == "json":
        import json

        print(json.dumps([finding.as_dict() for finding in findings], indent=1))
    else:
        sys.stdout.writelines(f"{finding}\n" for finding in findings)
    weights = [SEVERITIES.index(finding.severity) for finding in findings]
    return 1 if weights and max(weights) >= SEVERITIES.index(args.fail_on) else 0
