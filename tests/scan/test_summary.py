"""What rows come to, and that it stays of one size."""

from __future__ import annotations

from typing import Any

import pytest

from hvmctx.scan import summary as module
from hvmctx.scan.summary import Counts, Summary, name_of
from tests.builders.rows import ROWS, row, verdict


def summary(*rows: dict[str, Any]) -> Summary:
    made = Summary()
    for each in rows:
        made.add(each)
    return made


def test_counts_of_images() -> None:
    made = summary(*ROWS)
    assert (made.images, made.refused, made.damaged, made.unreadable) == (6, 4, 2, 1)
    plain = made.as_dict()
    assert plain["releases"] == [("4.17", 2), ("4.9", 1)]
    assert plain["types"] == [("hvm", 1), ("pvh", 1)] and plain["policies"] == [("p", 2)]


def test_places_by_age_then_hosts() -> None:
    assert summary(*ROWS).as_dict()["places"] == [
        {"name": "Xen 4.6", "accept": 0, "refuse": 2, "violation": 0, "unreadable": 0},
        {"name": "Xen 4.20", "accept": 3, "refuse": 1, "violation": 0, "unreadable": 1},
        {"name": "blue (Xen 4.17)", "accept": 0, "refuse": 0, "violation": 1, "unreadable": 0},
    ]


def test_reasons_the_most_frequent_first() -> None:
    first, *rest = summary(*ROWS).as_dict()["reasons"]
    assert first == {
        "rule": "libxc-version", "text": "too old", "images": 2, "examples": ["b.save", "a.save"],
        "places": ["Xen 4.6"],
    }  # fmt: skip
    assert [reason["rule"] for reason in rest] == ["stream-damaged", "unreadable", "vmport"]


def test_a_reason_counts_images() -> None:
    """Not releases."""
    twice = row("x", *(verdict(release, "refuse", "r") for release in ("4.6", "4.20")))
    (reason,) = summary(twice).as_dict()["reasons"]
    assert reason["images"] == 1 and reason["places"] == ["Xen 4.6", "Xen 4.20"]


def test_which_would_not() -> None:
    named = summary(*ROWS).as_dict()["not_everywhere"]
    assert [each["input"] for each in named] == ["a.save", "b.save", "cut", "limits"]
    assert [cell and cell["verdict"] for cell in named[0]["cells"]] == [
        "refuse", "accept", "violation",
    ]  # fmt: skip
    assert named[1]["cells"][2] is None and named[1]["guest"] == "web"


def test_it_stays_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_IMAGES", 5)
    monkeypatch.setattr(module, "_MOST_KINDS", 3)
    made = summary(*(
        row(f"{number:02}", verdict("4.6", "refuse", "r"), xen=f"4.{number}", error="cut")
        for number in range(20)
    ))  # fmt: skip
    plain = made.as_dict()
    assert (plain["images"], plain["refused"], plain["damaged"]) == (20, 20, 20)
    assert len(plain["not_everywhere"]) == len(plain["errors"]) == 5
    assert len(plain["releases"]) == 4 and plain["releases"][0] == ("others", 17)
    assert len(plain["reasons"][0]["examples"]) == 3 and plain["reasons"][0]["images"] == 20


def test_counts() -> None:
    counts = Counts()
    for value in "bab":
        counts.add(value)
    assert counts.rows() == [("b", 2), ("a", 1)]


def test_rows_of_a_newer_hvmctx() -> None:
    made = summary(row("x", verdict("5.0", "doubted", "r"), verdict("4.6")))
    assert [place["name"] for place in made.as_dict()["places"]] == ["Xen 5.0", "Xen 4.6"]
    assert made.as_dict()["places"][0]["unreadable"] == 1
    assert name_of(("5.0", None)) == "Xen 5.0"
