"""What changed between releases, out of the tables."""

from __future__ import annotations

import doctest
from itertools import pairwise

import pytest

from hvmctx.abi.releases import RELEASES, Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.errors import UsageError
from hvmctx.restore.context import load
from hvmctx.restore.context_rules import RULES
from hvmctx.verify import compat
from hvmctx.verify.compat import TOPICS, changes
from tests.builders.samples import context_bytes

PAIRS = list(pairwise(RELEASES))
GOLDEN = """\
LAPIC: 4.20 on 4.13: taken -> refused: 32 bytes, where 24 are known
LAPIC: bytes: 24 -> 32 (since 4.18)
LAPIC: lapic-length: EINVAL: this release does not accept this length -> ENODATA: this release \
does not accept this length (since 4.20)
LAPIC: checked: when it is loaded -> in the first pass (since 4.20)
"""


def test_the_example_of_the_issue() -> None:
    lines = [str(change) for change in changes("4.13", "4.20", records=["lapic"])]
    assert "\n".join(lines) + "\n" == GOLDEN
    of = {change.topic for change in changes("4.13", "4.20")}
    assert of == set(TOPICS) - {"text"}, "whose lines are the same since 4.12"


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_there_and_back(first: str, second: str) -> None:
    there, back = changes(first, second), changes(second, first)
    assert changes(first, first) == [] == changes(second, second)
    key = ("topic", "record", "what", "since")
    forth = {tuple(getattr(c, n) for n in key): (c.first, c.second) for c in there}
    again = {tuple(getattr(c, n) for n in key): (c.second, c.first) for c in back}
    for each in {*forth, *again}:
        if each[0] != "contexts":
            assert forth[each] == again[each]
            assert each[3] == second, "what is new since the tip of that branch"
    assert [c.topic for c in there] == sorted((c.topic for c in there), key=list(TOPICS).index)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_every_rule_whose_window_begins_or_ends(first: str, second: str) -> None:
    one, two = Release(first), Release(second)
    told = {(c.record, c.what) for c in changes(first, second) if c.topic == "checks"}
    for rule in RULES:
        if None not in (one.size_of(rule.record), two.size_of(rule.record)):
            same = [r for r in RULES if (r.record, r.id) == (rule.record, rule.id)]
            differs = any((one in r.releases) != (two in r.releases) for r in same)
            assert ((rule.record, rule.id) in told) == differs, rule


def test_what_is_said_of_contexts_is_what_a_load_does() -> None:
    for first, second in (("4.13", "4.20"), ("4.6", "4.7"), ("4.4", "4.5"), ("4.17", "4.18")):
        told = {(c.record, c.what) for c in changes(first, second) if c.topic == "contexts"}
        for writer, loader in ((first, second), (second, first)):
            for name, size in Release(writer).sizes().items():
                if name in ("END", "HEADER", "CPU_XSAVE", "CPU_MSR"):
                    continue
                header = HvmContext.from_bytes(context_bytes()).entries[0]
                records = [header, Record(name, 0, bytes(size)), Record("END", 0)]
                verdict = load(HvmContext(records).to_bytes(), Release(loader))
                length = verdict.rule in (
                    "context-type",
                    f"{name.lower().replace('_', '-')}-length",
                )
                assert ((name, f"{writer} on {loader}") in told) == length, (name, writer, loader)


def test_bits_and_text_and_streams() -> None:
    def of(first: str, second: str, topic: str) -> dict[tuple[str, str], tuple[object, object]]:
        found = changes(first, second)
        return {(c.record, c.what): (c.first, c.second) for c in found if c.topic == topic}

    assert of("4.6", "4.7", "bits")["CPU", "cr4.PKE"] == ("refused", "taken")
    assert of("4.9", "4.10", "bits")["CPU", "cr4.UMIP"] == ("refused", "taken")
    assert of("4.16", "4.17", "bits")["CPU_MSR", "VIRT_SPEC_CTRL (0xc001011f)"] == (
        None, "taken on amd and intel hosts",
    )  # fmt: skip
    assert of("4.17.0", "4.17", "bits")["CPU_MSR", "SPEC_CTRL.BHI_DIS_S (bit 10)"][0] is None
    assert of("4.1", "4.2", "text")["CPU", "FPU lines"], "which read other bytes"
    before, after = of("4.0", "4.1", "text")["CPU", "lines"]
    assert str(before).startswith("itdr ") and str(after).startswith("idtr ")
    found = of("4.13", "4.14", "streams")
    assert found["", "versions of libxc streams"] == ("2", "2 and 3")
    assert found["STATIC_DATA_END", "read"] == (None, "of x86 HVM and x86 PV")
    assert of("4.9", "4.10", "streams")["", "longest record"] == ("8 MiB", "128 MiB")
    assert list(of("4.5", "4.6", "streams")) == [("", "versions of libxc streams")]
    assert of("4.13.0", "4.13", "errnos")["", "errno"] == ("EPERM, always", "that of the handler")


def test_new_records_are_one_thing() -> None:
    found = [c for c in changes("4.4", "4.5") if c.record == "CPU_MSR" and c.topic != "bits"]
    assert [(c.topic, c.what) for c in found] == [
        ("contexts", "4.5 on 4.4"), ("lengths", "bytes"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "records", "reason"),
    [
        ("4.13", "5.0", None, "unknown Xen release"), ("x", "4.13", None, "unknown Xen release"),
        ("4.13", "4.14", ["LAPIK"], "did you mean LAPIC?"),
    ],
)  # fmt: skip
def test_what_does_not_exist(
    first: str, second: str, records: list[str] | None, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason.replace("?", r"\?")):
        changes(first, second, records=records)


def test_the_example_of_the_docstring() -> None:
    assert doctest.testmod(compat).failed == 0
