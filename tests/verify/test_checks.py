"""Rows of a table of checks, and what they know when they are asked."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

import pytest

from hvmctx.image.image import open_image
from hvmctx.restore.rules import ANY, Rule, Seen
from hvmctx.stream.reader import LIBXC, LIBXL
from hvmctx.verify.checks import CheckTable, field_not_in
from tests.builders.streams import libxc_head, libxl_head, page_data, record, word

Finds = Callable[[Seen], bool | Iterable[str]]


def found(data: bytes, *rules: Rule) -> list[str]:
    table = CheckTable(rules)
    with open_image(data, watcher=table):
        return [str(finding) for finding in table.findings]


def check(finds: Finds, kind: str = "TOOLSTACK", layer: str = LIBXC) -> Rule:
    return Rule(layer, kind, "rule", finds, "the text", severity="warning")


def stream(*records: bytes) -> bytes:
    return libxc_head() + b"".join(records) + record(0)


def test_a_check_is_asked_about_its_records() -> None:
    data = libxl_head() + record(1) + stream(record(9), record(0x0B)) + record(3, bytes(8))
    data += record(0)
    everything = found(data, check(lambda seen: [seen.record.name], "*"))
    assert [line.split("text: ")[1] for line in everything] == [
        "HVM_CONTEXT [rule]", "TOOLSTACK [rule]", "END [rule]",
    ]  # fmt: skip
    outer = found(data, check(lambda seen: [seen.record.name], "*", LIBXL))
    assert [line.split("text: ")[1] for line in outer] == [
        "LIBXC_CONTEXT [rule]", "EMULATOR_CONTEXT [rule]", "END [rule]",
    ]  # fmt: skip
    assert len(found(data, check(lambda seen: True, "END", LIBXL))) == 1


def test_what_a_check_knows() -> None:
    body = struct.pack("<III", 1, 2, 3) + bytes(100)
    known: list[object] = []

    def look(seen: Seen) -> bool:
        known[:] = [
            seen.version, seen.kind, seen.length, seen.head(5), len(seen.head()), seen.number(4),
            seen.number(200), seen.before(9), seen.before(0x0B), seen.before(1, LIBXL), seen.body(),
        ]  # fmt: skip
        return False

    data = libxc_head(2, guest=1) + record(9) + record(9) + record(0x0B, body) + record(0)
    assert found(data, check(look)) == []
    assert known == [2, 1, 112, body[:5], 64, 2, 0, 2, 0, 0, body]
    outer = libxl_head() + record(1) + stream(record(0x0B, b"\1\0")) + record(0)
    assert found(outer, check(look)) == []
    assert (known[5], known[6], known[9]) == (0, 0, 1)


def test_words() -> None:
    sent = [word(1), word(2, 5)]  # a type that there is not, so that it is looked at
    data = stream(page_data(*sent))
    (said,) = found(data, check(lambda seen: [seen.words().hex()], "PAGE_DATA"))
    assert said.endswith(f": {struct.pack('<2Q', *sent).hex()} [rule]")


def test_ordinary_pages_are_not_looked_at() -> None:
    """Nor counted less."""
    data = stream(page_data(word(1), word(2)), page_data(word(3, 5)))
    said = found(data, check(lambda seen: [f"{seen.before(1)} before"], "PAGE_DATA"))
    assert len(said) == 1 and "the text: 1 before" in said[0]


def test_a_record_that_is_cut_off_is_not_judged() -> None:
    data = stream(record(0x0B, bytes(64)))
    assert len(found(data, check(lambda seen: True))) == 1
    assert found(data[:-40], check(lambda seen: True)) == []


HEADER = Rule(LIBXC, "domain header", "odd", field_not_in("page_shift", 0x1F, 12), "odd pages")


@pytest.mark.parametrize(("shift", "said"), [(12, False), (12 + 32, False), (13, True)])
def test_a_header(shift: int, said: bool) -> None:
    """The mask is applied, and the whole value told."""
    expected = (
        f"error: libxc: offset 0x18: domain header: odd pages: page_shift is {shift:#x} [odd]"
    )
    lines = found(libxc_head(page_shift=shift) + record(0), HEADER)
    assert lines == ([expected] if said else [])


def test_a_header_of_another_layer_is_another() -> None:
    for record_name in ("domain header", ANY):
        other = Rule(LIBXL, record_name, "odd", lambda seen: True, "odd")
        assert found(stream(), other) == []
    every = Rule(LIBXC, ANY, "odd", lambda seen: True, "odd")
    assert len(found(stream(), every)) == 1, "END: all of a layer are its records"
