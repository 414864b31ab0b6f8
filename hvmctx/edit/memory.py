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
    last = max((run.end - 1 for run in image.memory.populated()), default=0)
    if last >> streams.X86_PFN_BITS:
        raise FieldError(
            f"pfn {last:#x} is beyond the memory of any x86 guest ({streams.X86_PFN_BITS} bits)"
        )
    if not any(image.records.of("libxc", streams.LIBXC_PAGE_DATA)):
        raise MissingRecordError("the image has no page data")
    return _raw(image, out) if format == RAW else _elf(image, out)


def _raw(image: Image, out: BinaryIO) -> int:
    pages = end = 0
    for run in image.memory.populated():
        end = run.end
        if run.offset is not None:
            out.seek(run.pfn * _PAGE)
            pages += _copy(image, run, out)
    out.truncate(end * _PAGE)
    return pages


def _copy(image: Image, run: Run, out: BinaryIO) -> int:
    """The pages of a run to where `out` stands. How many they are."""
    if run.offset is None:
        return 0
    copy_range(image.source, run.offset, run.offset + run.count * _PAGE, out)
    return run.count


def _elf(image: Image, out: BinaryIO) -> int:
    notes = notes_to_bytes(_notes(image))
    stretches = _stretches(image)
    start = at = -(-head_size(len(stretches), notes) // _PAGE) * _PAGE
    segments = []
    for first, end, held in stretches:
        size = (end - first) * _PAGE
        segments.append(Segment(first * _PAGE, at, size if held else 0, size))
        at += size if held else 0
    out.write(head_to_bytes(segments, notes))
    out.seek(start)
    pages = sum(_copy(image, run, out) for run in image.memory.populated())
    out.truncate(at)
    return pages


def _stretches(image: Image) -> list[tuple[int, int, bool]]:
    """(first pfn, one after the last, whether the image has its pages) of adjoining runs
    together."""
    found: list[tuple[int, int, bool]] = []
    for run in image.memory.populated():
        held = run.offset is not None
        if found and found[-1][1:] == (run.pfn, held):
            found[-1] = found[-1][0], run.end, held
            continue
        if len(found) >= image.limits.segments:
            raise image.limits.over("segments", "segments", layer="elf", offset=0)
        found.append((run.pfn, run.end, held))
    return found


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
