"""The toolstack's readers: against Debian's Xen 4.17 on altered streams, and rule by rule."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.abi.releases import RELEASES, Release
from hvmctx.errors import HvmctxError
from hvmctx.image.image import open_image
from hvmctx.restore.stream import HEADER_RULES, RULES, StreamJudge, judge
from tests.builders.cases.stream import CASES
from tests.builders.samples import EXAMPLE, IMAGES, STREAMS, altered
from tests.builders.streams import (
    CONTEXT,
    PV_INFO,
    SMALL,
    TSC,
    Pipe,
    hvm,
    libxc_head,
    libxl_head,
    page_data,
    pv,
    record,
    word,
)

SINCE_4_6 = [name for name in RELEASES if Release(name).since("4.6")]


def rule_of(data: bytes, release: str = "newest", **how: Any) -> str | None:
    with open_image(data, layer=how.pop("layer", None)) as image:
        verdict = judge(image, Release(release), **how)
    return None if verdict is None else verdict.rule


def test_the_genuine_restores_own_word() -> None:
    cases = altered()
    assert len(cases) == 36
    for what, accepted, data in cases:
        rule = rule_of(data, "4.17", kind=streams.GUEST_X86_HVM, layer="libxc")
        assert (rule is None) == accepted, (what, rule)


@pytest.mark.parametrize("path", [*IMAGES, EXAMPLE, *STREAMS], ids=lambda path: path.stem)
def test_genuine_images_are_taken(path: Any) -> None:
    for release in SINCE_4_6:
        version_3 = path.stem != "nothing"
        expected = None if Release(release).since("4.14") or not version_3 else "libxc-version"
        with open_image(path) as image:
            verdict = judge(image, Release(release))
        assert (verdict.rule if verdict else None) == expected


@pytest.mark.parametrize("rule", CASES)
def test_every_rule(rule: str) -> None:
    fires, misses = CASES[rule]
    assert rule_of(fires) == rule
    assert rule_of(misses) is None
    with open_image(Pipe(fires), keep_words=True) as image:
        verdict = judge(image, Release("newest"))
    assert verdict is not None and verdict.rule == rule
    assert verdict.errno is None and not verdict.accepted and verdict.text


def test_longest_records() -> None:
    head = libxc_head(version=2) + streams.RECORD_HEADER.pack(9, (8 << 20) + 1)
    assert rule_of(head, "4.9") == "libxc-length"
    assert rule_of(head, "4.10") == "stream-damaged"
    head = libxc_head(version=2) + streams.RECORD_HEADER.pack(9, (128 << 20) + 1)
    assert rule_of(head, "newest") == "libxc-length"


def test_releases() -> None:
    assert rule_of(hvm(), "4.5") == "stream-v2"
    assert rule_of(hvm(), "4.13") == "libxc-version"
    assert rule_of(hvm(page_data(word(1)), version=2), "4.6") is None
    assert rule_of(hvm(record(17, bytes(24)), version=2), "4.13") == "libxc-unknown"
    assert rule_of(hvm(record(17, bytes(24)), version=2), "4.14") is None
    assert rule_of(hvm(page_data(word(1)), record(16), version=2), "4.14") == "static-end-twice"
    assert rule_of(hvm(record(16), version=2), "4.14") is None


def test_checkpointed_streams() -> None:
    data = (
        libxl_head()
        + record(1)
        + libxc_head()
        + record(16)
        + record(14)
        + record(4)
        + record(0)
        + record(0)
    )
    assert rule_of(data) == "checkpoint"
    assert rule_of(data, checkpointed=True) is None


CHECKPOINT = page_data(word(1)) + TSC + CONTEXT + record(14)
BAD_TSC = record(8, bytes(280))


@pytest.mark.parametrize(
    ("tail", "rule"),
    [
        (b"", None),
        (CHECKPOINT[:-20], None),  # the secondary goes on from the first checkpoint
        (BAD_TSC + CONTEXT[:100], None),  # only queued, as what is wrong with it
        (BAD_TSC + record(0), None),  # END, too, makes it go on from there
        (CHECKPOINT + CHECKPOINT[:-20], None),
        (BAD_TSC + record(14), "tsc-length"),
        (record(0x80000055) + CHECKPOINT, "checkpoint-optional"),
        (record(0x80000055) + CONTEXT, None),  # never replayed
        (record(14)[:-1], None),
        (record(14, bytes(16))[:-1], None),  # cut off, so it is no checkpoint
    ],
)
def test_a_checkpointed_stream_may_end_anywhere(tail: bytes, rule: str | None) -> None:
    """As the genuine restore has it (--remus), which was asked about 900 such streams."""
    head = libxc_head() + record(16)
    assert rule_of(head + CHECKPOINT + tail, checkpointed=True) == rule
    if rule is None:
        assert rule_of(head + CHECKPOINT[:-8], checkpointed=True) == "stream-damaged"


def test_guests() -> None:
    assert rule_of(hvm(), kind=streams.GUEST_X86_PV) == "libxc-guest"
    assert rule_of(hvm(PV_INFO)) == "libxc-unknown"
    assert rule_of(pv(record(9, b"x"))) == "libxc-unknown"


def test_page_shift_is_taken_modulo_32() -> None:
    assert rule_of(hvm().replace(b"\2\0\0\0\x0c", b"\2\0\0\0\x2c", 1)) is None


@given(st.data())
def test_flipped_bytes(data: st.DataObject) -> None:
    broken = bytearray(SMALL)
    for _ in range(data.draw(st.integers(0, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(broken)))
    try:
        rule = rule_of(bytes(broken[:cut]), data.draw(st.sampled_from(SINCE_4_6)), layer="xl")
    except HvmctxError:
        return
    assert rule is None or rule in {rule.id for rule in (*RULES, *HEADER_RULES)}


batches = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 4, 5, 8, 9, 0xD, 0xE, 0xF]),
        st.sampled_from([0, 1, 0xFFFFF, 1 << 40, (1 << 40) - 1, 1 << 51, 1 << 55]),
    ),
    min_size=1,
    max_size=3,
)


@given(batches, st.integers(-1, 1), st.booleans(), st.sampled_from(["4.9", "newest"]))
def test_ordinary_pages_are_judged_as_by_the_rules(
    batch: list[tuple[int, int]], grow: int, static_end: bool, release: str
) -> None:
    made = page_data(*(word(pfn, kind) for kind, pfn in batch))[8:]
    made = made[: len(made) + min(grow, 0)] + bytes(max(grow, 0))
    data = libxc_head() + record(16) * static_end + record(1, made) + record(0)
    with open_image(data) as image:
        fast = judge(image, Release(release))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StreamJudge, "_ordinary_pages", lambda *_: False)
            slow = judge(image, Release(release))
    assert repr(fast) == repr(slow)
    assert fast is None or slow is None or fast.as_dict() == slow.as_dict()


@pytest.mark.parametrize(
    ("release", "most"),
    [("4.6.2", 36), ("4.6.3", 37), ("4.6", 37), ("4.7.0", 37), ("4.9", 38), ("4.10", 39)],
)
def test_parameters_of_a_release(release: str, most: int) -> None:
    for index in (most - 1, most):
        params = record(10, struct.pack("<IIQQ", 1, 0, index, 1))
        expected = None if index < most else "hvm-params-index"
        assert rule_of(hvm(params, version=2), release) == expected
