from __future__ import annotations

from typing import Any

from hvmctx.abi.releases import Release, Window
from hvmctx.restore.host import Host
from hvmctx.restore.rules import LoadedRecord, Rule


def test_a_record_as_its_loader_sees_it() -> None:
    asked: list[LoadedRecord] = []

    def fields_of(entry: LoadedRecord) -> dict[str, Any]:
        asked.append(entry)
        return {"low": entry.body[0], "length": entry.length}

    body = memoryview(b"\7rest of the context")
    entry = LoadedRecord("RTC", 3, 1000, body, Host(), fields_of)
    assert (entry.name, entry.instance, entry.length, entry.space) == ("RTC", 3, 1000, 20)
    assert asked == [], "rules on the length come before anyone takes it apart"
    assert entry.fields == entry.fields == {"low": 7, "length": 1000}
    assert asked == [entry], "taken apart once"


def test_a_rule() -> None:
    rule = Rule(
        "RTC", "rtc-odd", "EINVAL", lambda entry: bool(entry.instance & 1), "odd", Window("4.6")
    )
    for instance in (0, 1):
        entry = LoadedRecord("RTC", instance, 0, memoryview(b""), Host(), lambda _: {})
        assert rule.fires(entry) == bool(instance)
    assert repr(rule) == "<rule rtc-odd, 4.6 and later>"
    assert Release("4.5") not in rule.releases and Release("4.6") in rule.releases
