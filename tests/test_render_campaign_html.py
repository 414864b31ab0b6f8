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
