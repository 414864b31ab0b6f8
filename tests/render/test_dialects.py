"""The tables of the genuine tool's lines: that they fit the records, and each other. What they
print is in test_text.py."""

from __future__ import annotations

import pytest

from hvmctx.abi.fields import Layout
from hvmctx.abi.registry import by_name, record_types
from hvmctx.abi.releases import NEWEST, RELEASES
from hvmctx.errors import UsageError
from hvmctx.render import dialects
from hvmctx.render.dialects import EXTRA_LINES, FPU_AREAS, FPU_LINES, LINES, REST_LINES, each

SHOWN = [
    (name, since, line)
    for name, by_release in LINES.items()
    for since, shown in by_release.items()
    for line in shown
]
SHOWN += [(name, NEWEST, line) for name, shown in EXTRA_LINES.items() for line in shown]
SHOWN += [
    (name, since, (text, fields.replace("#", area)))
    for name, area in FPU_AREAS.items()
    for since, shown in FPU_LINES.items()
    for text, fields in shown
]


def wrong(text: str, fields: str, layout: Layout) -> list[str]:
    """What is wrong with a line: a path that leads nowhere, arguments too few or too many,
    bytes where a number is printed."""
    found = []
    arguments = fields.split()
    if text.replace("%%", "").count("%") != len(arguments):
        found.append(f"{len(arguments)} arguments")
    for argument in arguments:
        if argument.startswith("="):
            continue
        path, words, choice = argument.partition("?")
        if words and choice.count(":") != 1:
            found.append(argument)
        try:
            if layout.locate(path).is_bytes:
                found.append(f"{path} is bytes")
        except UsageError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize("name", sorted({name for name, _, _ in SHOWN}))
def test_every_line_fits_its_record(name: str) -> None:
    layout = by_name(name).layout
    shown = [line for one, _, line in SHOWN if one == name]
    assert shown
    assert [(line, wrong(*line, layout)) for line in shown if wrong(*line, layout)] == []


@pytest.mark.parametrize("name", REST_LINES)
def test_every_line_of_a_variable_part_fits_its_element(name: str) -> None:
    known = by_name(name)
    assert known.rest is not None
    assert wrong(*REST_LINES[name], Layout.of(known.rest[1])) == []


def test_what_is_wrong_is_found() -> None:
    layout = by_name("PMTIMER").layout
    assert wrong("%x %x", "tmr_val", layout) == ["1 arguments"]
    assert "no field 'tmr_vla'" in wrong("%x", "tmr_vla", layout)[0]
    assert wrong("%s", "tmr_val?on", layout) == ["tmr_val?on"]
    assert wrong("%x", "data", by_name("LAPIC_REGS").layout) == ["data is bytes"]
    assert wrong("100%% %i", "=3", layout) == []


@pytest.mark.parametrize("table", [*LINES, "FPU"])
def test_releases_ascend(table: str) -> None:
    """As the youngest that is not too young is looked for in this order."""
    order = list(RELEASES)
    found = [order.index(name) for name in (FPU_LINES if table == "FPU" else LINES[table])]
    assert found and found == sorted(set(found))


def test_a_release_prints_what_it_knows() -> None:
    """No line is of a release that does not know the record yet, but for VIRIDIAN_DOMAIN,
    which had another name."""
    first = {
        known.name: next(name for name in RELEASES if known.name in dict(sizes_until(name)))
        for known in record_types()
        if known.name in LINES
    }
    order = list(RELEASES)
    for name, by_release in LINES.items():
        assert order.index(next(iter(by_release))) >= order.index(first[name]), name


def sizes_until(release: str) -> list[tuple[str, int]]:
    names = list(RELEASES)
    return [row for name in names[: names.index(release) + 1] for row in RELEASES[name].items()]


def test_each() -> None:
    made = each([3, 5], ("pin %i: %x", "=# pins[#].bits"), ("other", ""))
    assert made == (
        ("pin %i: %x", "=3 pins[3].bits"), ("other", ""),
        ("pin %i: %x", "=5 pins[5].bits"), ("other", ""),
    )  # fmt: skip


def bytes_of(fields: str) -> set[int]:
    """The bytes of `x` that a line prints."""
    found: set[int] = set()
    for argument in fields.replace("#", "x").split():
        if not argument.startswith("="):
            start, size = argument.removeprefix("x[").removesuffix("]").split(":+")
            found |= set(range(int(start), int(start) + int(size)))
    return found


@pytest.mark.parametrize(("since", "last"), [("4.0", 496), ("4.2", 512), (NEWEST, 512)])
def test_an_fxsave_image_is_printed_whole(since: str, last: int) -> None:
    """But for the last 16 bytes up to 4.1, whose xmm[] was one too short, and so printed
    xmm15 twice; each line prints bytes of its own."""
    shown = FPU_LINES[since]
    printed = [bytes_of(fields) for _, fields in shown]
    assert len(shown) == 34 and set().union(*printed) == set(range(last))
    twice = sum(map(len, printed)) - last
    assert twice == (16 if since == "4.0" else 0)


def test_styles_of_xmm() -> None:
    assert dialects.fpu_lines("%i %x %x")[12] == ("%i %x %x", "=0 #[168:+8] #[160:+8]")
    assert [text for text, _ in FPU_LINES["4.2"]].count(dialects.XMM_ZERO_FILLED) == 16
    assert [text for text, _ in FPU_LINES[NEWEST]].count(dialects.XMM_LEFT_JUSTIFIED) == 16
