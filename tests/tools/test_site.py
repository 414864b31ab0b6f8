"""The documentation site: its pictures, its links, its navigation. `make docs` builds it."""

from __future__ import annotations

import posixpath
import re
from ctypes import sizeof
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from hvmctx.abi import streams, x86
from hvmctx.abi.declare import RecordType
from hvmctx.abi.fields import Layout
from hvmctx.abi.registry import record_types
from hvmctx.cli import COMMANDS
from hvmctx.stream.grammar import FIRST, STATES
from tests.builders.samples import ROOT
from tools import format_pages, formats_doc
from tools.site import hooks, pictures

PICTURES = [
    path
    for text in format_pages.files().values()
    for path in re.findall(r"^<!-- picture: (\S+) -->$", text, re.MULTILINE)
]


def texts(svg: str) -> list[str]:
    """In the order of the picture; what is shortened in full."""
    found = []
    for each in ElementTree.fromstring(svg).iter():
        if each.tag.endswith("}text"):
            title = each.find("{*}title")
            found.append((title.text if title is not None else each.text) or "")
    return found


@pytest.mark.parametrize("path", PICTURES)
def test_a_picture_has_every_field(path: str) -> None:
    declared = pictures.declared_at(path)
    svg = pictures.layout(declared, path)
    names = [re.sub(r" \(\d+ bytes\)$", "", text) for text in texts(svg)]
    assert [name for name in names if not name.startswith("0x")] == [
        cell.name for cell in pictures.cells_of(declared) if cell.size != 0
    ]


@pytest.mark.parametrize("kind", list(record_types()), ids=lambda kind: kind.name)
def test_cells_are_all_bytes(kind: RecordType) -> None:
    sizes = [cell.size for cell in pictures.cells_of(kind.struct)]
    assert None not in sizes and sum(size or 0 for size in sizes) == sizeof(kind.struct)


def test_boxes_cover_the_bytes() -> None:
    svg = pictures.layout(x86.hvm_hw_rtc, "RTC")
    boxes = [
        (float(each.get("y", 0)), float(each.get("x", 0)), float(each.get("width", 0)))
        for each in ElementTree.fromstring(svg).iter()
        if each.tag.endswith("}rect")
    ]
    assert sum(width for _, _, width in boxes) == 24 * pictures._BYTE
    for (row, x, width), (next_row, next_x, _) in pairwise(boxes):
        assert next_x == x + width if row == next_row else next_x == pictures._LEFT
    assert texts(svg)[:3] == ["0x0", "cmos_data", "cmos_index"]


def test_magic_counts() -> None:
    sizes = [cell.size or 0 for cell in pictures.cells_of(streams.XL_HEADER)]
    assert sum(sizes) == streams.XL_HEADER.size + len(streams.XL_MAGIC)


def test_a_diagram_of_the_grammar() -> None:
    fence, *lines, end = formats_doc.order(list(FIRST.values()))
    svg = pictures.of_diagram("\n".join(lines), "order")
    assert (fence, end) == ("```mermaid", "```")
    said = texts(svg)
    rows = [str(row) for state in STATES.values() for row in state.rows]
    assert set(rows) <= set(said)
    assert svg.count('class="wire"') == len(rows) and said[-1] == "the end"


def test_a_diagram_of_steps() -> None:
    text = 'flowchart TD\n    a["one: <x>"] --> b["two"]\n    a --> c\n    c["three"]\n'
    svg = pictures.of_diagram(text, "steps")
    assert texts(svg) == ["one: <x>", "two", "three"]
    assert svg.count('class="head"') == 2


def page_of(source: str) -> Any:
    """As much of mkdocs's page as is looked at."""
    return SimpleNamespace(file=SimpleNamespace(src_uri=source), title="")


@pytest.mark.parametrize(
    ("source", "link", "expected"),
    [
        ("live.md", "../SECURITY.md", "SECURITY.md"),
        ("tutorials/operator.md", "../../CONTRIBUTING.md", "../CONTRIBUTING.md"),
        ("index.md", "../README.md", "index.md"),
        ("decisions/README.md", "../json.md", "../json.md"),
        ("fuzz/README.md", "../docs/fuzzing.md", "../fuzzing.md"),
        ("SECURITY.md", "docs/limits.md", "limits.md"),
        ("json.md", "../hvmctx/data/hvmctx.schema.json", "hvmctx/data/hvmctx.schema.json"),
    ],
)
def test_links_lead_where_pages_are_on_the_site(source: str, link: str, expected: str) -> None:
    page = page_of(source)
    made = hooks.on_page_markdown(f"see [it]({link}#part)", page=page)
    assert made == f"see [it]({expected}#part)"


def test_a_link_to_what_is_not_on_the_site() -> None:
    page = page_of("live.md")
    assert hooks.on_page_markdown("see [the code](../hvmctx/cli.py)", page=page) == "see the code"
    with pytest.raises(SystemExit, match="there is no hvmctx/gone"):
        hooks.on_page_markdown("[it](../hvmctx/gone.py)", page=page)
    assert hooks.on_page_markdown("[it](https://xenproject.org)", page=page) == (
        "[it](https://xenproject.org)"
    )


def test_every_link_is_on_the_site() -> None:
    pages = {
        path.relative_to(ROOT / "docs").as_posix(): path for path in (ROOT / "docs").rglob("*.md")
    }
    others = {name: ROOT / name for name in hooks.ELSEWHERE if name.endswith(".md")}
    there = {*pages, *hooks.ELSEWHERE}
    for source, path in {**pages, **others}.items():
        for target in hooks._LINK.finditer(hooks.linked(source, path.read_text())):
            found = posixpath.normpath(posixpath.join(posixpath.dirname(source), target[2]))
            assert found in there, f"{source}: {found}"


def test_nothing_comes_from_elsewhere() -> None:
    page = page_of("live.md")
    hooks.on_post_page('<a href="https://xenproject.org">', page=page)
    with pytest.raises(SystemExit, match="unpkg"):
        hooks.on_post_page('<script src="https://unpkg.com/x">', page=page)


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    listed = {path for pages in hooks.LISTED.values() for _, path in pages}
    for path in (ROOT / "docs").rglob("*.md"):
        name = path.relative_to(ROOT / "docs").as_posix()
        assert re.search(rf"[ :]{re.escape(name)}$", text, re.MULTILINE) or name in listed, name
    assert {f"commands/{name}.md" for name in COMMANDS} <= listed
    for name in hooks.ELSEWHERE:
        assert (ROOT / name).is_file() and (name in text or not name.endswith(".md"))


def test_the_navigation_is_made_of_the_code() -> None:
    nav = ["index.md", {"Commands": ["commands/index.md", "*commands"]}, {"Live": "live.md"}]
    index, commands, live = hooks._listed(list(nav))
    assert (index, live) == ("index.md", {"Live": "live.md"})
    assert isinstance(commands, dict)
    assert commands["Commands"][:2] == ["commands/index.md", {"hvmctx dump": "commands/dump.md"}]


@pytest.mark.parametrize("structure", [streams.image_header, x86.hvm_hw_pit, x86.hvm_hw_cpu])
def test_a_table_has_every_field(structure: type) -> None:
    rows = list(format_pages._walk(structure, 0, ""))
    said = [(at, re.sub(r"\[0\]", "", name)) for at, _, name in rows]
    assert said == sorted(said, key=lambda row: row[0])
    assert {name.partition(".")[0] for _, name in said} >= {
        field.name for field in Layout.of(structure).fields if not field.alternate
    }
