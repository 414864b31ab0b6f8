"""The table of messages: each is found, as a program writes it, and by its own row."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi.releases import Window
from hvmctx.mend.logs import (
    CONSEQUENCE,
    HYPERVISOR,
    LINES,
    LONGEST,
    NOTE,
    REASON,
    LogLine,
    find,
    find_all,
)
from hvmctx.verify.registry import HOST, rules

WORDS = {"record": "LAPIC_REGS", "dom": "d7", "phase": "load", "error": "Invalid argument"}


def example(line: LogLine) -> str:
    """A message of that row."""

    def stands(found: re.Match[str]) -> str:
        name, kind = found[1], found[2] or ""
        if kind == "w":
            return WORDS.get(name, "some words")
        return {"x": "80000000", "v": "4.17.3", "": "0x1f" if name.startswith("v") else "17"}[kind]

    message = re.sub(r"{(\w+)(?::(\w))?}", stands, line.pattern)
    return f"(XEN) [ 12.3] prefix {message} and more"


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.pattern)
def test_every_row_is_reached(line: LogLine) -> None:
    """A row of the same message in other releases may come first."""
    found = find(example(line))
    assert found is not None
    assert found[0].rules == line.rules and found[0].kind == line.kind, found[0]
    assert set(found[1]) == set(re.findall(r"{(\w+)", line.pattern))


def test_every_row_says_something() -> None:
    known = {rule.id for rule in (*rules("restore"), *rules(HOST))}
    for line in LINES:
        assert line.kind in (REASON, CONSEQUENCE, NOTE)
        assert line.kind != REASON or line.rules or line.words, line
        assert line.kind != NOTE or line.words or "version" in line.pattern
        for rule in line.rules:
            assert rule in known or any(each.endswith(rule[1:]) for each in known if "*" in rule)
        assert not line.field or line.source == HYPERVISOR


def test_numbers_and_words() -> None:
    line = LogLine(HYPERVISOR, "a {one} b {two:x} c {three:w}: d", "rule", field="f")
    assert line.match("xx a 0x1F b ff c some (words): dd") == {
        "one": "0x1F", "two": "ff", "three": "some (words)"
    }  # fmt: skip
    assert line.match("a 12345678901234567890 b f c d: d") is not None
    for other in ("a x b ff c w: d", "a 1 b 0xff c w: d", "a 1 b ff c \x1b: d", "a 1 b f c : d"):
        assert line.match(other) is None
    assert line.match(f"a 1 b f c {'w' * 61}: d") is None
    assert repr(line).startswith("<hypervisor: a {one}") and line.releases.until is None
    assert LogLine(HYPERVISOR, "m", releases=Window(until="4.0")).releases.until == "4.0"


@given(st.text(max_size=200), st.sampled_from(LINES))
def test_any_line(text: str, line: LogLine) -> None:
    found = find(f"{text}{example(line)}")
    assert found is not None
    find(text)


def test_no_more_than_a_bounded_part_of_a_line_is_looked_at() -> None:
    text = "restore: bad CR0 0x1"
    assert find("x" * (LONGEST - len(text)) + text) is not None
    assert find("x" * LONGEST + text) is None
    assert find("restore mismatch: expected " * 10_000) is None


def test_many_lines_are_found_as_each_is() -> None:
    lines = [text for line in LINES for text in (example(line), "noise", "restore: bad")] * 7
    lines += ["noise"] * 2000 + ["restore: bad CR0 0x1"]
    each = [(n, text, *found) for n, text in enumerate(lines, 1) if (found := find(text))]
    assert list(find_all(lines)) == each and each[-1][0] == len(lines)
