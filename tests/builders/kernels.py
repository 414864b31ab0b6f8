"""A guest that stands in its kernel: text, a stack, and the symbols of it."""

from __future__ import annotations

from tests.builders.paging import NX, PRESENT, Tables

TEXT, STACK = 0xFFFFFFFF81000000, 0xFFFFC90000003F80
SYMBOLS = b"""\
ffffffff81001000 T first
ffffffff81001010 t second
ffffffff81c00080 T entry_SYSCALL_64
ffffffff82000000 D data
"""
CODE = bytes.fromhex("e80b000000 c3 0f0b") + bytes(8)
"""A call of `second`, a return, and an invalid instruction."""


def kernel(moved: int = 0) -> tuple[Tables, dict[str, int]]:
    """Page tables, and the registers of a vcpu; the text `moved` from where its symbols say."""
    tables = Tables("4-level")
    tables.map(TEXT + moved, 0x200000, 21)
    tables.map(STACK & -4096, 0x9000, flags=PRESENT | NX)
    tables.fill(0x200FF0, b"\x90" * 16 + CODE)
    words = (TEXT + moved + 0x1015, 0, TEXT + moved + 0x1020, 5, STACK)
    tables.fill(0x9F80, b"".join(word.to_bytes(8, "little") for word in words))
    return tables, dict(
        rip=TEXT + moved + 0x1000, rsp=STACK, rax=0x1234, cs_sel=0x10, ss_sel=0x18,
        cs_arbytes=0xA9B, ss_arbytes=0xC93, msr_lstar=0xFFFFFFFF81C00080 + moved,
    )  # fmt: skip


def kernel_image(moved: int = 0) -> bytes:
    """An image of it."""
    tables, registers = kernel(moved)
    return tables.image(**registers)
