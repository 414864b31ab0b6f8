"""The pages in a real browser: headless Chromium where it is installed, in one session."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hvmctx.edit.diff import diff
from hvmctx.fuzz.campaign import Summary as Campaign
from hvmctx.image.image import open_image
from hvmctx.mend.outlook import outlooks
from hvmctx.render import campaign_html, fleet
from hvmctx.render.report import report_page
from hvmctx.scan.summary import Summary as Fleet
from hvmctx.verify.views import judge
from tests.builders.pages import HOSTILE, hostile_image
from tests.builders.rows import ROWS, row, verdict
from tests.builders.samples import EXAMPLE

pytest.importorskip("jinja2")
playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no chromium", allow_module_level=True)

OPEN_SOME = """for (const fold of document.querySelectorAll('details'))
    fold.open = !fold.matches('.record ~ .record')"""
WIDTHS = {"wide": 1280, "middle": 768, "narrow": 390}


def report() -> str:
    with open_image(hostile_image(HOSTILE)) as image, open_image(EXAMPLE) as other:
        found = outlooks(image)
        differences = ((one.path.partition(".")[0], one) for one in diff(image, other))
        return report_page(
            image, found, judge(image, "strict").findings, judged="judged", other=HOSTILE,
            differences=differences,
        )  # fmt: skip


def scanned() -> str:
    summary = Fleet()
    for each in (*ROWS, row(HOSTILE, verdict("4.6", "refuse", HOSTILE, text=HOSTILE))):
        summary.add(each)
    return fleet.fleet_page(summary.as_dict())


def campaign() -> str:
    summary = Campaign("context", 1, seconds=90.0, executions=123456, known=frozenset("abcd"))
    summary.reached, summary.timeline = {"a", "b"}, [(1.0, 1), (30.0, 2)]
    summary.findings = [HOSTILE]
    return campaign_html.page(summary.as_dict())


@contextmanager
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as session:
        args = ["--no-sandbox"] if os.geteuid() == 0 else []
        try:
            browser = session.chromium.launch(executable_path=CHROMIUM, args=args)
        except playwright.Error as error:
            pytest.skip(f"chromium does not start: {error}")
        yield browser
        browser.close()


def test_in_a_browser(tmp_path: Path) -> None:
    with chromium() as browser:
        for name, text in {"report": report(), "fleet": scanned(), "campaign": campaign()}.items():
            path = tmp_path / f"{name}.html"
            path.write_text(text)
            look(browser, path)
        search_and_fold(browser, tmp_path / "report.html")
        read_without_scripts(browser, tmp_path / "report.html")


class Tab:
    """A page that is open, and all that it said or asked for beyond itself."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.page = browser.new_page(viewport={"width": WIDTHS["wide"], "height": 900}, **options)
        self.said: list[str] = []
        for event, words in (("console", "text"), ("dialog", "message"), ("pageerror", "message")):
            self.page.on(event, lambda it, words=words: self.said.append(getattr(it, words)))
        self.page.on("request", lambda request: self.said.append(request.url))
        self.page.goto(path.as_uri())
        assert self.said.pop(0) == path.as_uri()

    def end(self) -> None:
        said = list(self.said)
        self.page.close()
        assert said == []


def look(browser: Any, path: Path) -> None:
    """Nothing sticks out at any width, links lead where they say, everybody can read it in light
    and in dark, and nothing is said, asked for or run on the way."""
    tab = Tab(browser, path)
    page = tab.page
    for words, width in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": 900})
        assert len(page.screenshot(path=path.with_suffix(f".{words}.png"))) > 10_000
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    for link in page.locator("nav a").all():
        link.click()
        assert (
            page.evaluate("document.querySelector(location.hash).getBoundingClientRect().top") < 900
        )
    page.evaluate(OPEN_SOME)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.emulate_media(color_scheme="dark")
    found = axe.Axe().run(
        page, context="h2, .matrix, .stack", options={"runOnly": ["color-contrast"]}
    )
    assert found.violations_count == 0, found.generate_report()
    tab.end()


def search_and_fold(browser: Any, path: Path) -> None:
    expect = playwright.expect
    tab = Tab(browser, path)
    page, box = tab.page, tab.page.get_by_label("Search")
    page.get_by_text("CPU/0 1 032 bytes".replace(" 0", "\u202f0")).click()
    shown = page.locator("main tbody tr:visible")
    assert page.locator("details.record[open]").count() == 1 and shown.count() > 50
    whole = shown.count()
    box.fill("Msr_")
    expect(page.locator("#found")).to_have_text(re.compile(r"^\d+ rows$"))
    assert page.locator("#found").text_content() == f"{shown.count()} rows"
    assert 1 < shown.count() < whole and not page.locator("#memory:visible").count()
    assert all("msr_" in text.lower() for text in shown.all_text_contents())
    box.fill("nobody wrote this")
    expect(page.locator("#found")).to_have_text("0 rows")
    assert shown.count() == 0
    box.fill("")
    expect(page.locator("#found")).to_have_text("")
    assert shown.count() == whole and page.locator("details.record[open]").count() == 1
    page.emulate_media(media="print")
    assert not box.is_visible() and not page.locator("nav").is_visible()
    folded = page.locator("details.record:not([open]) tbody tr").first
    assert folded.is_visible()
    tab.end()


def read_without_scripts(browser: Any, path: Path) -> None:
    """Everything is there but the search."""
    tab = Tab(browser, path, java_script_enabled=False)
    page = tab.page
    assert not page.get_by_label("Search").is_visible()
    page.locator("details.record summary").first.click()
    assert page.locator("details.record[open] tbody tr").first.is_visible()
    tab.end()
