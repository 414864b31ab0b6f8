"""How many bytes of an input a finding is about: those of the header or record that it is in."""

from __future__ import annotations

from bisect import bisect_left

from hvmctx.abi.streams import CONTEXT, LIBXC, LIBXC_HVM_CONTEXT
from hvmctx.context.record import DESCRIPTOR_SIZE
from hvmctx.errors import HvmctxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvmctx.findings import Finding
    from hvmctx.image.image import Image

__all__ = ["measure"]


def measure(image: Image, findings: list[Finding]) -> None:
    """Give each finding the `length` of what is at its offset, up to the end of the header or
    record that holds it, the innermost. One about nothing of these keeps None, and one about what
    a pipe ends in: how much of that there was is not known. One pass over what the image has,
    whatever the number of findings."""
    found = sorted((one for one in findings if one.record), key=lambda one: one.offset)
    offsets = [one.offset for one in found]
    whole = image.source.size
    for start, size, many in _pieces(image) if found else ():
        if whole is None and image.stopped is not None and start >= image.end:
            continue
        first = bisect_left(offsets, start)
        for one in found[first : bisect_left(offsets, start + size * many)]:
            end = one.offset + size - (one.offset - start) % size
            one.length = max(0, (end if whole is None else min(end, whole)) - one.offset)


def _pieces(image: Image) -> Iterator[tuple[int, int, int]]:
    """Start, size, and how many of that size follow each other; what is in another one after
    it."""
    for header in image.headers:
        yield header.offset, header.end - header.offset, 1
    for record, many in image.records.rows():
        yield record.offset, record.end - record.offset, many
    whole = image.last(LIBXC, LIBXC_HVM_CONTEXT)
    if whole is None and image.format != CONTEXT:
        return
    base = 0 if whole is None else whole.body_offset
    try:
        entries = image.read_context().entries
    except HvmctxError:  # a finding says why
        return
    for entry in entries:
        yield base + (entry.offset or 0), DESCRIPTOR_SIZE + len(entry.body), 1
