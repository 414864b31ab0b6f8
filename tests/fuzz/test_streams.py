from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi.releases import Release
from hvmctx.fuzz.streams import mutate_stream, valid_stream
from hvmctx.image.image import open_image
from hvmctx.restore.stream import judge
from tests.builders.samples import STREAMS
from tests.builders.streams import libxc_head, record


@pytest.mark.parametrize("version", [2, 3])
def test_valid_streams_are_taken(version: int) -> None:
    for seed in range(10):
        with open_image(valid_stream(random.Random(seed), version)) as image:
            assert image.complete and judge(image, Release("newest")) is None


@given(st.binary(max_size=60), st.integers(0, 1 << 32))
def test_any_bytes_are_mutated(data: bytes, seed: int) -> None:
    made, what = mutate_stream(data, random.Random(seed), "libxc")
    assert (made, what) == mutate_stream(data, random.Random(seed), "libxc"), "the seed decides"
    assert what and (what != "nothing" or made == data)


@pytest.mark.parametrize(
    "start",
    [libxc_head(), libxc_head() + record(0), STREAMS[0].read_bytes()],
    ids=["headers", "empty", "genuine"],
)
def test_edits_of_edits(start: bytes) -> None:
    """Found by a campaign: what one edit leaves, the next must be able to take."""
    for seed in range(60):
        rng, data = random.Random(seed), start
        seen = {data}
        for _ in range(12):
            data, what = mutate_stream(data, rng, "libxc")
            assert what
            seen.add(data)
        assert len(seen) > 3


def test_edits_differ() -> None:
    data = valid_stream(random.Random(1))
    found = [mutate_stream(data, random.Random(seed))[0] for seed in range(200)]
    assert len(set(found)) > 150
    assert found.count(data) < 20
