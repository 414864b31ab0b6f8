"""What a scan of many images comes to, from `scan.summary.Summary.as_dict()`: as tables for a
terminal, and as a page."""

from __future__ import annotations

from hvmctx import messages
from hvmctx.render.table import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["fleet_page", "headline", "print_summary"]

_MOST_PLACES = 6
_MOST_ERRORS = 20


def headline(summary: dict[str, Any]) -> str:
    """What it comes to in one line."""
    images = summary["images"]
    return (
        f"{images} image{'s' * (images != 1)}: {summary['refused']} would not restore everywhere, "
        f"{summary['damaged']} damaged, {summary['unreadable']} unreadable"
    )


def print_summary(summary: dict[str, Any]) -> None:
    """On standard output."""
    messages.show(headline(summary))
    if summary["places"]:
        messages.show("")
        table = Table("where", *summary["kinds"])
        for place in summary["places"]:
            table.add(place["name"], *(place[kind] for kind in summary["kinds"]))
        table.print()
    if summary["reasons"]:
        messages.show("")
        table = Table("rule", "images", "where", "such as")
        for reason in summary["reasons"]:
            table.add(
                reason["rule"], reason["images"], _some(reason["places"]), reason["examples"][0]
            )
        table.print()
    if summary["errors"]:
        messages.show("")
        for each in summary["errors"][:_MOST_ERRORS]:
            what = each["error"].removeprefix(f"{each['input']}: ")
            messages.show(f"{each['input']}: {what}")
        more = summary["damaged"] + summary["unreadable"] - _MOST_ERRORS
        if more > 0:
            messages.show(f"and {more} more that are damaged or unreadable")


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_PLACES
    return ", ".join(names[:_MOST_PLACES]) + (f" and {more} more" if more > 0 else "")


def fleet_page(summary: dict[str, Any]) -> str:
    """In HTML. Raises UsageError if Jinja2 is not installed."""
    from hvmctx.render.html import page

    return page("fleet.html", summary=summary, most_places=_MOST_PLACES)
