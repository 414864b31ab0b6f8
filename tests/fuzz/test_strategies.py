from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from hvmctx.abi.registry import by_name, record_types
from hvmctx.abi.releases import Release
from hvmctx.abi.streams import PAGE_BROKEN
from hvmctx.abi.vmport import PROTO_RPCI
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import VmportState, descriptor, to_record
from hvmctx.errors import HvmctxError
from hvmctx.fuzz import strategies as xen
from hvmctx.fuzz.streams import make_stream
from hvmctx.image.image import open_image
from hvmctx.json_form.document import Document
from hvmctx.restore.context import load
from hvmctx.restore.stream import judge
from hvmctx.restore.vmport import RULES, findings_of
from hvmctx.save.reset import reset_context
from tests.builders.examples import few
from tests.builders.samples import STREAMS, context_bytes
from tests.builders.streams import SMALL
from tests.builders.vmport import OTHER, busy_state
from tests.builders.wrappers import WRAPPED

T = TypeVar("T")


@pytest.mark.parametrize("release", ["4.0", "4.5", "4.17", "4.20", "newest"])
@few
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
@few
@given(st.data())
def test_records(name: str, data: st.DataObject) -> None:
    known = by_name(name)
    record = data.draw(xen.records(name, valid=True))
    assert int.from_bytes(record[:2], "little") == known.typecode
    if known.rest is None:
        assert len(record) == 8 + known.size
    assert len(data.draw(xen.records(name))) >= 8


@few
@given(xen.vmport_states(OTHER), xen.vmport_records(valid=True))
def test_vmport(state: VmportState, record: bytes) -> None:
    assert VmportState.from_bytes(state.to_bytes(OTHER), OTHER) == state
    assert not [f for f in findings_of(record) if f.rule == "vmport-size"]


@few
@given(xen.vmport_records(), xen.mutations(b"\x15\0\0\0\4\0\0\0abcd", "vmport"))
def test_vmport_that_is_not_valid(record: bytes, other: bytes) -> None:
    for data in (record, other):
        assert {finding.rule for finding in findings_of(data)} <= set(RULES)


@pytest.mark.parametrize("version", [2, 3])
@few
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


@pytest.mark.parametrize("layer", ["xl", "xapi", "libvirt", "libxl", "libxc"])
@few
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
    "xapi": WRAPPED["xapi"],
    "libvirt": WRAPPED["libvirt"],
}


@pytest.mark.parametrize("kind", MUTATED)
def test_mutations(kind: str) -> None:
    made = made_by(xen.mutations(MUTATED[kind], kind))
    assert len(set(made)) > 15 and made.count(MUTATED[kind]) < 6
    if kind == "context":
        assert all(HvmContext.from_bytes(data, damaged=True).to_bytes() == data for data in made)


def test_documents() -> None:
    for text in made_by(xen.documents("libxc").map(str.encode), 5):
        assert open_image(Document.from_text(text).to_bytes()).complete
    outcomes: set[bool | None] = set()
    for text in made_by(xen.documents(valid=False).map(str.encode)):
        try:
            outcomes.add(Document.from_text(text).context is not None)
        except HvmctxError:
            outcomes.add(None)
    assert {True, None} <= outcomes


# What fails shrinks to what is odd about it, and little else; of what there is for contexts,
# streams and VMPORT one each in the suite ------------------------------------------------


def smallest(strategy: st.SearchStrategy[T], fails: Callable[[T], bool]) -> T:
    how = settings(max_examples=20000, database=None, derandomize=True)
    return find(strategy, fails, settings=how)


def entries(data: bytes) -> list[Record]:
    return HvmContext.from_bytes(data, damaged=True).entries


def number(record: Record, name: str) -> int:
    value = record.fields()[name]
    assert isinstance(value, int)
    return value


def after_reset(name: str, **fields: int) -> Record:
    """A record as in a context after a reset, but for these fields."""
    record = reset_context(1, Release("4.17")).record(name)
    for path, value in fields.items():
        setattr(record.struct, path, value)
    return record


@pytest.mark.long
def test_a_field_of_any_context() -> None:
    def fails(data: bytes) -> bool:
        return any(number(r, "cr4") >> 11 & 1 for r in entries(data) if r.name == "CPU")

    expected = HvmContext([after_reset("CPU", cr4=1 << 11), Record("END", 0)])
    assert smallest(xen.contexts("4.17", valid=False), fails) == expected.to_bytes()


def test_a_field_of_a_valid_context() -> None:
    def fails(data: bytes) -> bool:
        return any(number(r, "rip") >> 40 for r in entries(data) if r.name == "CPU")

    cpu = after_reset("CPU", rip=1 << 40)
    expected = HvmContext([after_reset("HEADER"), cpu, Record("END", 0)])
    assert smallest(xen.contexts("4.17"), fails) == expected.to_bytes()


def test_two_records_of_one_instance() -> None:
    def fails(data: bytes) -> bool:
        keys = [(record.typecode, record.instance) for record in entries(data)]
        return len({*keys}) < len(keys)

    one, other, end = entries(smallest(xen.contexts("4.17", valid=False), fails))
    assert one.to_bytes() == other.to_bytes() == after_reset(one.name).to_bytes()
    assert end.name == "END"


def test_a_field_of_a_record() -> None:
    known = by_name("PIT")
    path = known.layout.locate("channels[2].mode")

    def fails(record: bytes) -> bool:
        return len(record) == 8 + known.size and int(path.get(record[8:])) > 5

    found = smallest(xen.records("PIT"), fails)
    expected = bytearray(known.size)
    path.put(expected, 6)
    assert found == Record("PIT", 0, bytes(expected)).to_bytes()


def test_a_long_key() -> None:
    def fails(record: bytes) -> bool:
        state = VmportState.from_bytes(record[8:])
        return any(len(key) > 100 for key, _ in state.guestinfo)

    expected = VmportState.empty()
    expected.guestinfo[b"a" * 101] = b""
    body = expected.to_bytes()
    assert smallest(xen.vmport_records(), fails) == descriptor(body) + body


@pytest.mark.long
def test_a_buffer_that_is_not_empty() -> None:
    def fails(state: VmportState) -> bool:
        return any(len(channel.recv[3].data) > 9 for channel in state.channels)

    expected = VmportState.empty()
    expected.channels[0].proto_num = PROTO_RPCI
    expected.channels[0].recv[3].data = b"a" * 10
    assert smallest(xen.vmport_states(), fails) == expected


@pytest.mark.long
def test_pages_of_a_stream() -> None:
    def fails(data: bytes) -> bool:
        with open_image(data) as image:
            return image.memory_map.counts().get(PAGE_BROKEN, 0) > 1

    context = smallest(xen.contexts("4.17"), lambda data: True)
    pages = [[PAGE_BROKEN, PAGE_BROKEN]]
    expected = make_stream(3, 14, (False, False), pages, context, [])
    assert smallest(xen.libxc_streams(), fails) == expected


def test_an_edit_of_a_stream() -> None:
    """A fault that is only in the edit leaves the smallest stream around it."""
    found = smallest(
        xen.libxc_streams(valid=False), lambda data: b"\xab\xab" not in data and len(data) % 8 == 1
    )
    assert len(found) < 1400
