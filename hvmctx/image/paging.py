"""From a virtual address to a guest-physical one, by the page tables that lie in an image's
memory, as a CPU with those control registers goes about it.

All modes of x86: without paging, 32-bit (two levels; PSE and PSE-36), PAE, four and five levels,
with pages of every size. Rights are not checked: a debugger sees what the supervisor's most
powerful access does. An entry that points to its own table is no mistake, Windows has one; a
walk has as many steps as the mode has levels, whatever the tables say.

What a CPU keeps apart from memory is not in an image: PAE's four PDPT entries are read where CR3
points to, and no TLB is there. Let pass are bits that only AMD reserves (G in PML4 and PML5), and
A in those four entries: where QEMU emulates the CPU (7.2), it sets it.
Source: Intel SDM vol. 3, 4.1 to 4.5; Xen's asm/guest_pt.h and mm/guest_walk.c, c447b730.
"""

from __future__ import annotations

from hvmctx.abi.streams import PAGE_SIZE
from hvmctx.abi.x86_bits import CR0, CR4, EFER, PageEntry, short_names
from hvmctx.errors import MissingPageError, TranslationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvmctx.image.memory_map import Memory

__all__ = ["MODES", "WIDEST", "Paging", "Step", "Walk"]

WIDEST = 52
"""Bits that a physical address has at most."""
_NONE, _32_BIT, _PAE, _4_LEVEL, _5_LEVEL = "no", "32-bit", "PAE", "4-level", "5-level"
_PT = ("PT", 12)
_LEVELS = {
    _NONE: (),
    _32_BIT: (("PD", 22), _PT),
    _PAE: (("PDPT", 30), ("PD", 21), _PT),
    _4_LEVEL: (("PML4", 39), ("PDPT", 30), ("PD", 21), _PT),
    _5_LEVEL: (("PML5", 48), ("PML4", 39), ("PDPT", 30), ("PD", 21), _PT),
}
"""Of each mode its tables, and which bit of an address is the lowest of the index into each."""
MODES = tuple(_LEVELS)
_ADDRESS_BITS = {_4_LEVEL: 48, _5_LEVEL: 57}
"""Of a canonical address, in the modes whose addresses have 64 bits; others have 32."""
_FRAME = (1 << WIDEST) - PAGE_SIZE
_MOST_KEPT = 64
"""Page tables that are not read again."""


class Step:
    """One table on the way: `level` (PML5, PML4, PDPT, PD, PT), the table's guest-physical address,
    `index` into it, where that entry lies, and its value."""

    __slots__ = ("entry", "entry_gpa", "index", "level", "table")

    def __init__(self, level: str, table: int, index: int, entry_gpa: int, entry: int) -> None:
        self.level = level
        self.table = table
        self.index = index
        self.entry_gpa = entry_gpa
        self.entry = entry

    def __repr__(self) -> str:
        return f"<{self.level}[{self.index}] at {self.entry_gpa:#x}: {self.entry:#x}>"

    @property
    def flags(self) -> list[str]:
        """The names of the bits that are set outside of the address, from the lowest."""
        names = short_names(PageEntry, self.entry & ~_FRAME)
        return ["PAT" if name == "PS" and self.level == "PT" else name for name in names]


class Walk:
    """What came of an address: its `steps`; `gpa`, the guest-physical address, and `page_size`, the
    bytes of the page that it is in. Where it leads nowhere, `error` says why, and both are 0."""

    __slots__ = ("address", "error", "gpa", "page_size", "steps")

    def __init__(self, address: int) -> None:
        self.address = address
        self.steps: list[Step] = []
        self.gpa = 0
        self.page_size = 0
        self.error: TranslationError | None = None

    def __repr__(self) -> str:
        where = self.error or f"{self.address:#x} is at gpa {self.gpa:#x}"
        return f"<walk: {where}>"

    @property
    def executable(self) -> bool:
        """Whether there is a page, and no entry on the way forbids to fetch code from it."""
        return self.error is None and not any(step.entry & PageEntry.NX for step in self.steps)


class Paging:
    """The address translation of one vcpu. `mode` is one of `MODES`, `root` the guest-physical
    address of the first table. Keeps the tables that it has read, some of them."""

    def __init__(
        self, memory: Memory, *, cr0: int, cr3: int, cr4: int, efer: int, width: int = WIDEST
    ) -> None:
        """`width`: how many bits a physical address of the guest's CPU has; those above are
        reserved."""
        self._memory = memory
        self._tables: dict[int, bytes] = {}
        self.mode = _mode(cr0, cr4, efer)
        self.root = cr3 & _FRAME
        if self.mode == _PAE:
            self.root = cr3 & 0xFFFFFFE0
        elif self.mode == _32_BIT:
            self.root = cr3 & 0xFFFFF000
        self.no_execute = bool(efer & EFER.NXE) and self.mode not in (_NONE, _32_BIT)
        """Whether entries can forbid to fetch code."""
        self._size = 4 if self.mode == _32_BIT else 8
        self._width = width
        self._pse = bool(cr4 & CR4.PSE)

    def __repr__(self) -> str:
        return f"<{self.mode} paging, tables from {self.root:#x}>"

    @property
    def address_bits(self) -> int:
        """32 or 64."""
        return 64 if self.mode in _ADDRESS_BITS else 32

    def walk(self, address: int) -> Walk:
        """Where a virtual address leads. Raises what reading memory raises but MissingPageError;
        all else that is wrong is the walk's `error`."""
        walk = Walk(address)
        try:
            self._check(address)
            walk.gpa, walk.page_size = self._follow(walk)
        except TranslationError as error:
            walk.error = error
        return walk

    def translate(self, address: int) -> int:
        """The guest-physical address. Raises TranslationError."""
        walk = self.walk(address)
        if walk.error is not None:
            raise walk.error
        return walk.gpa

    def pages(self, address: int, size: int) -> Iterator[tuple[Walk, int]]:
        """A walk for each page that `size` bytes from `address` on lie in, and how many of them
        do. Raises TranslationError where there is none."""
        end = address + size
        while address < end:
            walk = self.walk(address)
            if walk.error is not None:
                raise walk.error
            count = min(end - address, walk.page_size - address % walk.page_size)
            yield walk, count
            address += count

    def _check(self, address: int) -> None:
        """Raises TranslationError for an address that is none in this mode."""
        bits = _ADDRESS_BITS.get(self.mode)
        if address >> self.address_bits:
            raise TranslationError(
                f"too large: with {self.mode} paging an address has {self.address_bits} bits",
                address=address,
            )
        if bits and address >> bits - 1 not in (0, (1 << 65 - bits) - 1):
            raise TranslationError(
                f"not canonical: with {self.mode} paging, bits {bits - 1} to 63 are all the same",
                address=address,
            )

    def _follow(self, walk: Walk) -> tuple[int, int]:
        """Guest-physical address, size of the page."""
        address, table = walk.address, self.root
        for level, shift in _LEVELS[self.mode]:
            index = address >> shift & (PAGE_SIZE // self._size - 1)
            step = Step(level, table, index, table + index * self._size, 0)
            step.entry = entry = self._entry(walk, step)
            walk.steps.append(step)
            if not entry & PageEntry.P:
                raise _stopped(walk, "not present")
            large = shift > _PT[1] and bool(entry & PageEntry.PS) and self._may_be_large(level)
            reserved = entry & self._reserved(level, shift, large)
            if reserved:
                raise _stopped(walk, f"reserved bits are set, {reserved:#x}")
            table = entry & _FRAME
            if large:
                table &= -1 << shift
                if self.mode == _32_BIT:
                    table |= (entry >> 13 & 0xFF) << 32
            if large or level == _PT[0]:
                return table | address & (1 << shift) - 1, 1 << shift
        return address, PAGE_SIZE  # no tables

    def _entry(self, walk: Walk, step: Step) -> int:
        page = step.entry_gpa & -PAGE_SIZE
        data = self._tables.get(page)
        if data is None:
            try:
                data = self._memory.read(page, PAGE_SIZE)
            except MissingPageError as error:
                last = walk.steps[-1] if walk.steps else None
                where = f"CR3 points to {step.table:#x}" if last is None else _shown(last)
                raise TranslationError(
                    f"the {step.level} is not in memory: {where}; {error}",
                    address=walk.address, level=step.level, entry_gpa=step.entry_gpa,
                ) from None  # fmt: skip
            if len(self._tables) >= _MOST_KEPT:
                self._tables.clear()
            self._tables[page] = data
        at = step.entry_gpa - page
        return int.from_bytes(data[at : at + self._size], "little")

    def _may_be_large(self, level: str) -> bool:
        """Whether PS counts in that table, which is not the last."""
        if self.mode == _32_BIT:
            return self._pse
        return level == "PD" or (level == "PDPT" and self.mode != _PAE)

    def _reserved(self, level: str, shift: int, large: bool) -> int:
        """The bits of a present entry that must be zero."""
        if self.mode == _32_BIT:
            # PSE-36: bits 32 to 39 of the address are at 13 to 20
            return 1 << 21 | (0xFF << max(0, self._width - 32) & 0xFF) << 13 if large else 0
        mask = (1 << WIDEST) - (1 << self._width)
        if self.mode == _PAE:
            mask |= 0x7FF << WIDEST
            if level == "PDPT":
                return mask | PageEntry.NX | 0x1C6
        elif level in ("PML4", "PML5"):
            mask |= PageEntry.PS
        if not self.no_execute:
            mask |= PageEntry.NX
        return mask | (1 << shift) - (1 << 13) if large else mask


def _mode(cr0: int, cr4: int, efer: int) -> str:
    if not cr0 & CR0.PG:
        return _NONE
    if efer & EFER.LMA:
        return _5_LEVEL if cr4 & CR4.LA57 else _4_LEVEL
    return _PAE if cr4 & CR4.PAE else _32_BIT


def _stopped(walk: Walk, why: str) -> TranslationError:
    """By the last of its steps."""
    step = walk.steps[-1]
    return TranslationError(
        f"{why}: {_shown(step)}", address=walk.address, level=step.level,
        entry_gpa=step.entry_gpa, entry=step.entry,
    )  # fmt: skip


def _shown(step: Step) -> str:
    return f"{step.level} entry {step.index} at gpa {step.entry_gpa:#x} is {step.entry:#x}"
