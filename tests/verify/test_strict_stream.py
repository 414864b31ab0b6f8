"""What strict says of streams: row by row, and nothing of what is as it should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvmctx.abi import streams
from hvmctx.image.image import open_image
from hvmctx.verify.strict_stream import StrictStream
from tests.builders.cases.strict_stream import CASES, QEMU, VERIFY
from tests.builders.samples import EXAMPLE, IMAGES, STREAMS
from tests.builders.streams import (
    GOOD,
    MSR,
    Pipe,
    libxc_head,
    page_data,
    record,
    word,
)
from tests.builders.streams import strict_hvm as hvm
from tests.builders.streams import strict_libxl as libxl


def rules_of(data: bytes | Path, *, piped: bool = False) -> list[str]:
    strict = StrictStream()
    target = Pipe(data) if piped and isinstance(data, bytes) else data
    with open_image(target, watcher=strict) as image:
        strict.end(image)
    return [finding.rule for finding in strict.findings]


@pytest.mark.parametrize("case", CASES)
def test_every_rule(case: str) -> None:
    fires, misses = CASES[case]
    rule = case.partition("#")[0]
    assert rule in rules_of(fires)
    assert rule not in rules_of(misses)
    if rule != "verify-mismatch":
        assert rules_of(fires, piped=True) == rules_of(fires), "a pipe tells as much"


def test_pages_that_went_by_cannot_be_compared() -> None:
    assert "verify-unchecked" in rules_of(CASES["verify-mismatch"][0], piped=True)


@pytest.mark.parametrize("path", [*IMAGES, EXAMPLE, *STREAMS], ids=lambda path: path.name)
def test_genuine_images(path: Path) -> None:
    """What they were stripped of is missing, some hold no parameters; no more."""
    expected = {"pages-missing"} if path.suffix == ".save" else {"missing-record", "pages-missing"}
    assert set(rules_of(path)) <= expected


def test_good_is_good() -> None:
    assert rules_of(GOOD) == rules_of(GOOD, piped=True) == []
    assert rules_of(libxl(record(3, QEMU))) == []


def test_many_mismatches_are_not_all_reported() -> None:
    batch = [word(pfn) for pfn in range(40)]
    data = hvm(page_data(*batch), VERIFY, page_data(*batch, fill=1))
    assert rules_of(data).count("verify-mismatch") == 16


def test_a_record_that_no_reader_takes_is_not_read() -> None:
    head = libxc_head() + streams.RECORD_HEADER.pack(18, (128 << 20) + 16)
    assert rules_of(head + MSR) == []
