"""Have the hypervisor load the context of INPUT into a paused domain, in place of its own, and say
what it thinks of it. Needs root in dom0. A context can bring down a hypervisor that does not check
it: try it on a machine that may break."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.commands import inputs
from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "load a context into a paused domain"
EXAMPLES = (
    "hvmctx load guest.hvm 7",
    "hvmctx load guest.save 7",
)
_LOADED, _REFUSED = 0, 1


def add_arguments(parser: ArgumentParser) -> None:
    inputs.add_input(parser)
    parser.add_argument("domid", metavar="DOMID", help="the number of the domain, see xl list")
    parser.add_argument(
        "--force", action="store_true", help="into a domain that runs, too, which is seldom wise"
    )


def run(args: Namespace) -> int:
    domid = inputs.domid_of(args.domid, "load")
    with inputs.open_input(args) as image:
        context = bytes(image.context_bytes())
    from hvmctx.live.loading import load_into
    from hvmctx.live.xen import Xen

    with Xen() as xen:
        if not xen.state(domid).stopped and not args.force:
            raise UsageError(f"load: domain {domid} runs; pause it first")
        answer = load_into(xen, domid, context)
        version = ".".join(map(str, xen.version))
    if answer.errno is None:
        messages.show(f"accept: Xen {version} has loaded {len(context)} bytes into domain {domid}")
    else:
        at = f" at {answer.record}" if answer.record else ""
        messages.show(f"refuse: Xen {version}: {answer.errno}{at}")
    for line in answer.log:
        messages.show(f"  {line}")
    return _LOADED if answer.errno is None else _REFUSED
