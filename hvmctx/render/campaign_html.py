"""What `hvmctx fuzz campaign --html` writes: a campaign's figures, the rules it did not reach,
and a graph of the rules reached over time. No script, nothing loaded from elsewhere."""

from __future__ import annotations

from html import escape

from hvmctx.messages import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["page"]

_WIDTH, _HEIGHT = 720, 240
_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:46em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td{padding:.1em 1em .1em 0}svg{border:1px solid #999}"
    "code{background:#eee}"
)


def page(summary: dict[str, Any]) -> str:
    """The page, in HTML, from `Summary.as_dict()` of a campaign."""
    rows = "".join(
        f"<tr><td>{escape(label)}</td><td>{escape(str(summary[name]))}</td></tr>"
        for label, name in (
            ("target", "target"), ("seed", "seed"), ("seconds", "seconds"),
            ("executions", "executions"), ("executions a second", "executions_per_second"),
            ("corpus", "corpus"), ("rules reached", "rules_reached"),
            ("rules known", "rules_known"),
        )
    )  # fmt: skip
    missing = ", ".join(f"<code>{escape(rule)}</code>" for rule in summary["missing"]) or "none"
    findings = "".join(f"<li>{escape(printable(path))}</li>" for path in summary["findings"])
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>hvmctx fuzz: {escape(summary['target'])}</title><style>{_STYLE}</style>"
        f"<h1>{escape(summary['target'])}</h1><table>{rows}</table>"
        f"<h2>Rules reached over time</h2>{_line(summary)}"
        f"<h2>Not reached</h2><p>{missing}</p>"
        f"<h2>Findings</h2><ul>{findings or '<li>none</li>'}</ul></html>\n"
    )


def _line(summary: dict[str, Any]) -> str:
    end = max(summary["seconds"], 0.001)
    top = max(summary["rules_known"], 1)
    points, height = [f"0,{_HEIGHT}"], _HEIGHT
    for at, count in [*summary["timeline"], [end, summary["rules_reached"]]]:
        x = round(min(at, end) / end * _WIDTH, 1)
        points.append(f"{x},{height}")  # a step: flat up to here
        height = round(_HEIGHT - count / top * (_HEIGHT - 10), 1)
        points.append(f"{x},{height}")
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="rules over time">'
        f'<polyline fill="none" stroke="#06c" stroke-width="2" points="{" ".join(points)}"/>'
        f'<text x="4" y="14" font-size="12">{summary["rules_reached"]} of {top} rules in '
        f"{end:.0f} s</text></svg>"
    )
