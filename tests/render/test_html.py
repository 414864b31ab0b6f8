"""Pages: nothing that an image or a file name says becomes markup, and nothing is loaded."""

from __future__ import annotations

import hashlib
import re
import sys
from base64 import b64encode
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmctx.errors import UsageError
from hvmctx.render import html
from hvmctx.scan.summary import Summary
from tests.builders.rows import ROWS, row, verdict

pytest.importorskip("jinja2")

ALONE = {"meta", "rect"}


class Page(HTMLParser):
    """Elements, attributes, and text of a page. Every element that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ALONE:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.found]


def fleet(*rows: dict[str, object]) -> str:
    summary = Summary()
    for each in rows:
        summary.add(each)
    return html.page("fleet.html", summary=summary.as_dict(), most_places=6)


def test_it_loads_nothing_and_runs_nothing() -> None:
    text = fleet(*ROWS)
    page = Page(text)
    assert not set(page.tags) & {"script", "link", "img", "iframe", "object", "form", "base"}
    for _, attributes in page.found:
        assert not {"src", "style", "action"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style and "<" not in style
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_every_link_leads_somewhere() -> None:
    page = Page(fleet(*ROWS))
    ids = [str(attributes["id"]) for _, attributes in page.found if "id" in attributes]
    links = [str(attributes["href"])[1:] for _, attributes in page.found if "href" in attributes]
    assert sorted(set(ids)) == sorted(ids) and links and set(links) <= set(ids)


HOSTILE = "</td><script>alert(1)</script>\" onload='x' {{ 7 * 7 }} \x1b[31m\u202e\ufeff\n&amp;"


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


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match=r"pip install hvmctx\[report\]"):
        html.page("fleet.html")
