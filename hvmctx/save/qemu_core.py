"""A guest dumped by QEMU (`dump-guest-memory`), as parts of a Xen image: its memory, and its
CPUs' registers in Xen's form.

What such a core does not have is derived or left at reset: EFER of the paging mode, the
FPU as not initialised, STAR, LSTAR, CSTAR and the sysenter MSRs zero (`MISSING` says so).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from ctypes import sizeof
from itertools import pairwise

from hvmctx.abi import streams, x86
from hvmctx.abi.qemu_cpu import OWNER, TYPE, VERSION, QEMUCPUSegment, QEMUCPUState
from hvmctx.abi.x86_bits import CR0, CR4, EFER, RFLAGS
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.errors import FormatError, InputError, LengthError, MissingRecordError, UnsupportedError
from hvmctx.files.opening import open_source
from hvmctx.image.memory_map import MemoryMap
from hvmctx.image.runs import Run
from hvmctx.save.guests import StillGuest, data_stretches, read_whole_part, types_of
from hvmctx.stream.elf import LAYER, Core, Segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from hvmctx.buffers import Buffer

__all__ = ["MISSING", "CoreSource", "cpu_record", "cpu_states", "packed_attributes", "with_cpus"]

_PAGE = streams.PAGE_SIZE
_LONG_CODE = 1 << 21
_AT_LEAST = QEMUCPUState.kernel_gs_base.offset
_GENERAL = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12",
    "r13", "r14", "r15", "rip",
)  # fmt: skip
_SEGMENTS = {name: name for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr")} | {"ldtr": "ldt"}

MISSING = (
    "the core has no EFER, STAR, LSTAR, CSTAR, sysenter MSRs or FPU state: EFER follows from "
    "the paging mode, the rest is as after a reset (hvmctx set changes them)"
)


def packed_attributes(flags: int) -> int:
    """QEMU's segment flags in Xen's packed form of 12 bits."""
    return flags >> 8 & 0xFF | flags >> 12 & 0xF00


def cpu_record(state: Any, vcpu: int) -> Record:
    """The CPU record of a QEMUCPUState."""
    record = Record(x86.CPU, vcpu, bytes(x86.CPU.size))
    cpu = record.struct
    for name in _GENERAL:
        setattr(cpu, name, getattr(state, name))
    cpu.rflags = state.rflags | RFLAGS.ONE
    cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4 = state.cr[0], state.cr[2], state.cr[3], state.cr[4]
    cpu.cr0 |= CR0.ET
    cpu.dr6, cpu.dr7 = 0xFFFF0FF0, 0x400
    for name, other in _SEGMENTS.items():
        segment: QEMUCPUSegment = getattr(state, other)
        setattr(cpu, f"{name}_sel", segment.selector)
        setattr(cpu, f"{name}_limit", segment.limit)
        setattr(cpu, f"{name}_base", segment.base)
        setattr(cpu, f"{name}_arbytes", packed_attributes(segment.flags))
    cpu.gdtr_base, cpu.gdtr_limit = state.gdt.base, state.gdt.limit
    cpu.idtr_base, cpu.idtr_limit = state.idt.base, state.idt.limit
    cpu.shadow_gs = state.kernel_gs_base
    if _is_long(state):
        cpu.msr_efer = EFER.SCE | EFER.LME | EFER.LMA | EFER.NXE
    return Record(x86.CPU, vcpu, bytes(cpu))


def _is_long(state: Any) -> bool:
    """Long mode has paging and PAE; that it is not PAE alone, 64-bit code shows, or a table
    that lies beyond 4 GiB."""
    if not (state.cr[0] & CR0.PG and state.cr[4] & CR4.PAE):
        return False
    bases = (state.gdt.base, state.idt.base, state.tr.base, state.kernel_gs_base, state.rip)
    return bool(state.cs.flags & _LONG_CODE) or any(base >> 32 for base in bases)


def cpu_states(core: Core) -> list[Any]:
    """The QEMUCPUState of each vcpu. Raises MissingRecordError where there is none,
    FormatError for notes that are not."""
    found = []
    for note in core.notes:
        if note.owner != OWNER or note.type != TYPE:
            continue
        version, size = (int.from_bytes(note.data[at : at + 4], "little") for at in (0, 4))
        if version != VERSION or not _AT_LEAST <= size <= len(note.data):
            raise UnsupportedError(
                "unknown version of a CPU note", layer=LAYER, offset=0, record="QEMU note",
                found=f"version {version}, size {size} in {len(note.data)} bytes",
                expected=f"version {VERSION}, size {_AT_LEAST} at least",
            )  # fmt: skip
        data = note.data[: min(size, sizeof(QEMUCPUState))]
        found.append(QEMUCPUState.from_buffer_copy(data.ljust(sizeof(QEMUCPUState), b"\0")))
    if not found:
        raise MissingRecordError("the core has no CPU note of QEMU")
    return found


class CoreSource(StillGuest):
    """Memory of an ELF core, by physical address. Pages that no segment holds are absent;
    what a segment has in memory only is blank."""

    def __init__(self, path: str, **state: Any) -> None:
        """Raises InputError, FormatError."""
        super().__init__(**state)
        self._source = source = open_source(path)
        if not source.seekable:
            source.close()
            raise InputError(f"{path}: a core must be a regular file")
        self.core = Core.read(source)
        self.access = source.access
        segments = sorted(self.core.segments, key=lambda segment: segment.address)
        for segment in segments:
            if segment.address % _PAGE or segment.size % _PAGE:
                raise LengthError(
                    "a segment is not whole pages", layer=LAYER, offset=segment.offset,
                    record="segment", found=f"{segment.size:#x} bytes at {segment.address:#x}",
                    expected=f"multiples of {_PAGE:#x}",
                )  # fmt: skip
        for one, other in pairwise(segments):
            if one.address + one.size > other.address:
                raise FormatError(
                    "two segments overlap", layer=LAYER, offset=other.offset,
                    record="segment", found=f"{other.address:#x}",
                    expected=f"{one.address + one.size:#x} or more",
                )  # fmt: skip
        self._segments = [segment for segment in segments if segment.size]
        self._starts = [segment.address for segment in self._segments]
        self._there = MemoryMap(
            Run(s.address // _PAGE, s.size // _PAGE, 0, None) for s in self._segments
        )
        self.p2m_size = self._there.end

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def page_types(self, pfns: memoryview) -> bytes:
        return types_of(self._there, pfns)

    def pages(self, pfns: memoryview, types: bytes) -> Iterable[Buffer]:
        for start, end in data_stretches(pfns, types):
            yield from self._bytes(start * _PAGE, end * _PAGE)

    def _bytes(self, start: int, end: int) -> Iterable[Buffer]:
        at = max(0, bisect_right(self._starts, start) - 1)
        for segment in self._segments[at : bisect_left(self._starts, end)]:
            first, last = max(start, segment.address), min(end, segment.address + segment.size)
            if first < last:
                yield from self._part(segment, first - segment.address, last - segment.address)

    def _part(self, segment: Segment, first: int, last: int) -> Iterable[Buffer]:
        held = min(last, segment.in_file)
        if first < held:
            yield read_whole_part(self._source, segment.offset + first, held - first)
        if last > max(held, first):
            yield bytes(last - max(held, first))

    def cpu_records(self) -> list[Record]:
        """A CPU record of each vcpu."""
        return [cpu_record(state, vcpu) for vcpu, state in enumerate(cpu_states(self.core))]


def with_cpus(context: HvmContext, cpus: list[Record]) -> HvmContext:
    """The context with these CPU records in the place of its own, as long as its own."""
    own = context.records(x86.CPU)
    size = own[0].length if own else x86.CPU.size
    for record in cpus:
        record.body = bytes(record.body)[:size]
    rest = [record for record in context.entries if record.typecode != x86.CPU.typecode]
    at = 1 if rest and rest[0].typecode == x86.HEADER.typecode else 0
    return HvmContext([*rest[:at], *cpus, *rest[at:]], context.tail)
