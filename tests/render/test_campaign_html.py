from __future__ import annotations

from hvmctx.fuzz.campaign import Summary
from hvmctx.render.campaign_html import page


def test_page() -> None:
    summary = Summary("a<b", 1, seconds=2.0, executions=10, known=frozenset(("x", "<y>")))
    summary.reached = {"x"}
    summary.timeline = [(0.5, 1)]
    text = page(summary.as_dict())
    assert "a&lt;b" in text and "<code>&lt;y&gt;</code>" in text and "<polyline" in text
    assert "1 of 2 rules in 2 s" in text and "<script" not in text
    empty = page(Summary("t", 1).as_dict())
    assert "<li>none</li>" in empty


GOLDEN = (
    '<svg width="720" height="240" role="img" aria-label="rules over time">'
    '<polyline fill="none" stroke="#06c" stroke-width="2" '
    'points="0,240 0.0,240 0.0,125.0 360.0,125.0 360.0,10.0 720.0,10.0 720.0,10.0"/>'
    '<text x="4" y="14" font-size="12">2 of 2 rules in 4 s</text></svg>'
)


def test_the_line_over_time() -> None:
    """Steps: flat up to where a rule is reached, and to the end; all rules are at the top."""
    summary = Summary("t", 1, seconds=4.0, executions=8, known=frozenset("ab"))
    summary.reached = {"a", "b"}
    summary.timeline = [(0.0, 1), (2.0, 2)]
    text = page(summary.as_dict())
    assert GOLDEN in text
    assert "<td>executions a second</td><td>2.0</td>" in text
    assert "<h2>Not reached</h2><p>none</p>" in text


def test_a_step_after_the_end_is_at_the_end() -> None:
    """The timeline is rounded, and so may end later than the campaign."""
    summary = Summary("t", 1, seconds=1.04, known=frozenset("a"))
    summary.reached, summary.timeline = {"a"}, [(1.2, 1)]
    xs = [float(point.split(",")[0]) for point in polyline(page(summary.as_dict()))]
    assert xs == sorted(xs) and xs[-1] == 720


def polyline(text: str) -> list[str]:
    return text.partition('points="')[2].partition('"')[0].split()


def test_findings_are_listed() -> None:
    summary = Summary("t", 1, seconds=0.0)
    summary.findings = ["c/findings/<1>", "c/findings/2"]
    text = page(summary.as_dict())
    assert "<ul><li>c/findings/&lt;1&gt;</li><li>c/findings/2</li></ul>" in text
    assert polyline(text)[0] == "0,240" and "0 of 1 rules in 0 s" in text
