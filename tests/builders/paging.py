"""Guests with page tables: pages that are mapped, and the image that has them."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from hvmctx.abi import streams
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from tests.builders.contexts import cpu
from tests.builders.samples import context_bytes
from tests.builders.streams import libxc_stream, record, word

PAGE = 4096
PRESENT = 0x27
"""P, RW, US, A."""
LARGE = 1 << 7
NX = 1 << 63
REGISTERS: dict[str, dict[str, int]] = {
    "no": dict(cr0=0x11, cr4=0, msr_efer=0),
    "32-bit": dict(cr0=0x80000011, cr4=0x10, msr_efer=0),
    "PAE": dict(cr0=0x80000011, cr4=0x20, msr_efer=0x800),
    "4-level": dict(cr0=0x80050033, cr4=0x20, msr_efer=0xD01),
    "5-level": dict(cr0=0x80050033, cr4=0x1020, msr_efer=0xD01),
}
"""Of each mode, with PSE and no-execute where it has these."""
SHIFTS = {
    "32-bit": (22, 12), "PAE": (30, 21, 12), "4-level": (39, 30, 21, 12),
    "5-level": (48, 39, 30, 21, 12),
}  # fmt: skip
SIZES = {
    "32-bit": (12, 22), "PAE": (12, 21), "4-level": (12, 21, 30), "5-level": (12, 21, 30),
}  # fmt: skip
"""Of the pages of each mode, as powers of two."""


class Tables:
    """Page tables of a mode, and what else lies in memory. `map` adds a page, and the tables
    on the way; each table takes the next page from `first` on."""

    def __init__(self, mode: str, first: int = 0x100000) -> None:
        self.mode = mode
        self.memory: dict[int, bytearray] = {}
        self.width = 4 if mode == "32-bit" else 8
        self.next = first
        self.policy = b""
        """A record that comes before the memory."""
        self.root = self._table() if mode in SHIFTS else 0

    def _table(self) -> int:
        self.memory[self.next // PAGE] = bytearray(PAGE)
        self.next += PAGE
        return self.next - PAGE

    def entry_at(self, address: int, shift: int) -> int | None:
        """Where the entry for an address lies in its table of that level; None without one."""
        table = self.root
        for level in SHIFTS[self.mode]:
            place = table + (address >> level) % (PAGE // self.width) * self.width
            if level == shift:
                return place
            table = self.get(place) & 0xFFFFFFFFFF000
            if not table:
                return None
        raise AssertionError(shift)

    def get(self, place: int) -> int:
        page, at = self.memory[place // PAGE], place % PAGE
        return int.from_bytes(page[at : at + self.width], "little")

    def put(self, place: int, entry: int) -> None:
        page, at = self.memory[place // PAGE], place % PAGE
        page[at : at + self.width] = entry.to_bytes(self.width, "little")

    def map(self, address: int, gpa: int, bits: int = 12, flags: int = PRESENT) -> bool:
        """A page of 2**`bits` bytes; no, where something is already."""
        table = self.root
        for level in SHIFTS[self.mode]:
            place = table + (address >> level) % (PAGE // self.width) * self.width
            entry = self.get(place)
            if level == bits:
                if entry:
                    return False
                if self.mode == "32-bit" and bits == 22:
                    gpa = gpa & 0xFFC00000 | gpa >> 32 << 13
                self.put(place, gpa | flags | (LARGE if bits > 12 else 0))
                return True
            if entry & LARGE:
                return False
            if not entry:
                entry = self._table() | (1 if (self.mode, level) == ("PAE", 30) else PRESENT)
                self.put(place, entry)
            table = entry & 0xFFFFFFFFFF000
        raise AssertionError(bits)

    def fill(self, gpa: int, data: bytes) -> None:
        """Contents of memory."""
        for at, byte in enumerate(data, gpa):
            self.memory.setdefault(at // PAGE, bytearray(PAGE))[at % PAGE] = byte

    def image(self, *vcpus: Mapping[str, int], **registers: int) -> bytes:
        """A libxc stream with that memory, and a vcpu of that mode; of several the registers in
        which each differs."""
        known = {**REGISTERS[self.mode], "cr3": self.root, **registers}
        return image(self.memory, *vcpus, policy=self.policy, registers=known)


def image(
    memory: Mapping[int, bytes | bytearray],
    *vcpus: Mapping[str, int],
    registers: Mapping[str, int],
    policy: bytes = b"",
) -> bytes:
    """A libxc stream of pages by pfn and of vcpus with these registers."""
    context = HvmContext.from_bytes(context_bytes())
    cpu(**registers)(context)
    (first,) = context.records("CPU")
    for number, fields in enumerate(vcpus[1:], 1):
        context.add(Record("CPU", number, bytes(first.body)))
        struct_of = context.record("CPU", number).struct
        for name, value in fields.items():
            setattr(struct_of, name, value)
    if vcpus:
        cpu(**vcpus[0])(context)
    pfns = sorted(memory)
    words = struct.pack(f"<II{len(pfns)}Q", len(pfns), 0, *map(word, pfns))
    pages = record(streams.LIBXC_PAGE_DATA, words + b"".join(memory[pfn] for pfn in pfns))
    return libxc_stream(
        *([policy] if policy else []), *([pages] if pfns else []),
        record(streams.LIBXC_HVM_CONTEXT, context.to_bytes()),
    )  # fmt: skip
