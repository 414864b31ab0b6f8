"""What `hvmctx fuzz campaign --html` writes: a campaign's figures, the rules it did not reach,
and a graph of the rules reached over time."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["page"]

_WIDTH, _HEIGHT = 720, 240


def page(summary: dict[str, Any]) -> str:
    """The page, in HTML, from `Summary.as_dict()` of a campaign. Raises UsageError if Jinja2 is
    not installed."""
    from hvmctx.render import html
    from hvmctx.render.paper import Paper

    paper = Paper()
    return html.page(
        "campaign.html",
        summary=summary,
        points=" ".join(_steps(summary)),
        end=round(summary["seconds"], 1),
        width=_WIDTH,
        height=_HEIGHT,
        missing=paper.rows((rule,) for rule in summary["missing"]),
        findings=paper.rows((path,) for path in summary["findings"]),
    )


def _steps(summary: dict[str, Any]) -> list[str]:
    """The points of a line: time from left to right, all rules that are known at the top."""
    end = max(summary["seconds"], 0.001)
    top = max(summary["rules_known"], 1)
    points, height = [f"0,{_HEIGHT}"], float(_HEIGHT)
    for at, count in [*summary["timeline"], [end, summary["rules_reached"]]]:
        x = round(min(at, end) / end * _WIDTH, 1)
        points.append(f"{x},{height}")  # a step: flat up to here
        height = round(_HEIGHT - count / top * _HEIGHT, 1)
        points.append(f"{x},{height}")
    return points
