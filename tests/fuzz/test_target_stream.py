from __future__ import annotations

import random

from hvmctx.abi import streams
from hvmctx.fuzz.target_stream import STREAM
from hvmctx.image.image import open_image


def test_what_is_compressed_is_another_matter() -> None:
    assert STREAM.run(b"\x1f\x8b\x86") == set()


def test_one_seed_is_of_a_pv_guest() -> None:
    *_, data = STREAM.seeds(random.Random(1))
    with open_image(data, layer="libxc") as image:
        assert image.complete and not image.problems
        found = {item.type for item in image.records}
    assert {streams.LIBXC_X86_PV_INFO, streams.LIBXC_SHARED_INFO} <= found
