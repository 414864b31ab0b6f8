"""Smaller inputs that still do what a larger one did: first parts that the format knows,
then bytes."""

from __future__ import annotations

import struct

from hvmctx.abi.vmport import VmportProfile
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import Parts, descriptor
from hvmctx.fuzz.vmport import length_places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_TRIES = 20000


class _Budget:
    def __init__(self, holds: Callable[[bytes], bool], tries: int) -> None:
        self._holds = holds
        self.left = tries

    def holds(self, data: bytes) -> bool:
        """Whether it does, as long as tries are left."""
        if self.left <= 0:
            return False
        self.left -= 1
        return self._holds(data)


def minimise(
    data: bytes,
    holds: Callable[[bytes], bool],
    simpler: Callable[[bytes], Iterator[bytes]] | None = None,
    *,
    tries: int = MOST_TRIES,
) -> bytes:
    """The smallest input found of which `holds`. `simpler` gives variants of an input that
    are simpler in its format; bytes are then cut out and zeroed."""
    budget = _Budget(holds, tries)
    if simpler is not None:
        data = _by_parts(data, budget, simpler)
    data = _by_cuts(data, budget)
    return _by_zeroes(data, budget)


def _by_parts(data: bytes, budget: _Budget, simpler: Callable[[bytes], Iterator[bytes]]) -> bytes:
    found = True
    while found and budget.left > 0:
        found = False
        for variant in simpler(data):
            if variant != data and len(variant) <= len(data) and budget.holds(variant):
                data, found = variant, True
                break
    return data


def _by_cuts(data: bytes, budget: _Budget) -> bytes:
    size = max(1, len(data) // 2)
    while size:
        at = 0
        while at < len(data):
            variant = data[:at] + data[at + size :]
            if budget.holds(variant):
                data = variant
            else:
                at += size
        size //= 2
    return data


def _by_zeroes(data: bytes, budget: _Budget) -> bytes:
    size = max(1, len(data) // 2)
    while size:
        for at in range(0, len(data), size):
            part = data[at : at + size]
            if any(part):
                variant = data[:at] + bytes(len(part)) + data[at + size :]
                if budget.holds(variant):
                    data = variant
        size //= 2
    return data


def simpler_contexts(data: bytes) -> Iterator[bytes]:
    """Without one record; with one record's body shorter, or zero."""
    context = HvmContext.parse(data)
    entries = context.entries
    for at in range(len(entries)):
        yield _joined([*entries[:at], *entries[at + 1 :]], context.tail)
    for at, old in enumerate(entries):
        for body in (b"", bytes(len(old.body))):
            if bytes(old.body) != body:
                made = Record(old.typecode, old.instance, body)
                yield _joined([*entries[:at], made, *entries[at + 1 :]], context.tail)


def _joined(entries: list[Record], tail: bytes | memoryview) -> bytes:
    return HvmContext(entries, tail).to_bytes()


def simpler_vmport(profile: VmportProfile) -> Callable[[bytes], Iterator[bytes]]:
    """Records without one entry, without one buffer's bytes, with a length of 0, or with a
    part of the head zero."""

    def variants(record: bytes) -> Iterator[bytes]:
        body = record[8:]
        if len(body) < profile.fixed_size:
            return
        parts = Parts(body, profile)
        head = struct.Struct("<I")
        for entry in parts.entries:
            made = bytearray(body[: entry.start] + body[entry.end :])
            size = parts.head[1] - (entry.end - entry.start) & 0xFFFFFFFF
            place = 24 if entry.jumbo else 20
            head.pack_into(made, 4, size)
            head.pack_into(made, place, max(0, parts.head[5 if entry.jumbo else 4] - 1))
            yield _framed(bytes(made))
        for (at, _), (start, there) in zip(length_places(profile), parts.buffers):
            made = bytearray(body[:start] + body[start + there :])
            made[at : at + 2] = bytes(2)
            yield _framed(bytes(made))
        yield _framed(body[: parts.rest])
        for at in (*range(8, 32, 4), *range(32, profile.fixed_size, 2)):
            width = 4 if at < 32 else 2
            if any(body[at : at + width]):
                yield _framed(body[:at] + bytes(width) + body[at + width :])

    return variants


def _framed(body: bytes) -> bytes:
    return descriptor(body) + body
