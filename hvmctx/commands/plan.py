"""Plan a live migration: how many passes it takes, how many pages are sent more than once, and
how long the guest is paused. The guest writes to hot sets of pages, each at a rate."""

from __future__ import annotations

import re
import sys

from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "plan a live migration: passes, pages sent more than once, downtime"
EXAMPLES = (
    "hvmctx plan 4GiB",
    "hvmctx plan 4GiB --hot 64MiB@20000 --bandwidth 10Gbit",
    "hvmctx plan 4GiB --hot 64MiB@20000 --policy 2014",
)

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30,
          "ti": 1 << 40}  # fmt: skip
_LONGEST_SHOWN = 24
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)(b|bit)?(?:/s)?", re.IGNORECASE)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("memory", metavar="MEMORY", help="the guest's memory, such as 4GiB")
    parser.add_argument(
        "--bandwidth",
        metavar="SIZE",
        default="1Gbit",
        help="a second, such as 110MiB (default: 1Gbit)",
    )
    parser.add_argument(
        "--hot", action="append", default=[], metavar="SIZE@RATE",
        help="a hot set and how many times a second the guest writes to it, such as "
        "64MiB@20000; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--policy", choices=("4.10", "2014"), default="4.10",
        help="when to stop sending: as Xen 4.10 and later (default), or as 4.6 to 4.9, whose "
        "code is of the series that began in 2014",
    )  # fmt: skip


def run(args: Namespace) -> int:
    from hvmctx.save.engine import Policy2014, default_policy
    from hvmctx.save.simulated import HotSet, Rates, plan

    pages = round(_bytes(args.memory) / 4096)
    sets, start = [], 0
    for text in args.hot:
        size, _, rate = text.partition("@")
        try:
            hot = HotSet(start, max(1, round(_bytes(size) / 4096)), float(rate))
        except ValueError:
            raise UsageError(
                f"plan: --hot {text}: expected SIZE@RATE, such as 64MiB@20000"
            ) from None
        sets.append(hot)
        start += hot.pages
    if not pages:
        raise UsageError(f"plan: {args.memory}: less than a page of memory")
    if start > pages:
        raise UsageError("plan: the hot sets are larger than the guest's memory")
    policy = Policy2014() if args.policy == "2014" else default_policy
    sys.stdout.write(plan(pages, Rates(sets), _bytes(args.bandwidth), policy).table())
    return 0


def _bytes(text: str) -> float:
    """`4GiB`, `512M`, `1Gbit`: bytes."""
    match = _SIZE.fullmatch(text)
    unit = match and _UNITS.get(match[2].lower())
    if not match or unit is None:
        raise UsageError(f"plan: found {text!r}, expected a size such as 4GiB or 1Gbit")
    size = float(match[1]) * unit / (8 if (match[3] or "").lower() == "bit" else 1)
    if size == float("inf"):
        raise UsageError(f"plan: {text[:_LONGEST_SHOWN]}...: too large")
    return size
