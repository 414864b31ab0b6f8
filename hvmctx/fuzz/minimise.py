"""Smaller inputs that still do what a larger one did. First whole parts of the format are
removed, then bytes."""

from __future__ import annotations

from hvmctx.abi.fields import Layout
from hvmctx.abi.vmport import HEAD, VmportProfile
from hvmctx.abi.x86 import DESCRIPTOR
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import Parts, descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "MOST_TRIES", "by_parts", "fewer_records", "minimise", "simpler_contexts", "simpler_vmport",
]  # fmt: skip

MOST_TRIES = 20000
_KEPT = ("version", "used_guestsize")
"""Zeros there would make it another record altogether."""


class _Budget:
    def __init__(self, holds: Callable[[bytes], bool], tries: int) -> None:
        self._holds = holds
        self.left = tries

    def holds(self, data: bytes) -> bool:
        """Whether it does; no once all tries are used up."""
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
    """The smallest input found for which `holds` is true. `simpler` makes variants of an
    input that are simpler in its format; after these, bytes are cut out and zeroed."""
    budget = _Budget(holds, tries)
    if simpler is not None:
        data = _by_parts(data, budget, simpler)
    data = _by_cuts(data, budget)
    # a length that is zero now may have held bytes that were in the way
    return _by_cuts(_by_zeroes(data, budget), budget)


def by_parts(
    data: bytes,
    holds: Callable[[bytes], bool],
    simpler: Callable[[bytes], Iterator[bytes]],
    *,
    tries: int = MOST_TRIES,
) -> bytes:
    """The first half of `minimise`: what is left is still whole parts of the format."""
    return _by_parts(data, _Budget(holds, tries), simpler)


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


def fewer_records(data: bytes) -> Iterator[bytes]:
    """The context without one of its records."""
    context = HvmContext.from_bytes(data, damaged=True)
    entries = context.entries
    for at in range(len(entries)):
        yield _joined([*entries[:at], *entries[at + 1 :]], context.tail)


def simpler_contexts(data: bytes) -> Iterator[bytes]:
    """The context without one of its records; with the body of one empty, or all zeros."""
    yield from fewer_records(data)
    context = HvmContext.from_bytes(data, damaged=True)
    entries = context.entries
    for at, old in enumerate(entries):
        for body in (b"", bytes(len(old.body))):
            if bytes(old.body) != body:
                made = Record(old.typecode, old.instance, body)
                yield _joined([*entries[:at], made, *entries[at + 1 :]], context.tail)


def _joined(entries: list[Record], tail: bytes | memoryview) -> bytes:
    return HvmContext(entries, tail).to_bytes()


def simpler_vmport(profile: VmportProfile) -> Callable[[bytes], Iterator[bytes]]:
    """The record without one of its entries, without the bytes of one buffer (whose length
    is then 0), without what follows the entries, or with one number of the fixed part 0."""

    def variants(record: bytes) -> Iterator[bytes]:
        body = record[DESCRIPTOR.size :]
        if len(body) < profile.read_size:
            return
        parts = Parts(body, profile)
        size = HEAD.locate("used_guestsize")
        for entry in parts.entries:
            made = bytearray(body[: entry.start] + body[entry.end :])
            size.put(made, size.get(body) - (entry.end - entry.start) & 0xFFFFFFFF)
            count = HEAD.locate("used_guestinfo_jumbo" if entry.jumbo else "used_guestinfo")
            count.put(made, max(0, count.get(body) - 1))
            yield _framed(bytes(made))
        for place, (start, there) in zip(profile.buffers, parts.buffers):
            made = bytearray(body[:start] + body[start + there :])
            made[place.offset : place.offset + 2] = bytes(2)
            yield _framed(bytes(made))
        yield _framed(body[: parts.end])
        layout = Layout.of(profile.packed)
        for slot in (*layout.slots(), *layout.reserved()):
            end = slot.offset + slot.size
            if slot.path not in _KEPT and any(body[slot.offset : end]):
                yield _framed(body[: slot.offset] + bytes(slot.size) + body[end:])

    return variants


def _framed(body: bytes) -> bytes:
    return descriptor(body) + body
