"""The target `strip`: any bytes as a libxc stream, without the contents of its pages."""

from __future__ import annotations

import io

from hvmctx.errors import HvmctxError
from hvmctx.files.opening import is_compressed
from hvmctx.fuzz.target import Target
from hvmctx.fuzz.target_stream import mutated, stream_seeds
from hvmctx.image.image import open_image

__all__ = ["STRIP"]


def _run(data: bytes) -> set[str]:
    """Strip keeps every record, and which pages there are."""
    from hvmctx.edit.strip import strip

    if is_compressed(data):  # another format, then
        return set()
    out = io.BytesIO()
    try:
        strip(data, out, layer="libxc", keep_holes=True)
    except HvmctxError as error:
        return {type(error).__name__}
    with open_image(data, layer="libxc") as before, open_image(out.getvalue()) as after:
        assert before.complete
        assert len(before.records) == len(after.records)
        assert before.memory_map.counts().keys() | {0xE} >= after.memory_map.counts().keys()
    return {"stripped"}


_KNOWN = ("stripped", "FormatError", "LengthError", "TruncatedError", "UnsupportedError")
STRIP = Target("strip", _run, _KNOWN, stream_seeds, mutated)
