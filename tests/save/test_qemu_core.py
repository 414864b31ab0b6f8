from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hvmctx.abi import x86
from hvmctx.abi.qemu_cpu import QEMUCPUState
from hvmctx.abi.releases import Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import FormatError, HvmctxError, MissingRecordError
from hvmctx.files.sink import Sink
from hvmctx.image.image import open_image
from hvmctx.restore.context import load
from hvmctx.restore.guest import Guest
from hvmctx.save.engine import save
from hvmctx.save.qemu_core import CoreSource, cpu_record, cpu_states, packed_attributes, with_cpus
from hvmctx.save.reset import reset_context
from hvmctx.stream.elf import Core, Note, Segment
from hvmctx.verify.strict_context import findings_of
from tests.builders.cores import core_of
from tests.builders.samples import context_bytes

PAGE = 4096


def test_registers_of_qemus_own(qemus_own: Path) -> None:
    """What QEMU's `info registers` said of them: one halted in real mode, one in 32 bits."""
    source = CoreSource(str(qemus_own))
    first, second = (record.struct for record in source.cpu_records())
    assert (first.rip, first.rsp, first.rcx, first.rflags) == (0xB7B9, 0x6F94, 0xB79D, 0x246)
    assert (first.cs_sel, first.cs_base, first.cs_limit, first.cs_arbytes) == (
        0xF000, 0xF0000, 0xFFFF, 0x9B,
    )  # fmt: skip
    assert (first.es_base, first.idtr_limit, first.tr_arbytes) == (0xD9800, 0x3FF, 0x8B)
    assert (first.cr0, first.msr_efer, first.flags) == (0x10, 0, 0)
    assert (second.cr0, second.cs_arbytes, second.ss_limit) == (0x11, 0xC9B, 0xFFFFFFFF)
    assert source.p2m_size == 0x100000


def test_they_load_into_every_release(qemus_own: Path) -> None:
    cpus = CoreSource(str(qemus_own)).cpu_records()
    for name in ("4.6", "4.7", "4.17", "4.20", "newest"):
        release = Release(name)
        context = with_cpus(reset_context(2, release), [*cpus])
        assert load(context.to_bytes(), release, Guest(vcpus=2)).accepted
        assert findings_of(HvmContext.from_bytes(context.to_bytes())) == []


def test_packed_attributes() -> None:
    assert packed_attributes(0x00CF9B00) == 0xC9B
    assert packed_attributes(0x00AF9B0F) == 0xA9B
    assert packed_attributes(0x00008B00) == 0x8B


def long_mode() -> QEMUCPUState:
    state = QEMUCPUState(version=1, size=440)
    state.cr[0], state.cr[4], state.cr[3] = 0x80000011, 0x20, 0x1000
    state.cs.flags = 0x00209B00
    return state


def test_efer_follows_from_the_paging_mode() -> None:
    state = long_mode()
    assert cpu_record(state, 0).struct.msr_efer == 0xD01
    state.cs.flags = 0x00C09B00  # 32-bit code, of a 32-bit or of a 64-bit kernel
    assert cpu_record(state, 0).struct.msr_efer == 0
    state.idt.base = 0xFFFFFE0000000000
    assert cpu_record(state, 0).struct.msr_efer == 0xD01
    state.cr[4] = 0
    assert cpu_record(state, 0).struct.msr_efer == 0


def test_with_cpus_of_a_context_of_another_length() -> None:
    context = HvmContext.from_bytes(context_bytes())
    context.records(x86.CPU)[0].body = bytes(context.records(x86.CPU)[0].body)[:1024]
    made = with_cpus(context, [cpu_record(long_mode(), 0)])
    assert [r.length for r in made.records(x86.CPU)] == [1024]
    assert [r.name for r in made.entries] == [r.name for r in context.entries]


def core(tmp_path: Path, *segments: tuple[int, int, bytes]) -> CoreSource:
    path = tmp_path / "core"
    path.write_bytes(core_of(list(segments), [Note("QEMU", 0, bytes(long_mode()))]))
    return CoreSource(str(path), context=context_bytes())


def test_memory(tmp_path: Path) -> None:
    source = core(
        tmp_path, (5 * PAGE, 2 * PAGE, b"5" * PAGE), (PAGE, PAGE, b"1" * PAGE), (0, PAGE, b"part")
    )
    out = io.BytesIO()
    save(source, Sink(out))
    with open_image(out.getvalue()) as image:
        pages = {}
        for run in image.memory_map.populated():
            for pfn in range(run.pfn, run.end):
                offset = (image.memory_map.lookup(pfn) or (0, None))[1] or 0
                pages[pfn] = bytes(image.source.read_at(offset, PAGE)).rstrip(b"\0")
    assert pages == {0: b"part", 1: b"1" * PAGE, 5: b"5" * PAGE, 6: b""}


def test_segments_with_holes_between_them(tmp_path: Path) -> None:
    """Each page looks at its own segment, not at all: a core may have a million."""
    looked = 0

    class Counted(list[Segment]):
        def __iter__(self) -> Iterator[Segment]:
            nonlocal looked
            for segment in super().__iter__():
                looked += 1
                yield segment

        def __getitem__(self, at: Any) -> Any:
            nonlocal looked
            found = super().__getitem__(at)
            looked += len(found) if isinstance(found, list) else 1
            return found

    count = 200
    source = core(tmp_path, *((2 * n * PAGE, PAGE, b"") for n in range(count)))
    source._segments = Counted(source._segments)
    save(source, Sink(io.BytesIO()))
    assert count <= looked <= 4 * count


def test_what_is_no_guest(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="two segments overlap"):
        core(tmp_path, (0, 2 * PAGE, b""), (PAGE, PAGE, b""))
    with pytest.raises(FormatError, match="not whole pages"):
        core(tmp_path, (0, 100, b""))
    with pytest.raises(MissingRecordError, match="no CPU note"):
        cpu_states(Core([], [Note("CORE", 1, b"")]))
    short = bytearray(bytes(long_mode()))
    short[4:8] = (400).to_bytes(4, "little")
    for data in (b"", bytes(short), b"\2" + bytes(long_mode())[1:]):
        with pytest.raises(HvmctxError, match="CPU note"):
            cpu_states(Core([], [Note("QEMU", 0, data)]))
