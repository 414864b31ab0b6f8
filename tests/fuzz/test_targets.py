"""The targets by hypothesis, bounded; and defects planted in our own code, each of which
they find."""

from __future__ import annotations

import io
import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmctx.abi import fields
from hvmctx.abi import vmport as abi_vmport
from hvmctx.abi.releases import Release
from hvmctx.abi.vmport import XEN_4_5_V6, VmportProfile
from hvmctx.context import hvm_context
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import VmportState, _write
from hvmctx.edit import strip
from hvmctx.fuzz import NAMES, target_context, target_strict
from hvmctx.fuzz.differential import vmport_verdict
from hvmctx.fuzz.reference import Case, Reference
from hvmctx.fuzz.streams import valid_stream
from hvmctx.fuzz.target import Target
from hvmctx.fuzz.targets import TARGETS
from hvmctx.fuzz.vmport import random_record
from hvmctx.image.image import open_image
from hvmctx.restore import context as restore_context
from hvmctx.restore import stream as restore_stream
from hvmctx.restore import vmport as restore_vmport
from hvmctx.stream import pages
from hvmctx.stream.reader import StreamReader
from hvmctx.verify.registry import rules
from tests.builders.running import ROOT
from tests.builders.samples import altered

seeds = st.integers(0, 1 << 32)


def inputs(target: Target, seed: int, count: int) -> list[bytes]:
    rng = random.Random(seed)
    population = target.seeds(rng)
    return population + [target.mutate(rng.choice(population), rng) for _ in range(count)]


@settings(max_examples=12)
@given(seeds, st.sampled_from(sorted(TARGETS)))
def test_what_must_hold_holds(seed: int, name: str) -> None:
    target = TARGETS[name]
    for data in inputs(target, seed, 6):
        target.run(data)


@given(st.binary(max_size=300), st.sampled_from(sorted(TARGETS)))
def test_noise(data: bytes, name: str) -> None:
    TARGETS[name].run(data)


def test_names() -> None:
    assert tuple(TARGETS) == NAMES
    text = (ROOT / "docs" / "fuzzing.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(NAMES)


def test_reached_is_known() -> None:
    """What a target reaches is a rule of some table, or the name of an error."""
    tables = {rule for target in TARGETS.values() for rule in target.known}
    tables |= {rule.id for rule in rules()}
    for name in ("context", "text", "strict", "stream", "judge", "vmport"):
        target = TARGETS[name]
        reached = set().union(*(target.run(data) for data in inputs(target, 1, 40)))
        assert not {rule for rule in reached - tables if not rule[0].isupper()}
        assert reached & target.known


# Planted defects ---------------------------------------------------------------------------

_check, _to_bytes = restore_vmport.check, HvmContext.to_bytes
_fields, _put, _load = Record.fields, fields.Slot.put, restore_context.load
_feed, _strip = StreamReader.feed, strip.strip
_buffers = vars(VmportProfile)["buffers"].func


def _no_wrap(used: int, *, jumbo: bool) -> int:
    return max(used + 1, 2) if jumbo else max(used + 5, 10)


def _one_slot_less(used: int, *, jumbo: bool) -> int:
    return max(used + 1 & 0xFFFFFFFF, 2) if jumbo else max(used + 4 & 0xFFFFFFFF, 10)


def _long_buffers(self: VmportProfile) -> Any:
    return [place._replace(room=place.room + 4) for place in _buffers(self)]


class _NoValueLimit(restore_vmport._Entries):
    def load(
        self, kind: str, head: int, used: int, slots: int, val_limit: int, existing: int
    ) -> Any:
        return super().load(kind, head, used, slots, 0xFFFF, existing)


class _NoKeyLimit(restore_vmport._Entries):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._key_limit = 0xFF


def _any_length(context: memoryview, profile: Any, *, allocated: bool = True) -> Any:
    found = _check(context, profile, allocated=allocated)
    if isinstance(found, restore_vmport.Refused) and found.rule == "vmport-type":
        return context[8 : 8 + int.from_bytes(context[4:8], "little")]
    return found


def _one_byte_more(context: memoryview, profile: Any, *, allocated: bool = True) -> Any:
    return _check(memoryview(bytes(context) + b"\0"), profile, allocated=allocated)


def _without_origin(state: Any, profile: Any = XEN_4_5_V6) -> bytes:
    return bytes(_write(state, profile)) if state.unparsed is None else b""


def _no_damage(*args: Any) -> None:
    return None


def _without_tail(self: Any) -> bytes:
    data = _to_bytes(self)
    return data[: len(data) - len(self.tail)]


def _one_less(self: Any) -> Any:
    return dict(list(_fields(self).items())[:-1])


def _next_byte_too(self: Any, body: bytearray, value: Any) -> None:
    _put(self, body, value)
    if len(body) > self.offset + self.size:
        body[self.offset + self.size] ^= 1


def _negative_offset(*args: Any) -> Any:
    verdict = _load(*args)
    verdict.offset = -verdict.offset
    return verdict


def _of_bytes_alone(context: Any, *into: Any) -> Any:
    return _load(context if isinstance(context, bytes) else b"", *into)


def _one_record_less(target: Any, out: Any, **how: Any) -> None:
    kept = io.BytesIO()
    _strip(target, kept, **how)
    out.write(kept.getvalue()[:-8])


def _all_with_data(count: int, tops: bytes) -> int:
    return 8 + (8 + 4096) * count


def _always_ordinary(words: bytes, count: int, length: int) -> bool:
    return count > 0 and len(words) == 8 * count


def _ends_late(self: Any, data: bytes) -> Any:
    item = _feed(self, data)
    self.offset += 8
    return item


LONG_BUFFERS = property(_long_buffers)

# what is broken: who finds it, where it is, its name, what stands there instead
MUTANTS: dict[str, tuple[str, Any, str, Any]] = {
    "loader: spare slots do not wrap": ("reference", abi_vmport, "slots_made", _no_wrap),
    "loader: one spare slot too few": ("reference", abi_vmport, "slots_made", _one_slot_less),
    "loader: buffers a word too long": ("reference", VmportProfile, "buffers", LONG_BUFFERS),
    "loader: no limit of values": ("reference", restore_vmport, "_Entries", _NoValueLimit),
    "loader: no limit of keys": ("reference", restore_vmport, "_Entries", _NoKeyLimit),
    "loader: any body length": ("reference", restore_vmport, "check", _any_length),
    "loader: a byte too many": ("reference", restore_vmport, "check", _one_byte_more),
    "to_bytes: what it came from is lost": ("vmport", VmportState, "to_bytes", _without_origin),
    "context: damage is not told": ("context", hvm_context, "_damage", _no_damage),
    "context: the tail is lost": ("context", HvmContext, "to_bytes", _without_tail),
    "text: fields are one short": ("text", Record, "fields", _one_less),
    "restore: an offset with a sign": ("context", target_context, "load", _negative_offset),
    "strict: a buffer that is no bytes": ("strict", target_strict, "load", _of_bytes_alone),
    "strip: the last record is lost": ("strip", strip, "strip", _one_record_less),
    "edit: the next byte changes": ("edit", fields.Slot, "put", _next_byte_too),
    "judge: every batch is ordinary": ("judge", pages, "is_ordinary", _always_ordinary),
    "stream: types without contents": ("judge", restore_stream, "length_of", _all_with_data),
    "stream: records end too late": ("stream", StreamReader, "feed", _ends_late),
}


def by_reference(reference: Reference) -> None:
    """Raises AssertionError where the model and the C reference differ."""
    records = [random_record(rng, XEN_4_5_V6) for rng in [random.Random(5)] for _ in range(500)]
    cases = [Case(record) for record in records]
    for case, verdict in zip(cases, reference.verdicts(cases, XEN_4_5_V6)):
        assert vmport_verdict(case, XEN_4_5_V6) == verdict


def by_judge() -> None:
    """Raises AssertionError where Debian's Xen 4.17 says otherwise of a stream, or where the
    rules one by one do."""
    for _, accepted, data in altered():
        with open_image(data, layer="libxc") as image:
            verdict = restore_stream.judge(image, Release("4.17"), kind=2)
        assert (verdict is None) == accepted
    rng = random.Random(1)
    for _ in range(8):
        with open_image(valid_stream(rng)) as image:
            assert restore_stream.judge(image, Release("4.17")) is None


def find(finder: str, reference: Reference | None) -> None:
    """Raises what the finder finds."""
    if finder == "judge":
        by_judge()
    elif reference is not None:
        by_reference(reference)
    else:
        for data in inputs(TARGETS[finder], 3, 40):
            TARGETS[finder].run(data)


@pytest.mark.parametrize("name", MUTANTS)
def test_planted_defects_are_found(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder, place, attribute, planted = MUTANTS[name]
    made = request.getfixturevalue("reference") if finder == "reference" else None
    monkeypatch.setattr(place, attribute, planted)
    with pytest.raises(AssertionError):  # anything else: the planted function is itself broken
        find(finder, made)


@pytest.mark.parametrize("finder", sorted({mutant[0] for mutant in MUTANTS.values()}))
def test_nothing_is_found_without_them(finder: str, request: pytest.FixtureRequest) -> None:
    find(finder, request.getfixturevalue("reference") if finder == "reference" else None)
