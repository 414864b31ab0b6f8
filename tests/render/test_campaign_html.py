from __future__ import annotations

import pytest

from hvmctx.fuzz.campaign import Summary
from hvmctx.render.campaign_html import page
from tests.builders.pages import HOSTILE, Page, check_closed, check_links

pytest.importorskip("jinja2")


def test_page() -> None:
    summary = Summary("a<b", 1, seconds=2.0, executions=10_000, known=frozenset(("x", "<y>")))
    summary.reached = {"x"}
    summary.timeline = [(0.5, 1)]
    text = page(summary.as_dict())
    check_closed(text)
    check_links(text)
    assert "<h1>Fuzzing campaign: a&lt;b</h1>" in text and "<code>&lt;y&gt;</code>" in text
    assert 'aria-label="1 of 2 rules reached in 2.0 seconds"' in text
    assert (
        "<dd>10\u202f000</dd>" in text and "<dd>1 of 2</dd>" in text and "<dd>5000.0</dd>" in text
    )
    empty = Page(page(Summary("t", 1).as_dict()))
    assert "Every rule was reached." in empty.text and "None." in empty.text


def test_the_axes_are_labelled() -> None:
    summary = Summary("t", 1, seconds=4.0, known=frozenset("ab")).as_dict()
    said = " ".join(Page(page(summary)).text.split())
    assert "2 rules 0" in said and "0 s time 4.0 s" in said


def test_the_line_over_time() -> None:
    """Steps: flat up to where a rule is reached, and to the end; all rules are at the top."""
    summary = Summary("t", 1, seconds=4.0, executions=8, known=frozenset("ab"))
    summary.reached = {"a", "b"}
    summary.timeline = [(0.0, 1), (2.0, 2)]
    assert polyline(page(summary.as_dict())) == [
        "0,240", "0.0,240.0", "0.0,120.0", "360.0,120.0", "360.0,0.0", "720.0,0.0", "720.0,0.0",
    ]  # fmt: skip


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
    summary.findings = ["c/findings/<1>", HOSTILE, *map(str, range(2000))]
    text = page(summary.as_dict())
    check_closed(text)
    assert "<li><code>c/findings/&lt;1&gt;</code></li>" in text and "script" not in Page(text).tags
    assert "1\u202f002 more findings are left out." in text
