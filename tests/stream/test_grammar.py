from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.abi.streams import LIBVIRT, LIBXC, LIBXL, XAPI, XL
from hvmctx.errors import FieldError, UsageError
from hvmctx.stream.grammar import (
    AFTER_LIBXC,
    ANY,
    END,
    FIRST,
    LEGACY_HEADER,
    LEGACY_STREAM,
    LENGTHS,
    STATES,
    TABLE,
    UNKNOWN_END,
    Transition,
)
from hvmctx.stream.reader import Header, StreamReader
from hvmctx.stream.writer import StreamWriter

ODD = 0x80000055
"""A record type that no layer has."""
Told = tuple[str, str | int]


LEGACY_FIELDS = {
    XAPI: (b"XenSavedDomain\n", {"kind": streams.XAPI_LEGACY}),
    LIBVIRT: (streams.LIBVIRT_MAGIC + b"\1".ljust(48, b"\0"), {"version": 1}),
}
OPENERS = (XL, XAPI, LIBVIRT)


def header(writer: StreamWriter, layer: str, name: str, data: bytes) -> bytes:
    if layer == XL:
        return writer.xl_header(data, flags=0 if name == LEGACY_HEADER else None)
    if name == LEGACY_HEADER:
        raw, fields = LEGACY_FIELDS[layer]
        return writer.again(Header(layer, "header", 0, raw, fields))
    if layer == XAPI:
        return writer.xapi_header()
    if layer == LIBVIRT:
        return writer.libvirt_header(data)
    if layer == LIBXL:
        return writer.libxl_header()
    return writer.image_header() if name == "image header" else writer.domain_header(2, (4, 17))


def write_row(writer: StreamWriter, row: Transition, body: bytes) -> tuple[bytes, Told]:
    """What the writer gives for a row, and what the reader is to say of it."""
    if isinstance(row.item, str):
        told = "header" if row.layer in OPENERS else row.item
        return header(writer, row.layer, row.item, body), (row.layer, told)
    if row.length is not None:
        body = body.ljust(row.length, b"\0")[: row.length]
    number = ODD if row.item == ANY else row.item
    if row.layer == XAPI and number in streams.XAPI_BODILESS:
        if body:
            with pytest.raises(FieldError, match="have no body"):
                writer.record(number, body)
        body = b""
    return writer.record(number, body), (row.layer, number)


def refused(writer: StreamWriter) -> None:
    """Whatever has no row in the writer's state raises, and changes nothing."""
    state = writer.state
    for layer, name in streams.HEADERS:
        if state.layer != layer or name not in state.by_item:
            with pytest.raises(UsageError, match="out of turn"):
                header(writer, layer, name, b"")
            old = Header(layer, name, 0, b"", {"mandatory_flags": 2, "kind": 0, "version": 2})
            with pytest.raises(UsageError, match="out of turn"):
                writer.again(old)
    if state.other is None:
        for number in (0, ODD):
            with pytest.raises(UsageError, match="a record is out of turn"):
                writer.record(number)
    assert writer.state is state


@given(st.sampled_from(sorted(FIRST)), st.data())
def test_every_walk_is_written_and_read(layer: str, data: st.DataObject) -> None:
    writer = StreamWriter(layer)
    out, expected = b"", []
    for _ in range(data.draw(st.integers(0, 30))):
        refused(writer)
        if writer.done:
            break
        row = data.draw(st.sampled_from(writer.state.rows))
        raw, told = write_row(writer, row, data.draw(st.binary(max_size=20)))
        assert writer.state is STATES[row.following]
        out += raw
        expected.append(told)
    reader, found = StreamReader(layer), list[Told]()
    while reader.need and reader.offset < len(out):
        item = reader.feed(out[reader.offset : reader.offset + reader.need])
        found.append((item.layer, item.name if isinstance(item, Header) else item.type))
    assert found == expected and reader.offset == len(out)
    assert reader.state is writer.state and (reader.need == 0) == writer.done


def test_every_row_is_on_some_walk() -> None:
    """From the first states on, every row is reached, and from every state the end."""
    reached, todo = set(FIRST.values()), [*FIRST.values()]
    while todo:
        for row in STATES[todo.pop()].rows:
            if row.following not in reached:
                reached.add(row.following)
                todo.append(row.following)
    ends = {END, LEGACY_STREAM, UNKNOWN_END}
    assert reached == set(STATES) == {state for state, *_ in TABLE} | ends
    for _ in STATES:
        ends |= {s.name for s in STATES.values() if any(row.following in ends for row in s.rows)}
    assert ends == set(STATES)


def test_a_state_has_one_header_or_records() -> None:
    """So that the reader knows how many bytes come: of records any, the last row says."""
    for state in STATES.values():
        kinds = {isinstance(row.item, str) for row in state.rows}
        assert len(kinds) <= 1
        assert (state.other is not None) == (kinds == {False})
        items = [(row.layer, row.item) for row in state.rows]
        assert len(items) == len(set(items))
        if state.other is not None:
            assert state.rows[-1] is state.other
    assert set(LENGTHS) <= {(state, layer) for state, layer, *_ in TABLE}


@pytest.mark.parametrize("length", [0, 3, 4, 5, 8])
def test_whose_record_it_is_between_checkpoints(length: int) -> None:
    """The number is CHECKPOINT_STATE's and X86_PV_VCPU_EXTENDED's: the length tells, to the
    writer as to the reader."""
    writer = StreamWriter(LIBXL)
    out = writer.libxl_header() + writer.record(streams.LIBXL_LIBXC_CONTEXT)
    out += writer.image_header() + writer.domain_header(2, (4, 17))
    out += writer.record(streams.LIBXC_CHECKPOINT) + writer.record(streams.LIBXL_CHECKPOINT_END)
    out += writer.record(streams.LIBXL_CHECKPOINT_STATE, bytes(length))
    assert writer.state.name == ("next checkpoint" if length == 4 else "libxc records")
    reader = StreamReader(LIBXL)
    items = []
    while reader.offset < len(out):
        items.append(reader.feed(out[reader.offset : reader.offset + reader.need]))
    assert items[-1].layer == (LIBXL if length == 4 else LIBXC) and reader.state is writer.state


def test_what_comes_next() -> None:
    """In words, and how many bytes are needed to see what it is."""
    told = {(state.name, state.expecting, state.need) for state in STATES.values()}
    records = {("libxl records", LIBXL), ("libxc records", LIBXC), ("checkpoint", LIBXL),
               ("next checkpoint", LIBXC), ("libxc alone", LIBXC),
               ("libxc in xapi", LIBXC)}  # fmt: skip
    assert told == {
        ("end", "end", 0), ("legacy stream", "end", 0), ("unknown end", "end", 0),
        ("xapi header", "xapi header", 15), ("xapi records", "xapi record", 16),
        ("libvirt header", "libvirt header", 64), ("image in xapi", "image header", 24),
        ("domain in xapi", "domain header", 16),
        ("xl header", "xl header", 48), ("libxl header", "libxl header", 16),
        ("image header", "image header", 24), ("domain header", "domain header", 16),
        ("image alone", "image header", 24), ("domain alone", "domain header", 16),
        *((name, f"{layer} record", 8) for name, layer in records),
    }  # fmt: skip
    assert records <= {(state.name, state.layer) for state in STATES.values()}
    assert STATES[END].layer == "" and AFTER_LIBXC is STATES["libxl records"]


def test_words() -> None:
    told = {str(row) for state in STATES.values() for row in state.rows}
    assert {
        "xl header", "xl header of a legacy stream", "libxl header", "image header",
        "libxl LIBXC_CONTEXT", "libxl END", "any other libxl record", "libxc CHECKPOINT",
    } <= told  # fmt: skip
    assert repr(STATES["libxc records"]) == "<state libxc records>"
    assert repr(STATES["image header"].rows[0]) == "<image header -> domain header>"
