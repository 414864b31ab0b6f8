"""Pictures of memory: all that is there is shown, and never in more rectangles than cells."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hvmctx.image.image import Image, open_image
from hvmctx.render.memory_picture import (
    BATCH_COLUMNS,
    BATCH_HEIGHT,
    BATCH_ROWS,
    COLUMNS,
    HEIGHT,
    KINDS,
    MOST_REGIONS,
    WIDTH,
    batches_of,
    regions_of,
)
from tests.builders.samples import EXAMPLE
from tests.builders.streams import hvm, page_data, word

ABSENT, ALLOCATED, BROKEN = 0xF, 0xE, 0xD


def image_of(*batches: list[tuple[int, int]]) -> Image:
    """Of batches of (pfn, type) pairs."""
    return open_image(hvm(*(page_data(*(word(*pair) for pair in batch)) for batch in batches)))


def area(rects: list[dict[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for rect in rects:
        found[rect["kind"]] = found.get(rect["kind"], 0) + rect["width"] * rect["height"]
    return found


def test_the_example() -> None:
    with open_image(EXAMPLE) as image:
        regions = regions_of(image.memory_map)
        batches = batches_of(image, regions)
    assert [(hex(r["start"]), hex(r["end"])) for r in regions] == [
        ("0x0", "0xfff"), ("0xfc000", "0xfc3ff"), ("0xfec00", "0xfefff"),
    ]  # fmt: skip
    assert regions[0]["pages"] == dict.fromkeys(KINDS, 0) | {"allocated": 4064, "absent": 32}
    assert batches is not None and (batches["count"], batches["pages"]) == (6, 6144)
    kinds = [rect["kind"] for rect in batches["rects"]]
    assert kinds == ["allocated"] * 4 + ["absent"] * 2


def test_one_page() -> None:
    image = image_of([(7, ALLOCATED)])
    (region,) = regions_of(image.memory_map)
    assert region["rects"] == [
        {"kind": "allocated", "x": 0, "y": 0, "width": WIDTH, "height": HEIGHT}
    ]
    batches = batches_of(image, [region])
    assert batches is not None and not batches["lines"]
    assert area(batches["rects"]) == {"allocated": WIDTH * BATCH_HEIGHT // BATCH_ROWS}


def test_no_pages() -> None:
    image = image_of()
    assert regions_of(image.memory_map) == [] and batches_of(image, []) is None


def test_a_page_that_is_sent_again() -> None:
    """Is in both batches, and in the map as it was at last."""
    image = image_of([(0, ALLOCATED), (1, ALLOCATED)], [(1, BROKEN)])
    (region,) = regions_of(image.memory_map)
    assert region["pages"]["allocated"] == region["pages"]["broken"] == 1
    batches = batches_of(image, [region])
    assert batches is not None and batches["pages"] == 3
    halves = {rect["kind"]: rect["x"] for rect in batches["rects"]}
    assert halves == {"allocated": 0, "broken": WIDTH / 2}


def test_what_is_rare_is_seen() -> None:
    """One page among very many."""
    pages = [(pfn, ALLOCATED) for pfn in range(20_000)]
    pages[9999] = 9999, BROKEN
    (region,) = regions_of(image_of(pages).memory_map)
    assert {rect["kind"] for rect in region["rects"]} == {"allocated", "broken"}


TYPES = st.sampled_from((ABSENT, ALLOCATED, BROKEN))
PFNS = st.one_of(st.integers(0, 300), st.integers(0, (1 << 36) - 1))
BATCHES = st.lists(st.lists(st.tuples(PFNS, TYPES), min_size=1, max_size=40), max_size=8)


@settings(max_examples=30)
@given(BATCHES)
def test_any_memory(batches: list[list[tuple[int, int]]]) -> None:
    image = image_of(*batches)
    memory = image.memory_map
    regions = regions_of(memory)
    assert len(regions) <= MOST_REGIONS
    assert sum(sum(region["pages"].values()) for region in regions) == len(memory)
    for region in regions:
        kinds = {kind for kind, count in region["pages"].items() if count}
        assert {rect["kind"] for rect in region["rects"]} == kinds
        assert len(region["rects"]) <= COLUMNS * len(kinds)
        within(region["rects"], HEIGHT)
    found = batches_of(image, regions)
    assert (found is None) == (not batches)
    if found is not None:
        assert found["pages"] == sum(map(len, batches)) and found["rects"]
        within(found["rects"], BATCH_HEIGHT)


def within(rects: list[dict[str, Any]], height: int) -> None:
    for rect in rects:
        assert rect["x"] >= 0 and rect["x"] + rect["width"] <= WIDTH + 0.2
        assert rect["y"] >= 0 and rect["y"] + rect["height"] <= height
        assert rect["width"] > 0 and rect["height"] > 0


def test_many_batches_are_joined() -> None:
    image = image_of(*([(n * 3 % 1001, ALLOCATED)] for n in range(1000)))
    regions = regions_of(image.memory_map)
    found = batches_of(image, regions)
    assert found is not None and found["count"] == 1000
    assert BATCH_COLUMNS <= len(found["rects"]) <= BATCH_COLUMNS * BATCH_ROWS


def test_only_wide_gaps_part_regions() -> None:
    """A hole below 4 GiB of a big guest hardly shows; that of a small one is most of its space."""
    scattered = [(pfn * 1000, ALLOCATED) for pfn in range(500)]
    assert len(regions_of(image_of(scattered).memory_map)) == 1
    assert len(regions_of(image_of([*scattered, (1 << 20, ALLOCATED)]).memory_map)) == 2
