"""Plan a live migration: how many passes, how many pages are sent again, and how long the
guest stands still, for a guest of a given size that writes into hot sets of pages at given
rates, over a given bandwidth."""

from __future__ import annotations

import re
import sys

from hvmctx.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

HELP = "plan a live migration: passes, pages sent again, downtime"
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
    parser.add_argument("--bandwidth", default="1Gbit", help="such as 1Gbit or 110MiB (a second)")
    parser.add_argument(
        "--hot", action="append", default=[], metavar="SIZE@RATE",
        help="a hot set and how many times a second the guest writes into it, such as "
        "64MiB@20000; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--policy", choices=("4.10", "2014"), default="4.10",
        help="when to stop: as Xen 4.10 and later (default), or as first posted in 2014",
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
        raise UsageError(f"plan: {args.memory}: not a page of memory")
    if start > pages:
        raise UsageError("plan: the hot sets do not fit the guest's memory")
    policy = Policy2014() if args.policy == "2014" else default_policy
    sys.stdout.write(plan(pages, Rates(sets), _bytes(args.bandwidth), policy).table())
    return 0


def _bytes(text: str) -> float:
    """`4GiB`, `512M`, `1Gbit`: bytes."""
    match = _SIZE.fullmatch(text)
    unit = match and _UNITS.get(match[2].lower())
    if not match or unit is None:
        raise UsageError(f"plan: {text!r} is no size, such as 4GiB or 1Gbit")
    size = float(match[1]) * unit / (8 if (match[3] or "").lower() == "bit" else 1)
    if size == float("inf"):
        raise UsageError(f"plan: {text[:_LONGEST_SHOWN]}...: too large")
    return size
