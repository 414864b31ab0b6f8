from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from hvmctx.abi.releases import Release, Window
from hvmctx.findings import ERROR
from hvmctx.restore.guest import Guest
from hvmctx.restore.machine import Machine
from hvmctx.restore.rules import (
    ADD,
    MOST_DETAILS,
    REMOVE,
    SET,
    Change,
    Loaded,
    Remedy,
    Rule,
    Seen,
)


class Record(Seen):
    def __init__(self, data: bytes, instance: int = 0) -> None:
        self.data = data
        self.length = len(data)
        self.instance = instance

    def head(self, size: int = 64) -> bytes:
        return self.data[:size]


def test_a_rule() -> None:
    rule = Rule(
        "context", "RTC", "rtc-odd", lambda seen: seen.instance & 1 == 1, "odd",
        errno="EINVAL", releases=Window("4.6"),
    )  # fmt: skip
    for instance in (0, 1):
        record = Record(b"", instance)
        assert rule.fires(record) == bool(instance)
        assert rule.texts(record) == ["odd"] * instance
    assert repr(rule) == "<rule rtc-odd, 4.6 and later>"
    assert Release("4.5") not in rule.releases and Release("4.6") in rule.releases
    assert (rule.layer, rule.record, rule.id) == ("context", "RTC", "rtc-odd")
    assert (rule.severity, rule.errno, rule.remedy) == (ERROR, "EINVAL", None)


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        (False, []),
        (True, ["the text"]),
        ([], []),
        (["one", "two"], ["the text: one", "the text: two"]),
    ],
)
def test_what_a_predicate_may_answer(answer: bool | list[str], texts: list[str]) -> None:
    for given in (answer, answer if isinstance(answer, bool) else tuple(answer)):

        def predicate(seen: Seen, given: bool | Iterable[str] = given) -> bool | Iterable[str]:
            return given

        rule = Rule("libxc", "END", "rule", predicate, "the text")
        assert rule.texts(Record(b"")) == texts
        assert rule.fires(Record(b"")) == bool(texts)


def test_details_are_asked_for_one_by_one() -> None:
    """And not beyond those that are told."""
    asked = []

    def predicate(seen: Seen) -> Iterator[str]:
        for number in range(1000):
            asked.append(number)
            yield str(number)

    rule = Rule("libxc", "END", "rule", predicate, "odd")
    assert rule.fires(Record(b"")) and asked == [0]
    texts = rule.texts(Record(b""))
    assert texts[0] == "odd: 0" and texts[-1].startswith("odd: further findings")
    assert len(texts) == MOST_DETAILS + 1 and asked[-1] == MOST_DETAILS


def test_a_rule_without_a_predicate() -> None:
    """Whoever walks over the whole says that it applies."""
    rule = Rule("libxc", "", "order", None, "out of order")
    assert not rule.fires(Record(b"")) and rule.texts(Record(b"")) == []


def test_numbers_of_a_body() -> None:
    record = Record(bytes(range(8)))
    assert (record.number(0), record.number(4), record.number(8)) == (0x3020100, 0x7060504, 0)


def test_what_is_known_at_first() -> None:
    """Nothing is loaded, and a record that has no more to tell has no words, none before it, and
    no release that handles it."""
    assert (Loaded().tsc_page, Loaded().xcr0_accum) == (False, {})
    record = Record(b"body")
    assert (record.words(), record.before(1), record.handles(1)) == (b"", 0, False)


@pytest.mark.parametrize(
    ("release", "host", "whose"),
    [("4.11", True, "host"), ("4.12", True, "guest"), ("4.11", False, "guest"),
     ("4.12", False, "guest")],
)  # fmt: skip
def test_whose_policy_a_check_goes_by(release: str, host: bool, whose: str) -> None:
    record = Record(b"")
    record.release = Release(release)
    record.guest, record.machine = Guest(), Machine(leaves=[(1, 0, 0, 0, 0, 0)] if host else [])
    assert record.policy("4.12") is (record.machine if whose == "host" else record.guest)


def test_a_remedy() -> None:
    """Its steps are what `set` takes, and what they are compared by."""
    change = Change(SET, "RTC/0.cmos_index", 15)
    remedy = Remedy("masks the index", lambda seen, rule: [change])
    rule = Rule("context", "RTC", "rtc-odd", None, "odd", remedy=remedy)
    assert rule.remedy is remedy and repr(remedy) == "<remedy: masks the index>"
    assert remedy.changes(Record(b""), rule) == [Change(SET, "RTC/0.cmos_index", 15)]
    assert change != Change(ADD, "RTC/0.cmos_index", 15) and len({change, change}) == 1
    steps = (change, Change(ADD, "RTC/0", b"\x0f"), Change(REMOVE, "RTC/1"))
    assert [str(step) for step in steps] == [
        "RTC/0.cmos_index=0xf", "add RTC/0=0f", "remove RTC/1"
    ]  # fmt: skip
    with pytest.raises(NotImplementedError):
        Record(b"").altered(b"body")
