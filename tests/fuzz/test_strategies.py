from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmctx.abi.registry import by_name, record_types
from hvmctx.abi.releases import Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.vmport import VmportState, to_record
from hvmctx.errors import HvmctxError
from hvmctx.fuzz import strategies as xen
from hvmctx.image.image import open_image
from hvmctx.restore.context import load
from hvmctx.restore.stream import judge
from hvmctx.restore.vmport import RULES, findings_of
from tests.builders.samples import STREAMS, context_bytes
from tests.builders.streams import SMALL
from tests.builders.vmport import OTHER, busy_state

FEW = settings(max_examples=15)


@pytest.mark.parametrize("release", ["4.0", "4.5", "4.17", "4.20", "newest"])
@FEW
@given(st.data())
def test_valid_contexts_load(release: str, data: st.DataObject) -> None:
    context = data.draw(xen.contexts(release))
    assert load(context, Release(release)).accepted
    assert len(HvmContext.from_bytes(context, damaged=True).vcpus) >= 1


def test_others_differ() -> None:
    seen = set()

    @settings(max_examples=30)
    @given(xen.contexts("4.17", valid=False))
    def look(context: bytes) -> None:
        seen.add(load(context, Release("4.17")).rule)

    look()
    assert len(seen) > 3, "several rules, aimed at"


@pytest.mark.parametrize("name", [known.name for known in record_types() if known.size])
@FEW
@given(st.data())
def test_records(name: str, data: st.DataObject) -> None:
    known = by_name(name)
    record = data.draw(xen.records(name, valid=True))
    assert int.from_bytes(record[:2], "little") == known.typecode
    if known.rest is None:
        assert len(record) == 8 + known.size
    assert len(data.draw(xen.records(name))) >= 8


@FEW
@given(xen.vmport_states(OTHER), xen.vmport_records(valid=True))
def test_vmport(state: VmportState, record: bytes) -> None:
    assert VmportState.from_bytes(state.to_bytes(OTHER), OTHER) == state
    assert not [f for f in findings_of(record) if f.rule == "vmport-size"]


@FEW
@given(xen.vmport_records(), xen.mutations(b"\x15\0\0\0\4\0\0\0abcd", "vmport"))
def test_vmport_that_is_not_valid(record: bytes, other: bytes) -> None:
    for data in (record, other):
        assert {finding.rule for finding in findings_of(data)} <= set(RULES)


@pytest.mark.parametrize("version", [2, 3])
@FEW
@given(st.data())
def test_valid_streams_are_taken(version: int, data: st.DataObject) -> None:
    with open_image(data.draw(xen.libxc_streams(version))) as image:
        assert image.complete and judge(image, Release("newest")) is None


def made_by(strategy: st.SearchStrategy[bytes], count: int = 30) -> list[bytes]:
    """What a strategy makes."""
    found: list[bytes] = []

    @settings(max_examples=count)
    @given(strategy)
    def collect(data: bytes) -> None:
        found.append(data)

    collect()
    return found


@pytest.mark.parametrize("version", [2, 3])
def test_streams_that_are_not_valid(version: int) -> None:
    rules = set()
    for data in made_by(xen.libxc_streams(version, valid=False)):
        try:
            with open_image(data, layer="libxc") as image:
                verdict = judge(image, Release("newest"))
        except HvmctxError:
            continue
        rules.add(verdict.rule if verdict else "")
    assert len(rules) > 3, "several rules, aimed at"


@pytest.mark.parametrize("layer", ["xl", "libxl", "libxc"])
@FEW
@given(st.data())
def test_images(layer: str, data: st.DataObject) -> None:
    made = data.draw(xen.images(layer))
    with open_image(made) as image:
        assert image.format == layer and image.complete and image.context.has_end


@pytest.mark.parametrize("layer", ["xl", "libxl", "libxc"])
def test_images_that_are_not_valid(layer: str) -> None:
    """But for edits that put what was there before."""
    good, others = (made_by(xen.images(layer, valid=valid)) for valid in (True, False))
    assert sum(data not in good for data in others) > 20


MUTATED = {
    "context": context_bytes(),
    "libxc": STREAMS[0].read_bytes(),
    "xl": SMALL,
    "vmport": to_record(busy_state()).to_bytes(),
}


@pytest.mark.parametrize("kind", MUTATED)
def test_mutations(kind: str) -> None:
    made = made_by(xen.mutations(MUTATED[kind], kind))
    assert len(set(made)) > 15 and made.count(MUTATED[kind]) < 6
    if kind == "context":
        assert all(HvmContext.from_bytes(data, damaged=True).to_bytes() == data for data in made)
