"""Streams of tens of gigabytes: the work grows with records, the memory hardly at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.sparse import write_sparse_stream
from hvmctx.abi import streams
from hvmctx.errors import LengthError, LimitError
from hvmctx.image.image import open_image
from tests.builders.running import TOOL
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.streams import libxc_head, xl_head

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
