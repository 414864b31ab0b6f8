"""A fleet as tables and as a page."""

from __future__ import annotations

import pytest

from hvmctx.render.fleet import fleet_page, print_summary
from hvmctx.scan.summary import Summary
from tests.builders.rows import ROWS, row, verdict


def of(*rows: dict[str, object]) -> dict[str, object]:
    summary = Summary()
    for each in rows:
        summary.add(each)
    return summary.as_dict()


TEXT = """\
6 images: 4 would not restore everywhere, 2 damaged, 1 unreadable

where            accept  refuse  violation  unreadable
Xen 4.6               0       2          0           0
Xen 4.20              3       1          0           1
blue (Xen 4.17)       0       0          1           0

rule            images  where            such as
libxc-version        2  Xen 4.6          b.save
stream-damaged       1  Xen 4.20         cut
unreadable           1  Xen 4.20         limits
vmport               1  blue (Xen 4.17)  a.save

cut: ends
limits: too many
none: not found
"""


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(of(*ROWS))
    assert capsys.readouterr().out == TEXT
    print_summary(of(row("x", verdict("4.6"))))
    assert capsys.readouterr().out.startswith("1 image: 0 would not restore everywhere")
    print_summary(of())
    assert capsys.readouterr().out.startswith("0 images: ")


def test_text_of_many(capsys: pytest.CaptureFixture[str]) -> None:
    places = [verdict(f"4.{minor}", "refuse", "r") for minor in range(6, 15)]
    print_summary(of(*(row(f"{n}\x1b", *places, error=f"{n}\x1b: bad") for n in range(30))))
    out = capsys.readouterr().out
    assert "Xen 4.11 and 3 more  0\\x1b\n" in out
    assert "0\\x1b: bad\n" in out and out.endswith("and 10 more that are damaged or unreadable\n")


def test_page() -> None:
    pytest.importorskip("jinja2")
    page = fleet_page(of(*ROWS))
    assert "Saved guests: 6 images" in page
    for said in ("blue (Xen 4.17)", "libxc-version", "too old", "a.save", "not found"):
        assert said in page
    page = fleet_page(of())
    assert "No image could be judged." in page and "No image is refused." in page
