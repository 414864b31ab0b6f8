"""The layout of QEMU's CPU note: against arch_dump.c's, and against notes that QEMU wrote."""

from __future__ import annotations

from ctypes import sizeof
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi.fields import Layout
from hvmctx.abi.qemu_cpu import OWNER, TYPE, VERSION, QEMUCPUSegment, QEMUCPUState
from hvmctx.files.source import BufferSource
from hvmctx.stream.elf import Core
from tests.builders.samples import DATA

# target/i386/arch_dump.c of QEMU 7.2
REGISTERS = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip", "rflags",
]  # fmt: skip
SEGMENTS = ["cs", "ds", "es", "fs", "gs", "ss", "ldt", "tr", "gdt", "idt"]
OFFSETS = {
    "version": 0, "size": 4,
    **{name: 8 + 8 * at for at, name in enumerate(REGISTERS)},
    **{name: 152 + 24 * at for at, name in enumerate(SEGMENTS)},
    "cr": 392, "kernel_gs_base": 432,
}  # fmt: skip


def test_offsets_and_sizes() -> None:
    assert {name: getattr(QEMUCPUState, name).offset for name in OFFSETS} == OFFSETS
    assert [name for name, *_ in QEMUCPUState._fields_] == list(OFFSETS)
    assert (sizeof(QEMUCPUState), sizeof(QEMUCPUSegment), QEMUCPUState.cr.size) == (440, 24, 40)
    parts = {name: getattr(QEMUCPUSegment, name).offset for name in ("selector", "limit", "flags")}
    assert parts == {"selector": 0, "limit": 4, "flags": 8} and QEMUCPUSegment.base.offset == 16


@pytest.mark.parametrize("struct", [QEMUCPUState, QEMUCPUSegment])
def test_every_byte_is_declared(struct: Any) -> None:
    end = 0
    for field in Layout.of(struct).fields:
        assert field.offset == end
        end += field.size
    assert end == sizeof(struct)


def test_qemus_own_notes() -> None:
    head = (DATA / "qemu" / "core-head.bin").read_bytes()
    notes = [n for n in Core.read(BufferSource(head + bytes(0x4040000))).notes if n.owner == OWNER]
    assert [note.type for note in notes] == [TYPE, TYPE]
    first, second = (QEMUCPUState.from_buffer_copy(note.data) for note in notes)
    for state, note in zip((first, second), notes):
        assert (state.version, state.size) == (VERSION, sizeof(QEMUCPUState))
        assert bytes(state) == bytes(note.data)
    assert (first.rip, first.cs.selector, first.cs.base, first.cr[0]) == (
        0xB7B9,
        0xF000,
        0xF0000,
        0x10,
    )
    assert (second.cs.flags, second.ss.limit, second.cr[0]) == (0xCF9B00, 0xFFFFFFFF, 0x11)


@given(st.binary(min_size=440, max_size=440))
def test_any_bytes_round_trip(data: bytes) -> None:
    layout = Layout.of(QEMUCPUState)
    assert layout.encode(layout.decode(data)) == data
