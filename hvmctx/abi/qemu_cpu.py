"""The CPU note of QEMU's dump-guest-memory: owner `QEMU`, type 0, one for each vcpu.

Little-endian. `size` is the length of the structure: 432 bytes at first, 440 with
`kernel_gs_base` (QEMU 2.6 and later). EFER, STAR, LSTAR, CSTAR, the sysenter MSRs and the FPU
state are not in it. Source: target/i386/arch_dump.c, QEMU 1.2 to 9.1, and cores made by
QEMU 7.2.
"""

from __future__ import annotations

from ctypes import LittleEndianStructure
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64

__all__ = ["OWNER", "TYPE", "VERSION", "QEMUCPUSegment", "QEMUCPUState"]

OWNER, TYPE, VERSION = "QEMU", 0, 1


class QEMUCPUSegment(LittleEndianStructure):
    """`flags` is the second word of the descriptor: type, S, DPL and P at 8 to 15, AVL, L,
    D/B and G at 20 to 23."""

    _fields_ = [("selector", u32), ("limit", u32), ("flags", u32), ("_pad", u32), ("base", u64)]


# fmt: off
class QEMUCPUState(LittleEndianStructure):
    """The note of version 1, 440 bytes in QEMU 7.2."""

    _fields_ = [
        ("version", u32), ("size", u32),
        ("rax", u64), ("rbx", u64), ("rcx", u64), ("rdx", u64),
        ("rsi", u64), ("rdi", u64), ("rsp", u64), ("rbp", u64),
        ("r8", u64), ("r9", u64), ("r10", u64), ("r11", u64),
        ("r12", u64), ("r13", u64), ("r14", u64), ("r15", u64),
        ("rip", u64), ("rflags", u64),
        ("cs", QEMUCPUSegment), ("ds", QEMUCPUSegment), ("es", QEMUCPUSegment),
        ("fs", QEMUCPUSegment), ("gs", QEMUCPUSegment), ("ss", QEMUCPUSegment),
        ("ldt", QEMUCPUSegment), ("tr", QEMUCPUSegment),
        ("gdt", QEMUCPUSegment), ("idt", QEMUCPUSegment),
        ("cr", u64 * 5),
        ("kernel_gs_base", u64),
    ]
# fmt: on
