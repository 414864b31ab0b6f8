"""ELF cores made by hand."""

from __future__ import annotations

from hvmctx.stream.elf import Note, Segment, head_size, head_to_bytes, notes_to_bytes


def core_of(sizes: list[tuple[int, int, bytes]], notes: list[Note]) -> bytes:
    """(address, size, contents) of each segment."""
    packed = notes_to_bytes(notes)
    at, segments = head_size(len(sizes), packed), []
    for address, size, contents in sizes:
        segments.append(Segment(address, at, len(contents), size))
        at += len(contents)
    return head_to_bytes(segments, packed) + b"".join(contents for _, _, contents in sizes)
