from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams, x86
from hvmctx.edit.strip import strip
from hvmctx.errors import (
    FormatError,
    HvmctxError,
    LengthError,
    LimitError,
    UnsupportedError,
    UsageError,
)
from hvmctx.image.image import open_image
from hvmctx.limits import DEFAULT
from tests.builders.samples import DATA, EXAMPLE, STREAMS, context_bytes
from tests.builders.streams import SMALL, Pipe, libxc_stream, page_data, record, word


def stripped(data: bytes | io.RawIOBase, keep_holes: bool = False) -> bytes:
    out = io.BytesIO()
    strip(data, out, keep_holes=keep_holes)
    return out.getvalue()


TYPES = sorted(streams.PAGE_TYPES)
CONTEXT = record(streams.LIBXC_HVM_CONTEXT, context_bytes() + b"odd", pad=b"\1")
BEHIND = b"not of the image"
batches = st.lists(
    st.lists(st.builds(word, st.integers(0, 99), st.sampled_from(TYPES)), min_size=1, max_size=9),
    max_size=5,
)


@given(batches, st.booleans(), st.booleans())
def test_only_pages_change(sent: list[list[int]], keep_holes: bool, piped: bool) -> None:
    before = libxc_stream(*(page_data(*batch) for batch in sent), CONTEXT)
    after = stripped(Pipe(before + BEHIND) if piped else before + BEHIND, keep_holes)
    kept = [b for b in sent if keep_holes or any(one >> 60 != 0xF for one in b)]
    emptied = [
        [
            word(one & streams.PFN_MASK, 0xE) if one >> 60 in streams.PAGE_TYPES_WITH_DATA else one
            for one in batch
        ]
        for batch in kept
    ]
    assert after == libxc_stream(*(page_data(*batch) for batch in emptied), CONTEXT)


@given(batches)
def test_memory_keeps_its_layout(sent: list[list[int]]) -> None:
    before = libxc_stream(*(page_data(*batch) for batch in sent))
    with open_image(before) as one, open_image(stripped(before, keep_holes=True)) as other:

        def pfns(image: object) -> list[int]:
            runs = one.memory_map if image is one else other.memory_map
            return [pfn for run in runs.populated() for pfn in range(run.pfn, run.end)]

        assert pfns(one) == pfns(other)


def test_counts() -> None:
    out = io.BytesIO()
    done = strip(libxc_stream(page_data(word(1), word(2, 0xF)), page_data(word(3, 0xF))), out)
    assert (done.pages, done.records, done.absent_words) == (1, 1, 1)


def test_reserved_bits_and_words_stay() -> None:
    odd = word(5) | 0xAB << 52
    with open_image(stripped(libxc_stream(page_data(odd)))) as image:
        (batch,) = image.records_of("libxc", streams.LIBXC_PAGE_DATA)
        assert int.from_bytes(image.words(batch), "little") == word(5, 0xE) | 0xAB << 52


@pytest.mark.parametrize("path", [EXAMPLE, *STREAMS], ids=lambda path: path.stem)
def test_stripping_again_changes_nothing_more(path: Path) -> None:
    once = stripped(path.read_bytes())
    assert stripped(once) == once
    if path == EXAMPLE:
        assert once == path.read_bytes()


@pytest.mark.parametrize("more", [b"", b"x", bytes(1 << 20)])
def test_contexts_pass_up_to_their_end(more: bytes) -> None:
    out = io.BytesIO()
    done = strip(context_bytes() + more, out)
    assert out.getvalue() == context_bytes()
    assert (done.end, done.trailing) == (len(context_bytes()), bool(more))


def test_a_context_without_an_end_passes_whole() -> None:
    for size in range(1, len(context_bytes())):
        assert stripped(context_bytes()[:size]) == context_bytes()[:size]


def test_what_never_ends(tmp_path: Path) -> None:
    """15 TiB of zeros begin with an END record, which ends a context; others have a limit."""
    path = tmp_path / "sparse"
    record = x86.DESCRIPTOR.pack(2, 0, 0)
    path.write_bytes(record)
    os.truncate(path, 15 << 40)
    with open(tmp_path / "out", "w+b") as out:
        assert strip(path, out).trailing
    assert (tmp_path / "out").read_bytes() == record + bytes(8)
    path.write_bytes((x86.DESCRIPTOR.pack(2, 0, 4088) + bytes(4088)) * (DEFAULT.input // 4096 + 1))
    with pytest.raises(LimitError, match="more than 64 MiB: --max-size N allows more"):
        stripped(path.read_bytes())
    path.write_bytes(x86.DESCRIPTOR.pack(2, 0, 0) * (DEFAULT.context_records + 1))
    with pytest.raises(LimitError, match="more than 65536 records"):
        stripped(path.read_bytes())


def test_holes_stay_holes(tmp_path: Path) -> None:
    """An optional record that no release knows, with a body of 3 GiB and little in it."""
    path = tmp_path / "sparse"
    head, end = libxc_stream(record(0x80000099, b""))[:-8], libxc_stream()[-8:]
    size = 3 << 30
    with open(path, "wb") as file:
        file.write(head[:-8] + streams.RECORD_HEADER.pack(0x80000099, size))
        file.seek(size // 2, os.SEEK_CUR)
        file.write(b"something")
        file.seek(len(head) + size)
        file.write(end)
    with open(tmp_path / "out", "w+b") as out:
        strip(path, out)
    status = os.stat(tmp_path / "out")
    assert (status.st_size, status.st_blocks * 512 < 1 << 20) == (os.stat(path).st_size, True)
    with open(tmp_path / "out", "rb") as out:
        assert out.read(len(head)) == head[:-8] + streams.RECORD_HEADER.pack(0x80000099, size)
        out.seek(len(head) + size // 2)
        assert out.read(9) == b"something"
        out.seek(len(head) + size)
        assert out.read() == end


def test_all_layers_pass() -> None:
    expected = SMALL.replace(
        page_data(word(1), word(2, 0xF)), page_data(word(1, 0xE), word(2, 0xF))
    )
    assert stripped(SMALL) == expected


def test_every_truncation_is_refused() -> None:
    for cut in range(60, len(SMALL), 11):
        with pytest.raises(FormatError):
            stripped(SMALL[:cut])


@pytest.mark.parametrize("count", [0, 2, 0x7FFFFFFF, 0xFFFFFFFF])
def test_counts_that_lie(count: int) -> None:
    good = page_data(word(1))
    bad = good[:8] + count.to_bytes(4, "little") + good[12:]
    with pytest.raises(LengthError, match="count"):
        stripped(libxc_stream(bad))


def test_what_cannot_be_stripped() -> None:
    for name in ("legacy_hvm_w64.in.bin", "legacy_hvm_w64_xl.in.bin"):
        with pytest.raises(UnsupportedError, match="convert"):
            stripped((DATA / "streams" / name).read_bytes())
    with pytest.raises(HvmctxError):
        stripped(b"#!/bin/sh\n")
    with pytest.raises(UsageError):
        strip(b"", io.BytesIO(), layer="bogus")


@pytest.mark.parametrize("data", [b"nothing of Xen's", b"BZh9" + bytes(100)])
def test_what_it_is_is_recognised_as_everywhere(data: bytes) -> None:
    with pytest.raises(HvmctxError) as everywhere:
        open_image(data)
    with pytest.raises(HvmctxError) as here:
        strip(data, io.BytesIO())
    assert str(here.value) == str(everywhere.value)
    with pytest.raises(UsageError, match="unknown layer 'tape'"):
        strip(EXAMPLE, io.BytesIO(), layer="tape")
