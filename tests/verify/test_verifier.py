"""The table of the genuine verifier: against what it said itself, and row by row."""

from __future__ import annotations

import json

import pytest

from hvmctx.errors import HvmctxError
from hvmctx.verify.views import verify
from tests.builders.cases.verifier import CASES, pages, v3
from tests.builders.samples import DATA, altered_said
from tests.builders.streams import record, word


def rules_of(data: bytes, layer: str | None = None) -> list[str]:
    return [finding.rule for finding in verify(data, "verifier", layer=layer)]


def refused(data: bytes, layer: str | None = None) -> bool:
    try:
        return bool(rules_of(data, layer))
    except HvmctxError:
        return True


KNOWN_BUGS = {"big endian option"}
"""Its test for a big-endian stream masks with 0, and so finds none."""


def test_the_genuine_verifiers_own_word() -> None:
    cases = altered_said()
    assert len(cases) == 36
    for what, said, data in cases:
        assert refused(data, "libxc") == (said or what in KNOWN_BUGS), what


def test_streams_built_by_hand() -> None:
    place = DATA / "streams" / "handbuilt"
    results = json.loads((place / "results.json").read_text())
    for name, said in results.items():
        data = (place / f"{name}.bin").read_bytes()
        xenstore = name == "libxl_xenstore_data"  # which it compares with str under Python 3
        assert refused(data, said["format"]) == (bool(said["verifier_exit"]) and not xenstore), name


@pytest.mark.parametrize("case", CASES)
def test_every_rule(case: str) -> None:
    fires, misses = CASES[case]
    rule = case.partition("#")[0]
    assert rule in rules_of(fires)
    assert rule not in rules_of(misses)


def test_all_that_is_wrong_is_reported() -> None:
    (one, two, three) = verify(v3(record(9), record(0x13), pages(word(1, 5))), "verifier")
    assert (one.rule, two.rule, three.rule) == (
        "hvm-context-empty",
        "record-type",
        "page-data-type",
    )
    assert str(three) == (
        "error: libxc: offset 0x38: PAGE_DATA: a word has a type of 5 to 8: word 0 has type 5 "
        "[page-data-type]"
    )
