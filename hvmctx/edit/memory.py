"""A guest's memory out of an image: as a raw file (pfn after pfn, absent and blank pages as
holes), or as an ELF64 core that gdb and readelf read.

Between real files the kernel copies the pages (`copying.copy_range`).
"""

from __future__ import annotations

import struct

from hvmctx.abi import streams
from hvmctx.errors import FieldError, MissingRecordError, UsageError
from hvmctx.files.copying import copy_range
from hvmctx.stream.elf import Note, Segment, head_size, head_to_bytes, notes_to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

    from hvmctx.image.image import Image
    from hvmctx.image.memory_map import Run

__all__ = ["CONTROL", "CONTROL_OWNER", "CONTROL_TYPE", "ELF", "FORMATS", "RAW", "extract_memory"]

RAW, ELF = "raw", "elf"
FORMATS = (RAW, ELF)
_PAGE = streams.PAGE_SIZE
_NT_PRSTATUS = 1
_PRSTATUS = struct.Struct("<12xH18xI76x27Q8x")
"""elf_prstatus of x86-64 Linux, 336 bytes: pr_cursig at 12, pr_pid at 32, pr_reg at 112."""
_REGISTERS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx",
    "rsi", "rdi", "rax", "rip", "cs_sel", "rflags", "rsp", "ss_sel", "fs_base", "gs_base",
    "ds_sel", "es_sel", "fs_sel", "gs_sel",
)  # fmt: skip
CONTROL_OWNER, CONTROL_TYPE = "hvmctx", 1
CONTROL = struct.Struct("<I4x5Q")
"""Our own note, one a vcpu: its number, then cr0, cr2, cr3, cr4 and EFER, u64s."""


def extract_memory(image: Image, out: BinaryIO, format: str = RAW) -> int:
    """Write the memory to a seekable file that is empty. How many pages have contents.
    Raises UsageError for another format, MissingRecordError for an image without page data (a
    bare context is one) or, as ELF, without a context, FieldError for pfns that no guest has."""
    if format not in FORMATS:
        raise UsageError(f"unknown format of memory {format!r}; expected {' or '.join(FORMATS)}")
    runs = list(image.memory.populated())
    if runs and runs[-1].end >> streams.X86_PFN_BITS:
        raise FieldError(
            f"pfn {runs[-1].pfn:#x} is beyond the memory of any x86 guest "
            f"({streams.X86_PFN_BITS} bits)"
        )
    if not any(image.records.of("libxc", streams.LIBXC_PAGE_DATA)):
        raise MissingRecordError("the image has no page data")
    return _raw(image, out, runs) if format == RAW else _elf(image, out, runs)


def _raw(image: Image, out: BinaryIO, runs: list[Run]) -> int:
    pages = 0
    for run in runs:
        if run.offset is not None:
            out.seek(run.pfn * _PAGE)
            pages += _copy(image, run, out)
    out.truncate(max((run.end for run in runs), default=0) * _PAGE)
    return pages


def _copy(image: Image, run: Run, out: BinaryIO) -> int:
    """The pages of a run to where `out` stands. How many they are."""
    if run.offset is None:
        return 0
    copy_range(image.source, run.offset, run.offset + run.count * _PAGE, out)
    return run.count


def _elf(image: Image, out: BinaryIO, runs: list[Run]) -> int:
    notes = notes_to_bytes(_notes(image))
    stretches = list(_stretches(runs))
    at = head_size(len(stretches), notes)
    at = -(-at // _PAGE) * _PAGE
    segments, pages = [], 0
    for stretch in stretches:
        size = sum(run.count for run in stretch) * _PAGE
        held = size if stretch[0].offset is not None else 0
        segments.append(Segment(stretch[0].pfn * _PAGE, at, held, size))
        at += held
    out.write(head_to_bytes(segments, notes))
    for stretch, segment in zip(stretches, segments):
        out.seek(segment.offset)
        pages += sum(_copy(image, run, out) for run in stretch)
    out.truncate(at)
    return pages


def _stretches(runs: list[Run]) -> Iterator[list[Run]]:
    """Adjoining runs together, those with contents apart from the blank ones."""
    found: list[Run] = []
    for run in runs:
        if found and (
            found[-1].end != run.pfn or (found[-1].offset is None) != (run.offset is None)
        ):
            yield found
            found = []
        found.append(run)
    if found:
        yield found


def _notes(image: Image) -> Iterator[Note]:
    """Registers of every vcpu that has a CPU record, vcpu n as thread n + 1: first those
    that debuggers know, then our own."""
    from hvmctx.abi import x86

    records = {record.instance: record for record in image.read_context().records(x86.CPU)}
    fields: list[tuple[int, dict[str, Any]]] = [
        (vcpu, records[vcpu].fields()) for vcpu in sorted(records)
    ]
    for vcpu, cpu in fields:
        values = [cpu[name] for name in _REGISTERS]
        values[15] = (1 << 64) - 1  # orig_rax: not in a system call
        yield Note("CORE", _NT_PRSTATUS, _PRSTATUS.pack(0, vcpu + 1, *values))
    for vcpu, cpu in fields:
        control = (cpu[name] for name in ("cr0", "cr2", "cr3", "cr4", "msr_efer"))
        yield Note(CONTROL_OWNER, CONTROL_TYPE, CONTROL.pack(vcpu, *control))
