"""Pages: nothing that an image or a file name says becomes markup, and nothing is loaded."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmctx.errors import UsageError
from hvmctx.render import html
from hvmctx.scan.summary import Summary
from tests.builders.pages import HOSTILE, Page, check_closed, check_links
from tests.builders.rows import ROWS, row, verdict

pytest.importorskip("jinja2")


def fleet(*rows: dict[str, object]) -> str:
    summary = Summary()
    for each in rows:
        summary.add(each)
    return html.page("fleet.html", summary=summary.as_dict(), most_places=6)


def test_it_loads_nothing_and_runs_nothing() -> None:
    text = fleet(*ROWS)
    check_closed(text)
    assert "script" not in Page(text).tags and "script-src" not in text


def test_every_link_leads_somewhere() -> None:
    check_links(fleet(*ROWS))


def hostile(text: str) -> dict[str, object]:
    said = verdict("4.6", "refuse", text, host=text, text=text)
    return row(text, said, error=text, guest_name=text, xen=text, guest_type=text,
               policy_digest=text)  # fmt: skip


def test_hostile_text() -> None:
    text = fleet(hostile(HOSTILE))
    page = Page(text)
    assert "script" not in page.tags and "49" not in page.text
    assert page.tags.count("td") == Page(fleet(hostile("x"))).tags.count("td")
    assert not {"\x1b", "\u202e", "\ufeff"} & set(text)
    assert r"\x1b[31m\u202e\ufeff\n&amp;" in page.text


@settings(max_examples=12)
@given(st.text(st.characters(codec=None), max_size=30))
def test_any_text(said: str) -> None:
    page = Page(fleet(hostile(said)))
    assert page.tags == Page(fleet(hostile("x" if said else ""))).tags


def test_numbers() -> None:
    assert html._number(999) == "999" and html._number(10_000) == "10\u202f000"
    assert html._number("7 of 8") == "7 of 8"
    summary = {"kinds": (), "places": [], "reasons": [], "images": 1234567, "refused": 0} | dict(
        damaged=0, unreadable=0, errors=[], releases=[], types=[], policies=[], not_everywhere=[]
    )
    assert "<dd>1\u202f234\u202f567</dd>" in html.page("fleet.html", summary=summary, most_places=6)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match=r"pip install hvmctx\[report\]"):
        html.page("fleet.html")
