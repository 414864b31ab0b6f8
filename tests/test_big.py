"""Streams of tens of gigabytes: the work grows with records, the memory hardly at all."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tracemalloc
from array import array
from pathlib import Path

import pytest

from benchmarks.sparse import write_sparse_stream
from hvmctx.abi import streams
from hvmctx.errors import LengthError, LimitError
from hvmctx.files.source import Source
from hvmctx.image.image import Image, open_image
from hvmctx.image.indexing import Indexer
from hvmctx.render.describe import describe
from hvmctx.restore.image import would_restore
from hvmctx.stream.reader import LIBXC
from hvmctx.verify.views import verify
from tests.builders.running import TOOL
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.streams import libxc_head, record, xl_head

PEAK = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
sys.stdout.write(done.stdout)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_info_of_sixteen_gib(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    write_sparse_stream(str(path), 16, context_bytes())
    done = subprocess.run(
        [sys.executable, "-c", PEAK, sys.executable, TOOL, "info", str(path), "--format", "json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    text, _, peak = done.stdout.rstrip().rpartition("\n")
    plain = json.loads(text)
    assert plain["memory"] == {
        "batches": 4096, "populated": 16 << 30, "exact": True, "pages": {"normal": 16 << 18},
    }  # fmt: skip
    assert plain["complete"] and plain["size"] > 16 << 30
    assert int(peak) < 60 * 1024, "kilobytes of resident memory"
    with open_image(path) as image:
        assert len(image.memory_map) == 16 << 18
        assert len(image.memory_map.runs) == 4096


class Made(Source):
    """A libxc stream of passes over a guest's memory, whose bytes are made when they are asked
    for: heads of batches and their words, zeros for pages."""

    name = "made"
    PAGES = 1024
    LENGTH = 8 + PAGES * (8 + 4096)

    def __init__(self, batches: int, passes: int) -> None:
        self._head = libxc_head() + record(streams.LIBXC_STATIC_DATA_END)
        self._tail = record(streams.LIBXC_HVM_CONTEXT, context_bytes()) + record(0)
        self._of_pass = batches
        self._batches = batches * passes * (8 + self.LENGTH)
        super().__init__(len(self._head) + self._batches + len(self._tail))

    def read_at(self, offset: int, count: int) -> bytes:
        if offset < len(self._head):
            return self._head[offset : offset + count]
        offset -= len(self._head)
        if offset >= self._batches:
            return self._tail[offset - self._batches :][:count]
        number, offset = divmod(offset, 8 + self.LENGTH)
        data = struct.pack("<4I", streams.LIBXC_PAGE_DATA, self.LENGTH, self.PAGES, 0)
        if offset + count > len(data):
            first = number % self._of_pass * self.PAGES
            data += array("Q", range(first, first + self.PAGES)).tobytes()
        return data[offset : offset + count].ljust(count, b"\0")


@pytest.mark.parametrize(
    ("batches", "passes"),
    [(8_000, 2), pytest.param(1 << 21, 2, marks=pytest.mark.long)],
    ids=["31 GiB", "16 TiB"],
)
def test_the_index_of_a_big_guest_takes_hardly_any_memory(batches: int, passes: int) -> None:
    tracemalloc.start()
    try:
        image = Image(Made(batches, passes), LIBXC)
        Indexer(image, keep_words=False, watcher=None).run()
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
        assert image.complete and len(image.records) == batches * passes + 3
        assert sum(many for _, many in image.records.rows()) == len(image.records)
        assert sum(one.count for one in image.batches) == batches * passes * Made.PAGES
        last = image.records[-3]
        assert (last.name, last.end) == ("PAGE_DATA", image.records[-2].offset)
        assert len(image.context.vcpus) > 0
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_guest_that_is_sent_twice_is_judged() -> None:
    with Image(Made(800, 2), LIBXC) as image:
        Indexer(image, keep_words=False, watcher=None).run()
        assert describe(image)["memory"] == {
            "batches": 1600, "populated": 800 << 22, "exact": True,
            "pages": {"normal": 1600 << 10},
        }  # fmt: skip
        assert verify(image) == [] and would_restore(image, "4.17").accepted


def sparse(path: Path, head: bytes, size: int) -> Path:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return path


def test_claimed_lengths_that_a_sparse_file_makes_true(tmp_path: Path) -> None:
    """Gigabytes of holes are no reason to read them."""
    whole = 8 << 30
    zeros = sparse(tmp_path / "zeros", b"", whole)
    with pytest.raises(LimitError, match="more than 64 MiB: --max-size N allows more"):
        open_image(zeros)
    head = libxc_head() + streams.RECORD_HEADER.pack(streams.LIBXC_HVM_CONTEXT, 0xFFFFFFF0)
    long = sparse(tmp_path / "context", head, whole)
    with open_image(long) as image, pytest.raises(LengthError, match="too long to be read"):
        _ = image.context
    head = xl_head()[:44] + b"\xf0\xff\xff\xff"
    long = sparse(tmp_path / "config", head, whole)
    with open_image(long) as image, pytest.raises(LimitError, match="more than 1 MiB"):
        _ = image.config
    from hvmctx.json_form.document import Document

    with pytest.raises(LimitError, match="too much for JSON if it is not stripped"):
        Document.of_input(tmp_path / "context")


@pytest.mark.long
def test_truncation_at_every_byte_of_the_example() -> None:
    data = EXAMPLE.read_bytes()
    for cut in range(len(data)):
        with open_image(data[:cut], layer="xl") as image:
            assert len(image.problems) == 1 and not image.complete, cut
            assert image.problems[0].offset <= cut
            if cut > 0xDB3D:  # the HVM_CONTEXT record is all there
                assert image.context.damage is None
