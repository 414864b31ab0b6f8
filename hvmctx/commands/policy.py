"""Show the CPU policy of an image or of a running domain by names; or say what Xen does when it is
set on a new guest of a host, as a restore does: refuse it, or take away what that host does not
offer.

INPUT is an image, a DOMID, the rows of X86_CPUID_POLICY and X86_MSR_POLICY as bytes (.pol), the
text of `xen-cpuid -p DOMID`, or JSON: {"cpuid": [[leaf, subleaf, a, b, c, d], ...], "msr":
[[index, flags, value], ...]}. HOST is what `hvmctx host` wrote, or an image that was saved there.

With HOST, JSON has `input`, `errno` (a name, null if the policy is set), `leaf`, `subleaf`, `msr`
(of the failure, else null), `cpuid` and `msrs` (rows of the policy that the domain has then), and
`lost` (features by name that INPUT has and the domain has not). The exit status is 1 if a policy
is refused, 2 if an INPUT cannot be read."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.abi.releases import SPAN, Release
from hvmctx.commands import inputs
from hvmctx.errors import HvmctxError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterable
    from typing import Any

    from hvmctx.restore.host import Host
    from hvmctx.restore.policy_rules import Outcome

    Shown = tuple[dict[str, Any], list[str], int]
    """Of an input: what JSON has of it, its lines of text, and the exit status."""
    Show = Callable[[str], Shown]

__all__ = ["EXAMPLES", "HELP", "UNREADABLE", "add_arguments", "run"]

HELP = "show a CPU policy by names, or what a host makes of it"
EXAMPLES = (
    "hvmctx policy guest.save",
    "hvmctx policy guest.save --host host.json --format json",
    "hvmctx policy guest.save other.pol --host host.json --release 4.17 --format ndjson",
)
UNREADABLE = 2
_REFUSED = 1


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("input", metavar="INPUT", nargs="+", help="see above; - is standard input")
    parser.add_argument("--host", metavar="HOST", help="whose Xen is to take the policy")
    parser.add_argument(
        "--onto", metavar="FIRST",
        help="the policy that the domain has before, in any of the forms of INPUT (default: that "
        "of a new HVM guest of the host)",
    )  # fmt: skip
    parser.add_argument(
        "--release",
        metavar="RELEASE",
        help=f"which Xen, {SPAN} or newest, since 4.13 (default: the host's)",
    )
    parser.add_argument(
        "--format", choices=("text", "json", "ndjson"), default="text",
        help="json is an array if there are several INPUTs; ndjson has an object a line",
    )  # fmt: skip
    inputs.add_limits(parser)


def run(args: Namespace) -> int:
    if [*args.input, args.onto, args.host].count("-") > 1:
        raise UsageError("policy: standard input can be read only once")
    host = inputs.host_asked(args)
    if host is not None:
        return _show_all(args, _judge(args, host))
    if args.onto is not None or args.release is not None:
        raise UsageError("policy: --onto and --release are about a --host")
    return _show_all(args, lambda name: _described(args, name))


def _show_all(args: Namespace, show: Show) -> int:
    import json

    status, objects, several = 0, [], len(args.input) > 1
    for name in args.input:
        try:
            plain, lines, answer = show(name)
        except HvmctxError as error:
            if not several and args.format != "ndjson":
                raise
            text = str(error)
            plain, lines, answer = {"input": name, "unreadable": text}, [text], UNREADABLE
        status = max(status, answer)
        if args.format == "ndjson":
            messages.show(json.dumps(plain))
        elif args.format == "json":
            objects.append(plain)
        else:
            for number, line in enumerate(lines):
                before = ("  " if number else f"{name}: ") if several else ""
                messages.show(f"{before}{line}")
    if args.format == "json":
        messages.show_json(objects if several else objects[0])
    return status


def _described(args: Namespace, name: str) -> Shown:
    from hvmctx.render.policy import describe_policy, policy_lines

    leaves, msrs, _ = inputs.policy_of(args, name)
    return {"input": name, **describe_policy(leaves, msrs)}, policy_lines(leaves, msrs), 0


def _judge(args: Namespace, host: Host) -> Show:
    """What sets the policy of an input on a new domain of the host."""
    from hvmctx.restore.clamping import POLICIES_SINCE, DomainPolicy
    from hvmctx.restore.policy_rules import set_policy

    release = Release(args.release) if args.release else host.release or Release("newest")
    if not release.since(POLICIES_SINCE):
        raise UsageError(
            f"policy: Xen {release} keeps no policies; they came with {POLICIES_SINCE}"
        )
    policies = host.for_guests()
    first = None if args.onto is None else inputs.policy_of(args, args.onto)

    def judge(name: str) -> Shown:
        leaves, msrs, guest = inputs.policy_of(args, name)
        nested = guest is not None and guest.nested
        hap = host.hap is not False and (guest is None or guest.hap)
        present = (
            host.new_domain(release, nested=nested, hap=hap) if first is None
            else DomainPolicy.of(release, first[0], first[1])
        )  # fmt: skip
        outcome = set_policy(present, policies, leaves, msrs, nested=nested, hap=hap)
        plain = {"input": name, **_as_plain(outcome)}
        return plain, list(_in_words(outcome, str(release))), _REFUSED if outcome.rule else 0

    return judge


def _as_plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "errno": outcome.errno, "leaf": outcome.leaf, "subleaf": outcome.subleaf,
        "msr": outcome.msr, "cpuid": [list(row) for row in outcome.policy.leaves()],
        "msrs": [list(row) for row in outcome.policy.msrs()], "lost": outcome.lost,
    }  # fmt: skip


def _in_words(outcome: Outcome, release: str) -> Iterable[str]:
    if outcome.rule is not None:
        yield f"refuse: Xen {release}: {outcome.errno}: {outcome.text} [{outcome.rule.id}]"
        return
    yield f"accept: Xen {release} sets this policy"
    if outcome.lost:
        yield f"lost: {', '.join(outcome.lost)}"
