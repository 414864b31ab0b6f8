from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.abi.streams import LIBVIRT, XAPI
from hvmctx.errors import FormatError, UnsupportedError
from hvmctx.stream.reader import LIBXC, LIBXL, XL, Header, StreamReader, StreamRecord, record_name
from tests.builders import wrappers
from tests.builders.streams import libxc_head, libxl_head, record, xl_head


def read_all(data: bytes, layer: str) -> list[Header | StreamRecord]:
    """Feed exactly what the reader asks for, from where it asks."""
    reader = StreamReader(layer)
    items = []
    while reader.need:
        chunk = data[reader.offset : reader.offset + reader.need]
        assert len(chunk) == reader.need, "the reader wants more than there is"
        items.append(reader.feed(chunk))
    assert reader.offset <= len(data)
    return items


def names(items: list[Header | StreamRecord]) -> list[str]:
    return [f"{item.layer} {item.name}" for item in items]


CONTEXT = record(streams.LIBXC_HVM_CONTEXT, b"c" * 13)


def test_all_layers() -> None:
    data = (
        xl_head(b"\3\0\0\0{}\0") + libxl_head() + record(1) + libxc_head() + CONTEXT + record(0)
        + record(3, b"e" * 9) + record(0)
    )  # fmt: skip
    items = read_all(data, XL)
    assert names(items) == [
        "xl header", "libxl header", "libxl LIBXC_CONTEXT", "libxc image header",
        "libxc domain header", "libxc HVM_CONTEXT", "libxc END", "libxl EMULATOR_CONTEXT",
        "libxl END",
    ]  # fmt: skip
    rebuilt = b""
    for item in items:
        assert item.offset == len(rebuilt)
        rebuilt += item.raw + data[item.body_offset : item.end]
    assert rebuilt == data
    context = items[5]
    assert isinstance(context, StreamRecord)
    assert (context.length, context.padding, context.end) == (13, 3, context.offset + 24)
    assert repr(context) == f"<libxc HVM_CONTEXT at {context.offset:#x}, 13 bytes>"
    assert repr(items[0]) == "<xl header at 0x0>"


def test_checkpointed_libxl_stream() -> None:
    """libxl records stand between a libxc CHECKPOINT and the next libxc record."""
    data = (
        libxl_head() + record(1) + libxc_head() + CONTEXT + record(14)
        + record(2, b"\2\0\0\0\0\0\0\0") + record(3, b"\2\0\0\0\0\0\0\0QEVM") + record(4)
        + CONTEXT + record(14) + record(5, b"\0" * 4) + record(4) + record(0) + record(0)
    )  # fmt: skip
    assert names(read_all(data, LIBXL))[4:] == [
        "libxc HVM_CONTEXT", "libxc CHECKPOINT",
        "libxl EMULATOR_XENSTORE_DATA", "libxl EMULATOR_CONTEXT", "libxl CHECKPOINT_END",
        "libxc HVM_CONTEXT", "libxc CHECKPOINT", "libxl CHECKPOINT_STATE", "libxl CHECKPOINT_END",
        "libxc END", "libxl END",
    ]  # fmt: skip


def test_bare_libxc_checkpoints_stay_libxc() -> None:
    data = libxc_head() + record(14) + CONTEXT + record(0)
    assert names(read_all(data, LIBXC))[2:] == [
        "libxc CHECKPOINT",
        "libxc HVM_CONTEXT",
        "libxc END",
    ]


def test_checkpoint_end_outside_a_libxc_stream_stays_libxl() -> None:
    assert names(read_all(libxl_head() + record(4) + record(0), LIBXL))[1:] == [
        "libxl CHECKPOINT_END", "libxl END",
    ]  # fmt: skip


def test_optional_bit_makes_another_type() -> None:
    data = libxc_head() + record(0x80000000) + record(0x80000001) + record(0)
    first, second = read_all(data, LIBXC)[2:4]
    assert isinstance(first, StreamRecord) and isinstance(second, StreamRecord)
    assert first.optional and not first.known and second.name == "type 0x80000001"


LITTLE = "the stream says that it is big-endian: found options 0x1, expected a little-endian stream"
REFUSED = {
    "xl magic": (XL, b"Y" + xl_head()[1:], "header: wrong magic: found b'Yen saved domain, xl format\\n \\x00 \\r', expected b'Xen saved domain, xl format\\n \\x00 \\r'"),
    "xl big-endian": (XL, xl_head(byteorder=0x04030201), "header: written in big-endian order: found 0x4030201, expected 0x1020304"),
    "xl flags": (XL, xl_head(flags=7), "header: unknown mandatory flags: found 0x7, expected none but 0x3"),
    "xapi signature": (XAPI, wrappers.xapi().replace(b"Domv2-", b"Domv3-"), r"header: unknown signature: found b'XenSavedDomv3-\n', expected b'XenSavedDomv2-\n' or b'XenSavedDomain\n'"),
    "libvirt version": (LIBVIRT, wrappers.libvirt(b"", version=3), "header: unknown version: found 0x3, expected 2 at most"),
    "libvirt big-endian 1": (LIBVIRT, wrappers.libvirt(b"", version=1 << 24), "header: written in big-endian order: found 0x1000000, expected 2 at most"),
    "libvirt big-endian 2": (LIBVIRT, wrappers.libvirt(b"", version=2 << 24), "header: written in big-endian order: found 0x2000000, expected 2 at most"),
    "libxl ident": (LIBXL, libxl_head(ident=5), "header: wrong ident: found 0x0000000000000005, expected 0x4c6962786c466d74"),
    "libxl version": (LIBXL, libxl_head(version=3), "header: unknown version: found 3, expected 2"),
    "libxl big-endian": (LIBXL, libxl_head(options=1), f"header: {LITTLE}"),
    "libxc marker": (LIBXC, libxc_head(marker=5), "image header: wrong marker: found 0x0000000000000005, expected 0xffffffffffffffff"),
    "libxc id": (LIBXC, libxc_head().replace(b"XENF", b"XENG"), "image header: wrong id: found 0x58454e47, expected 0x58454e46"),
    "libxc version": (LIBXC, libxc_head(version=4), "image header: unknown version: found 4, expected 2 or 3"),
    "libxc big-endian": (LIBXC, libxc_head(options=1), f"image header: {LITTLE}"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_headers(case: str) -> None:
    layer, data, message = REFUSED[case]
    with pytest.raises(FormatError) as caught:
        read_all(data, layer)
    assert str(caught.value) == f"{layer}: offset 0x0: {message}"
    assert (caught.value.offset, caught.value.layer) == (0, layer)
    unsupported = "big-endian" in case or "version" in case or "flags" in case
    assert isinstance(caught.value, UnsupportedError) == unsupported


def test_xl_file_with_a_legacy_stream_ends_after_its_header() -> None:
    reader = StreamReader(XL)
    reader.feed(xl_head(flags=1))
    assert reader.need == 0


def test_what_is_expected_in_words() -> None:
    """At the end, what was expected last."""
    data = libxc_head() + CONTEXT + record(0)
    reader, told = StreamReader(LIBXC), []
    while reader.need:
        told.append(reader.expecting)
        reader.feed(data[reader.offset : reader.offset + reader.need])
    assert told == ["image header", "domain header", "record header", "record header"]
    assert (reader.expecting, reader.layer) == ("record header", LIBXC)


def test_libxl_options_other_than_byte_order_are_taken() -> None:
    header = StreamReader(LIBXL).feed(libxl_head(options=2))
    assert isinstance(header, Header) and header.fields["options"] == 2


def test_names() -> None:
    assert record_name(LIBXC, 9) == "HVM_CONTEXT"
    assert record_name(LIBXL, 9) == "type 0x9"


@given(st.sampled_from([XL, LIBXL, LIBXC]), st.binary(min_size=400, max_size=400))
def test_any_bytes_are_read_or_refused(layer: str, data: bytes) -> None:
    reader = StreamReader(layer)
    heads = {XL: xl_head(), LIBXL: libxl_head(), LIBXC: libxc_head()}
    data = heads[layer] + data
    try:
        while reader.need and reader.offset + reader.need <= len(data):
            before = reader.offset
            item = reader.feed(data[before : before + reader.need])
            assert item.offset == before and reader.offset == item.end > before
    except FormatError as error:
        assert error.offset == reader.offset


def test_colo_says_between_checkpoints_that_one_begins() -> None:
    """libxl's record 5 of 4 bytes; libxc's 5, of 8 bytes or more, is a PV vcpu's."""
    new = record(streams.LIBXL_CHECKPOINT_STATE, bytes(4))
    data = (
        libxl_head() + record(1) + libxc_head() + record(16) + record(14) + record(4)
        + new + new + record(1, bytes(8)) + record(5, bytes(4)) + record(14) + record(4)
        + record(5, bytes(8)) + record(0) + record(0)
    )  # fmt: skip
    assert names(read_all(data, LIBXL))[4:] == [
        "libxc STATIC_DATA_END", "libxc CHECKPOINT", "libxl CHECKPOINT_END",
        "libxl CHECKPOINT_STATE", "libxl CHECKPOINT_STATE", "libxc PAGE_DATA",
        "libxc X86_PV_VCPU_EXTENDED", "libxc CHECKPOINT", "libxl CHECKPOINT_END",
        "libxc X86_PV_VCPU_EXTENDED", "libxc END", "libxl END",
    ]  # fmt: skip
