from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.errors import FieldError, UsageError
from hvmctx.files.source import BufferSource
from hvmctx.image.image import open_image
from hvmctx.image.indexing import walk
from hvmctx.stream.reader import LIBXC, LIBXL, XL, Header, StreamReader
from hvmctx.stream.writer import LARGEST_RECORD, StreamWriter
from hvmctx.stream.xlfile import config_to_bytes
from tests.builders.samples import DATA, EXAMPLE, IMAGES, STREAMS

bodies = st.binary(max_size=20)
libxc_records = st.lists(st.tuples(st.sampled_from([2, 9, 10, 0x80000033]), bodies), max_size=4)
libxl_records = st.lists(st.tuples(st.sampled_from([2, 3, 5, 77]), bodies), max_size=3)


@given(
    st.sampled_from([XL, LIBXL, LIBXC]),
    libxc_records,
    libxl_records,
    st.sampled_from([2, 3]),
    bodies,
)
def test_what_is_written_is_read(
    layer: str,
    inner: list[tuple[int, bytes]],
    outer: list[tuple[int, bytes]],
    version: int,
    config: bytes,
) -> None:
    writer = StreamWriter(layer)
    out = []
    if layer == XL:
        out.append(writer.xl_header(config_to_bytes(config)))
    if layer != LIBXC:
        out += [writer.libxl_header(2), writer.record(streams.LIBXL_LIBXC_CONTEXT)]
    out += [writer.image_header(version), writer.domain_header(2, (4, 17))]
    out += [writer.record(number, body) for number, body in inner]
    out.append(writer.record(streams.LIBXC_END))
    if layer != LIBXC:
        out += [writer.record(number, body) for number, body in outer]
        out.append(writer.record(streams.LIBXL_END))
    assert writer.done
    data = b"".join(out)
    source = BufferSource(data)
    found = []
    for item in walk(source, StreamReader(layer)):
        if not isinstance(item, Header):
            found.append((item.type, bytes(data[item.body_offset : item.body_end])))
    expected = [*inner, (0, b"")]
    if layer != LIBXC:
        expected = [(1, b""), *expected, *outer, (0, b"")]
    assert found == expected and source.position == len(data)


@pytest.mark.parametrize(
    "path", [*IMAGES, EXAMPLE, *STREAMS, DATA / "streams" / "plain.xl"], ids=lambda path: path.name
)
def test_genuine_images_again(path: Path) -> None:
    with open_image(path) as image:
        writer = StreamWriter(image.format)
        items: list[Any] = list(image.items())
        out = bytearray()
        for item in items:
            if isinstance(item, Header):
                out += writer.again(item)
                out += image.source.read_at(item.body_offset, item.length)
            else:
                out += writer.record(item.type, image.body(item))
        assert writer.done
        assert bytes(out) == bytes(image.source.read_at(0, image.end))


def test_a_checkpointed_stream() -> None:
    writer = StreamWriter(LIBXL)
    out = [
        writer.libxl_header(),
        writer.record(1),
        writer.image_header(),
        writer.domain_header(2, (4, 9)),
    ]
    out += [
        writer.record(14),
        writer.record(3, bytes(8)),
        writer.record(4),
        writer.record(0),
        writer.record(0),
    ]
    assert writer.done
    with open_image(b"".join(out)) as image:
        assert [(r.layer, r.name) for r in image.records] == [
            (LIBXL, "LIBXC_CONTEXT"), (LIBXC, "CHECKPOINT"), (LIBXL, "EMULATOR_CONTEXT"),
            (LIBXL, "CHECKPOINT_END"), (LIBXC, "END"), (LIBXL, "END"),
        ]  # fmt: skip


def test_the_genuine_writers_header() -> None:
    """Bit 1 always; bit 0 and a length only with a configuration; the NUL is counted."""
    data = StreamWriter(XL).xl_header(config_to_bytes(b"{}"))
    assert data[36:] == b"\3\0\0\0" + bytes(4) + b"\7\0\0\0" + b"\3\0\0\0" + b"{}\0"
    data = StreamWriter(XL).xl_header(config_to_bytes(b""))
    assert data[36:] == b"\2\0\0\0" + bytes(4) + b"\4\0\0\0" + bytes(4)


def test_out_of_turn() -> None:
    writer = StreamWriter(LIBXC)
    with pytest.raises(UsageError, match="expected the image header"):
        writer.record(0)
    with pytest.raises(UsageError, match="the libxl header is out of turn"):
        writer.libxl_header()
    writer.image_header()
    with pytest.raises(UsageError, match="expected the domain header"):
        writer.image_header()
    writer.domain_header(2, (4, 17))
    writer.record(0)
    with pytest.raises(UsageError, match="expected the end"):
        writer.record(0)
    with pytest.raises(UsageError, match="unknown layer"):
        StreamWriter("context")


def test_values_that_do_not_fit() -> None:
    writer = StreamWriter(LIBXC)
    with pytest.raises(FieldError, match="version 4"):
        writer.image_header(4)
    writer.image_header()
    with pytest.raises(FieldError, match="header: "):
        writer.domain_header(2, (4, 1 << 32))
    writer.domain_header(2, (4, 17))
    with pytest.raises(FieldError, match="record type 4294967296: "):
        writer.record(1 << 32)
    writer.record_around(9, LARGEST_RECORD)
    with pytest.raises(FieldError, match="HVM_CONTEXT: 134217729 bytes, at most 134217728"):
        writer.record_around(9, LARGEST_RECORD + 1)
    writer.record_around(streams.LIBXC_PAGE_DATA, LARGEST_RECORD + 8)
