from __future__ import annotations

import io
import os
from array import array
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import InputError
from hvmctx.files.sink import Sink
from hvmctx.image.image import open_image
from hvmctx.image.memory_map import MemoryMap
from hvmctx.image.runs import Run
from hvmctx.save.engine import save
from hvmctx.save.guests import (
    ImageSource,
    MemoryFileSource,
    StillGuest,
    data_stretches,
    stretches,
    types_of,
)
from hvmctx.save.qemu_core import CoreSource
from tests.builders.cores import core_of
from tests.builders.samples import context_bytes
from tests.builders.streams import CONTEXT, libxc_head, libxc_stream, page_data, record, word

PAGE = 4096
pfn_lists = st.sets(st.integers(0, 20), max_size=12).map(sorted)


@given(pfn_lists)
def test_stretches(pfns: list[int]) -> None:
    found = list(stretches(memoryview(array("Q", pfns))))
    assert [pfn for start, end in found for pfn in range(start, end)] == pfns
    assert all(end != start for (_, end), (start, _) in pairwise(found))


@given(pfn_lists, st.data())
def test_data_stretches(pfns: list[int], data: st.DataObject) -> None:
    kinds = bytes(data.draw(st.sampled_from([0, 9, 0xD, 0xE, 0xF])) for _ in pfns)
    found = list(data_stretches(memoryview(array("Q", pfns)), kinds))
    expected = [pfn for pfn, kind in zip(pfns, kinds) if kind < 0xD]
    assert [pfn for start, end in found for pfn in range(start, end)] == expected


@given(st.sets(st.integers(0, 20)), pfn_lists)
def test_types_of(there: set[int], pfns: list[int]) -> None:
    runs = MemoryMap(Run(pfn, 1, pfn % 3, None) for pfn in sorted(there))
    kinds = types_of(runs, memoryview(array("Q", pfns)))
    assert list(kinds) == [pfn % 3 if pfn in there else 0xF for pfn in pfns]
    assert runs.end == max(there, default=-1) + 1


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """Pages 2, 3 and a part of 600, holes between."""
    path = tmp_path / "memory"
    with open(path, "wb") as file:
        file.seek(2 * PAGE)
        file.write(b"2" * PAGE + b"3" * PAGE)
        file.seek(600 * PAGE)
        file.write(b"part")
    return path


def test_a_file_with_holes(memory: Path) -> None:
    source = MemoryFileSource(str(memory), context=context_bytes(), params=[(1, 2)])
    assert source.p2m_size == 601
    out = io.BytesIO()
    save(source, Sink(out))
    source.close()
    with open_image(out.getvalue()) as image:
        populated = {pfn for run in image.memory_map.populated() for pfn in range(run.pfn, run.end)}
        assert {2, 3, 600} <= populated < set(range(601)), "whole blocks of the file system"
        for pfn, page in ((2, b"2" * PAGE), (600, b"part".ljust(PAGE, b"\0"))):
            found = image.memory_map.lookup(pfn)
            assert found is not None and found[1] is not None
            assert bytes(image.source.read_at(found[1], PAGE)) == page
        assert image.complete and image.params == {1: 2}


def test_holes_as_blank_pages(memory: Path) -> None:
    source = MemoryFileSource(str(memory), holes_absent=False, context=context_bytes())
    out = io.BytesIO()
    assert save(source, Sink(out)).passes == [601]
    with open_image(out.getvalue()) as image:
        assert image.memory_map.counts() == {0: 601}


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        MemoryFileSource(str(tmp_path / "none"))
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    assert MemoryFileSource(str(empty)).p2m_size == 0


def test_memory_that_cannot_be_mapped(tmp_path: Path) -> None:
    """It would be a guest without memory: the size of a pipe or device is 0."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (str(fifo), "/dev/null", "/dev/zero"):
        with pytest.raises(InputError, match="not a regular file or a block device"):
            MemoryFileSource(path)
    with pytest.raises(InputError, match="directory"):
        MemoryFileSource(str(tmp_path))


def test_a_guest_without_anything() -> None:
    guest = StillGuest(context=b"x")
    pfns = memoryview(array("Q", [1, 2]))
    assert guest.page_types(pfns) == b"\x0f\x0f" and list(guest.pages(pfns, b"\x0f\x0f")) == []
    assert guest.fetch_dirty(bytearray(1)) == 0 and guest.pause()


def test_a_pfn_far_away_costs_nothing() -> None:
    data = libxc_head() + record(16) + page_data(word(2), word(3), word(1 << 27))
    with open_image(data + record(9, context_bytes()) + record(0)) as image:
        source = ImageSource(image)
        out = io.BytesIO()
        assert list(source.all_pages()) == [(2, 4), (1 << 27, (1 << 27) + 1)]
        assert save(source, Sink(out)).passes == [3]
        with open_image(out.getvalue()) as again:
            assert [run.pfn for run in again.memory_map.runs] == [2, 1 << 27]


@pytest.mark.parametrize("kind", ["memory", "core", "image"])
def test_a_file_that_is_cut_while_it_is_read(kind: str, tmp_path: Path) -> None:
    """A file that is mapped would end the process with SIGBUS."""
    path = tmp_path / "in"
    pages = b"".join(bytes((n,)) * PAGE for n in range(1, 9))
    source: StillGuest
    if kind == "memory":
        path.write_bytes(pages)
        source = MemoryFileSource(str(path))
    elif kind == "core":
        path.write_bytes(core_of([(0, len(pages), pages)], []))
        source = CoreSource(str(path))
    else:
        path.write_bytes(libxc_stream(page_data(*(word(n) for n in range(8))), CONTEXT))
        source = ImageSource(open_image(path))
    pfns = memoryview(array("Q", range(8)))
    types = source.page_types(pfns)
    assert types == bytes(8) and sum(map(len, source.pages(pfns, types))) == 8 * PAGE
    os.truncate(path, path.stat().st_size - 5 * PAGE)
    with pytest.raises(InputError, match=f"{path}: ends at 0x.* cut while it was read"):
        list(source.pages(pfns, types))
