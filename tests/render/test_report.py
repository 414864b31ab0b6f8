"""The page about one image: what is on it, that nothing of the image is more than text there, and
that no image makes it big."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.edit.difference import Difference
from hvmctx.findings import ERROR, NOTE, Finding
from hvmctx.image.image import open_image
from hvmctx.render.report import report_page
from tests.builders.pages import HOSTILE, Page, check_closed, check_links, hostile_image
from tests.builders.samples import DATA, EXAMPLE, STREAMS
from tests.builders.streams import hvm, page_data, record, word

pytest.importorskip("jinja2")

ACCEPT: dict[str, Any] = {
    "where": "4.17", "release": "4.17", "verdict": "accept", "rule": "", "record": "",
    "text": "", "reason": "", "lacks": "", "edits": [], "after": None, "hazards": [],
}  # fmt: skip
REFUSE: dict[str, Any] = ACCEPT | {
    "where": "4.20", "verdict": "refuse", "rule": "cpu-cr4", "record": "CPU/0", "text": "bit 31",
    "reason": "EINVAL: bit 31", "after": ACCEPT,
    "edits": [{"rule": "cpu-cr4", "where": "CPU/0", "text": "bit 31", "reason": "clears bits",
               "command": "hvmctx set x CPU/0.cr4=0x0 -o OUT"}],
}  # fmt: skip
HAZARD: dict[str, Any] = {
    "rule": "pic-wrong", "record": "PIC/0", "text": "odd", "harms": "the guest", "safe": "4.19",
    "commit": "69c8", "cve": None,
}  # fmt: skip


def page_of(target: Path | bytes, *outlooks: dict[str, Any], **more: Any) -> str:
    with open_image(target) as image:
        return report_page(image, list(outlooks or [ACCEPT]), [], **more)


@pytest.fixture(scope="module")
def text() -> str:
    findings = [
        Finding(NOTE, "n", "odd", layer="xl", offset=1),
        Finding(ERROR, "cpu-cr4", "bad", layer="context", offset=32, record="CPU/0"),
    ]
    there = ACCEPT | {"where": "blue", "lacks": "loses AVX", "hazards": [HAZARD]}
    outlooks = [ACCEPT, REFUSE, there]
    with open_image(EXAMPLE) as image:
        return report_page(
            image, outlooks, findings, judged="1 error", other="b.save",
            differences=[("CPU/0", Difference("CPU/0.cr4", "0x1", "0x2", bits="+PAE")),
                         ("CPU/0", Difference("CPU/0.rip", "0x1", None)),
                         ("config", Difference("config.x", None, "1"))],
        )  # fmt: skip


def test_it_is_closed(text: str) -> None:
    check_closed(text)
    check_links(text)
    assert Page(text).tags.count("script") == 1


def test_every_section(text: str) -> None:
    page = Page(text)
    ids = [attributes.get("id") for tag, attributes in page.found if tag == "section"]
    assert ids == [None, "layers", "restores", "findings", "memory", "vcpus", "devices", "policy",
                   "vmport", "diff"]  # fmt: skip
    shown = " ".join(page.text.split())
    for said in (
        "Saved guest hvm1", "xl file: JSON configuration of 1137 bytes", "PAGE_DATA",
        "49 200", "78.8 %", "CPU/0", "RTC/0", "LAPIC_REGS/0", "STORE_PFN", "0xfeffc",
        "AuthenticAMD", "SSE4_2", "59 CPUID leaves", "1 error.", "cr0 0x10 ET",
    ):  # fmt: skip
        assert said in shown


def test_findings_gravest_first(text: str) -> None:
    said = Page(text).text
    assert said.index("cpu-cr4", said.index("1 error")) < said.index("odd", said.index("1 error"))


def test_the_matrix(text: str) -> None:
    table = text.partition('<table class="matrix">')[2].partition("</table>")[0]
    rows = [Page(row).text.split() for row in re.findall("<tr.*</tr>", table)]
    assert rows == [
        ["Rule", "4.17", "4.20", "blue"],
        ["Verdict", "✓", "restores", "✗", "refused", "✓", "restores"],
        ["cpu-cr4", "✗", "refused"],
        ["pic-wrong", "!", "hazard"],
    ]
    assert table.count('class="cell accept"') == 2 and table.count('class="cell refuse"') == 2
    said = " ".join(Page(text).text.split())
    assert "4.20: restores with 1 edit, which hvmctx repair makes." in said
    assert "hvmctx set x CPU/0.cr4=0x0 -o OUT" in said and "loses AVX; with 1 hazard" in said
    assert "4.19 (69c8)" in said


def test_what_nothing_mends() -> None:
    after = REFUSE | {"rule": "next", "text": "more"}
    said = " ".join(Page(page_of(EXAMPLE, REFUSE | {"after": after})).text.split())
    assert "refused even with these edits: more [next]" in said and "nothing that is known" in said
    said = " ".join(Page(page_of(EXAMPLE, REFUSE | {"after": REFUSE, "edits": []})).text.split())
    assert "nothing is known that mends it: bit 31 [cpu-cr4]" in said


def test_differences_by_record(text: str) -> None:
    said = " ".join(Page(text).text.split())
    assert "From this image to b.save: 3." in said
    assert "CPU/0 2 differences" in said and "config 1 difference" in said
    assert "CPU/0.cr4 0x1 0x2 +PAE" in said and "CPU/0.rip 0x1 not there" in said
    assert "Differences" not in Page(page_of(EXAMPLE)).text


def test_differences_that_cannot_be_had() -> None:
    def fail() -> Iterator[tuple[str, Difference]]:
        yield "a", Difference("a", "1", "2")
        open_image(b"nothing at all")

    said = Page(page_of(EXAMPLE, differences=fail(), other="x")).text
    assert "unknown" in said or "nothing" in said


def test_nothing_of_an_image_is_markup(tmp_path: Path) -> None:
    path = tmp_path / "<script>alert(1)<"
    shapes = []
    for text in (HOSTILE, "x" * len(HOSTILE)):
        path.write_bytes(hostile_image(text))
        bad = REFUSE | {"text": text, "where": text, "record": text, "reason": text}
        outlooks = [bad, ACCEPT | {"hazards": [HAZARD | {"text": text}], "lacks": text}]
        finding = Finding(ERROR, "r", text, layer=text, offset=0, record=text)
        with open_image(path) as image:
            page = report_page(
                image, outlooks, [finding], judged=text, other=text,
                differences=[(text, Difference(f"a.{text}", text, text, bits=text))],
            )  # fmt: skip
        check_closed(page)
        check_links(page)
        assert not {"\x1b", "\u202e", "\ufeff"} & set(page)
        shapes.append(Page(page))
    assert shapes[0].tags == shapes[1].tags and shapes[0].tags.count("script") == 1
    said = shapes[0].text
    assert said.count("<script>alert(1)</script>") > 10 and "7 * 7" in said
    assert "Xenstore keys" in said and '"</td><script>' in said


def test_images_of_all_kinds() -> None:
    for path in STREAMS:
        check_links(page_of(path))
    context = HvmContext(
        [Record(2, 0, b"\1" * 1024), Record(999, 3, b"<b>"), Record(0, 0)]
    ).to_bytes()
    said = Page(page_of(context)).text
    assert "Records of unknown types" in said and "3c623e" in said
    assert "No pages, or none" in said and "The image has none" in said
    legacy = Page(page_of(DATA / "streams" / "legacy_hvm_w64.in.bin"))
    assert "None is saved here." in legacy.text
    for cut in (40, 1300, 30_000, 52_100):
        check_links(page_of(EXAMPLE.read_bytes()[:cut]))


def test_a_flood_of_records() -> None:
    """The page stays small, and says what it does not show."""
    records = [Record(2, n % 3000, bytes(1024)) for n in range(6000)]
    flood = HvmContext([*records, *(Record(5, n, bytes(24)) for n in range(3000)), Record(0, 0)])
    text = page_of(flood.to_bytes())
    assert len(text) < 8_000_000
    assert "more vcpus are left out" in text
    unknown = HvmContext(
        [Record(1, 0, bytes(24)), *(Record(99, n, b"x") for n in range(5000)), Record(0, 0)]
    ).to_bytes()
    assert "4\u202f000 more rows are left out." in page_of(unknown)


def test_a_flood_of_kinds() -> None:
    """Of records that nobody knows: the bar has its few parts all the same."""
    text = page_of(hvm(*(record(0x80001000 + n, bytes(8 * (n % 7))) for n in range(3000))))
    bar = text.partition('class="bar"')[2].partition("</svg>")[0]
    assert bar.count("<rect") <= 15 and "more kinds of record are left out" in text


def test_a_flood_of_everything_else() -> None:
    many = [REFUSE | {"where": f"h{n}", "rule": f"r{n}", "text": HOSTILE * 100} for n in range(200)]
    findings = [Finding(ERROR, f"r{n}", HOSTILE * 9, layer="xl", offset=n) for n in range(20_000)]
    differences = ((f"R{n}/0", Difference(f"R{n}/0.x", "1" * 4000, "2")) for n in range(20_000))
    with open_image(EXAMPLE) as image:
        text = report_page(image, many, findings, other="x", differences=differences)
    assert len(text) < 20_000_000
    assert "19\u202f000 more findings are left out" in text and "20\u202f000" in text


def test_bars() -> None:
    """Of the whole, and where that is nearly all pages, of the rest."""
    pages = page_data(*(word(n) for n in range(64)))
    text = page_of(hvm(pages))
    assert "Without PAGE_DATA, " in text and text.count('class="bar"') == 2
    assert page_of(EXAMPLE).count('class="bar"') == 1
