"""The vcpus of an image with the memory that they see: `image.vcpus`."""

from __future__ import annotations

import re

from hvmctx.abi import x86
from hvmctx.context.hvm_context import Vcpu, Vcpus
from hvmctx.errors import FormatError, MissingPageError, MissingRecordError, UsageError
from hvmctx.image.paging import WIDEST, Paging, Walk
from hvmctx.stream.reader import LIBXC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.image.memory_map import Memory
    from hvmctx.limits import Limits

    Leaves = list[tuple[int, int, int, int, int, int]]
    """Rows of leaf, subleaf, eax, ebx, ecx, edx."""

__all__ = ["GuestVcpu", "GuestVcpus", "address_of"]

_ADDRESS_SIZES = 0x80000008
"""The CPUID leaf whose EAX has the bits of a physical address."""
_NARROWEST = 32


class GuestVcpu(Vcpu):
    """A vcpu of an image: its records as `Vcpu` has them (`vcpu.cpu.rip`), and the guest's memory
    at its virtual addresses. Keep one for many reads: it keeps page tables."""

    __slots__ = ("_guest", "_paging")

    def __init__(self, guest: GuestVcpus, number: int) -> None:
        super().__init__(guest.context, number)
        self._guest = guest
        self._paging: Paging | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The CPU record is at hand, as a context may have very many vcpus. Its lack is also
            asked for here after `paging` has failed for it, as it is an AttributeError."""
            record = self._guest.cpus.get(self.id)
            if name in ("cpu", "paging") and record is None:
                raise MissingRecordError(f"the context has no CPU/{self.id} record")
            return record.struct if name == "cpu" else super().__getattr__(name)

    @property
    def paging(self) -> Paging:
        """The address translation that CR0, CR3, CR4 and EFER select, as the CPU record has them
        when it is first asked for. Raises MissingRecordError without a CPU record."""
        if self._paging is None:
            cpu = self.cpu
            self._paging = Paging(
                self._guest.memory, cr0=cpu.cr0, cr3=cpu.cr3, cr4=cpu.cr4, efer=cpu.msr_efer,
                width=self._guest.address_width,
            )  # fmt: skip
        return self._paging

    def walk(self, address: int) -> Walk:
        """Where a virtual address leads, step by step. Raises as `Paging.walk` does."""
        return self.paging.walk(address)

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from the virtual (linear) address `address` on, whatever their rights. All
        or nothing: nothing is read before all of the pages are found.

        Raises TranslationError where the page tables lead nowhere, MissingPageError where
        they lead to no memory, LimitError for more than `Limits.input` bytes, UsageError for
        numbers below zero, MissingRecordError without a CPU record, and what `Memory.read` does."""
        if address < 0 or size < 0:
            raise UsageError(f"memory: {size} bytes at {address}: expected no negative number")
        self._guest.check_size(size)
        stretches: list[tuple[int, int, int]] = []
        for walk, count in self.paging.pages(address, size):
            before, gpa, length = stretches[-1] if stretches else (0, -1, 0)
            if gpa + length == walk.gpa:
                stretches[-1] = before, gpa, length + count
            else:
                stretches.append((walk.address, walk.gpa, count))
        return b"".join(self._physical(*stretch) for stretch in stretches)

    def _physical(self, address: int, gpa: int, size: int) -> bytes:
        try:
            return self._guest.memory.read(gpa, size)
        except MissingPageError as error:
            raise MissingPageError(
                f"virtual address {address:#x} is at gpa {gpa:#x}: {error}", pfn=error.pfn
            ) from None


class GuestVcpus(Vcpus):
    """The same vcpus as `image.context.vcpus`, each a `GuestVcpu`: what they have in common."""

    __slots__ = ("_leaves", "_width", "context", "cpus", "limits", "memory")

    def __init__(
        self, context: HvmContext, memory: Memory, leaves: Callable[[], Leaves], limits: Limits
    ) -> None:
        """`leaves` gives the CPUID leaves of the guest's policy, and may raise FormatError."""
        super().__init__(context)
        self.context = context
        self.memory = memory
        self.limits = limits
        self.cpus = {record.instance: record for record in context.records(x86.CPU)}
        """By id: the last of each, as Xen loads it."""
        self._leaves = leaves
        self._width = 0

    def __iter__(self) -> Iterator[GuestVcpu]:
        return (GuestVcpu(self, vcpu.id) for vcpu in super().__iter__())

    def __getitem__(self, number: int) -> GuestVcpu:
        """By id. Raises MissingRecordError."""
        return GuestVcpu(self, super().__getitem__(number).id)

    def check_size(self, size: int) -> None:
        """Raises LimitError for more than `Limits.input` bytes."""
        if size > self.limits.input:
            raise self.limits.over("input", "bytes of memory at once", layer=LIBXC, offset=0)

    @property
    def address_width(self) -> int:
        """How many bits the guest's physical addresses have, as its CPU policy says; without one,
        or with one that no CPU has, as many as there can be."""
        if not self._width:
            try:
                leaves = self._leaves()
            except FormatError:
                leaves = []
            width = next((row[2] & 0xFF for row in leaves if row[0] == _ADDRESS_SIZES), WIDEST)
            self._width = width if _NARROWEST <= width <= WIDEST else WIDEST
        return self._width


_TERM = re.compile(r"([+-]?)(?:(0[xX][0-9a-fA-F]+|[0-9]+)|([A-Za-z]\w*))")
_MOST_LETTERS = 200
_REGISTERS = tuple(slot.path for slot in x86.CPU.layout.slots() if slot.size == 8)


def address_of(text: str, cpu: Callable[[], x86.hvm_hw_cpu]) -> int:
    """The address that an expression stands for: numbers and fields of the CPU record, added and
    subtracted modulo 2**64, such as `rsp+0x10` or `cs_base+rip`. `cpu` is asked if it names one.
    Raises UsageError."""
    expected = "expected one such as 0xffffffff81000000, rip or rsp+0x10"
    terms = list(_TERM.finditer(text[:_MOST_LETTERS]))
    if not terms or "".join(term[0] for term in terms) != text or not all(t[1] for t in terms[1:]):
        raise UsageError(f"{text[:60]!r} is not an address; {expected}")
    value = 0
    for sign, number, name in (term.groups() for term in terms):
        if number:
            amount = int(number, 16 if number[:2].lower() == "0x" else 10)
            if amount >> 64:
                raise UsageError(f"address {text[:60]}: {number[:30]} has more than 64 bits")
        elif name in _REGISTERS:
            amount = getattr(cpu(), name)
        else:
            raise UsageError(f"no register is called {name[:30]!r}; {expected}")
        value += -amount if sign == "-" else amount
    return value & (1 << 64) - 1
