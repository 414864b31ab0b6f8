"""The restore-bounds fuzzer. run: the targets over given files, for any fuzzing engine.
campaign: our own engine, for a time, with a corpus. diff: the model against another loader.
generate: hostile files and what each release should do with them."""

from __future__ import annotations

import sys

from hvmctx.commands import inputs
from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

HELP = "the restore-bounds fuzzer: run, campaign, diff, generate"


def add_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_generate(actions.add_parser("generate", help="write hostile files and a manifest"))


def _add_generate(parser: ArgumentParser) -> None:
    parser.add_argument("--kind", choices=("context", "image"), default="context")
    parser.add_argument("--count", type=int, default=1000, metavar="N")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="new, or empty")
    parser.add_argument(
        "--base", action="append", default=[], metavar="FILE",
        help="vary this image or context (default: contexts after a reset); may be given again",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    _add_hosts(parser)


def _add_hosts(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--release", action="append", default=[],
        help="whose verdict to tell; may be given again (default: 4.17, 4.20, newest)",
    )  # fmt: skip
    parser.add_argument("--policy", metavar="IMAGE", help="the guest's CPU policy and devices")
    parser.add_argument("--vcpus", type=int, metavar="N", help="vcpus of the guest to load into")


def run(args: Namespace) -> int:
    return _ACTIONS[args.action](args)


def _generate(args: Namespace) -> int:
    import random

    from hvmctx.fuzz.contexts import valid_context
    from hvmctx.fuzz.generate import CONTEXT, bases_of, generate, hosts_of
    from hvmctx.fuzz.streams import valid_stream

    if args.count < 1:
        raise UsageError("fuzz generate: --count must be 1 or more")
    if args.vcpus is not None and not 0 < args.vcpus <= inputs.MOST_VCPUS:
        raise UsageError(f"fuzz generate: --vcpus {args.vcpus} is not a number of vcpus")
    rng = random.Random(args.seed)
    hosts = hosts_of(args.release or ["4.17", "4.20", "newest"], args.policy, args.vcpus)
    if args.base:
        bases = bases_of(args.base, args.kind)
    elif args.kind == CONTEXT:
        bases = [valid_context(rng, host.release).to_bytes() for host in hosts.values()]
    else:
        bases = [valid_stream(rng) for _ in range(4)]
    accepted = generate(args.output, args.count, rng, bases, kind=args.kind, hosts=hosts)
    print(f"hvmctx: {args.count} files, {accepted} accepted by some release", file=sys.stderr)
    return 0


_ACTIONS = {"generate": _generate}
