"""What the lines about a vcpu say, in every mode of its code."""

from __future__ import annotations

import sys

import pytest

from hvmctx.files.source import BufferSource
from hvmctx.image.image import open_image
from hvmctx.render.stack import disassembler, kaslr_offset, stack_lines
from hvmctx.stream.symbols import Symbols
from tests.builders.kernels import CODE, STACK, SYMBOLS, TEXT, kernel, kernel_image
from tests.builders.paging import Tables, image


def lines_of(data: bytes, symbols: bytes = b"", *, plain: bool = True, pages: int = 1) -> list[str]:
    known = Symbols.read(BufferSource(symbols)) if symbols else None
    with open_image(data) as opened:
        take_apart = None if plain else disassembler()
        return list(stack_lines(opened.vcpus[0], known, take_apart=take_apart, pages=pages))


def after(lines: list[str], start: str) -> list[str]:
    return lines[next(n for n, line in enumerate(lines) if line.startswith(start)) :]


def test_a_kernel_with_symbols() -> None:
    assert lines_of(kernel_image(), SYMBOLS) == [
        "vcpu 0: 64-bit code in ring 0, 4-level paging",
        "  rip     0010:ffffffff81001000 first",
        "  rflags  00000246  PF ZF IF",
        "  rax  0000000000001234  rbx  0000000000000000  rcx  000000000000b79d  rdx  0000000000000000",
        "  rsi  000000000000b79d  rdi  0000000000000000  rbp  000000000000b79d  rsp  ffffc90000003f80",
        "  r8   0000000000000000  r9   0000000000000000  r10  0000000000000000  r11  0000000000000000",
        "  r12  0000000000000000  r13  0000000000000000  r14  0000000000000000  r15  0000000000000000",
        "  cs   0010  base 00000000000f0000  limit 0000ffff  attributes 0a9b",
        "  ss   0018  base 0000000000000000  limit 0000ffff  attributes 0c93",
        "  ds   0000  base 0000000000000000  limit 0000ffff  attributes 0093",
        "  es   d980  base 00000000000d9800  limit 0000ffff  attributes 0093",
        "  fs   0000  base 0000000000000000  limit 0000ffff  attributes 0093",
        "  gs   0000  base 0000000000000000  limit 0000ffff  attributes 0093",
        "  tr   0000  base 0000000000000000  limit 00000067  attributes 008b",
        "  ldtr 0000  base 0000000000000000  limit 00000000  attributes 0000",
        "  gs   base after swapgs 0000000000000000",
        "  cr0  0000000080050033  PE MP ET NE WP AM PG",
        "  cr2  0000000000000000",
        "  cr3  0000000000100000",
        "  cr4  0000000000000020  PAE",
        "  efer 0000000000000d01  SCE LME LMA NXE",
        "  dr0  0000000000000000  dr1  0000000000000000  dr2  0000000000000000",
        "  dr3  0000000000000000  dr6  00000000ffff0ff0  dr7  0000000000000400",
        "code at 0xffffffff81001000:",
        f"  {'90 ' * 16}<e8> 0b 00 00 00 c3 0f 0b 00 00 00 00 00 00 00 00",
        "stack at 0xffffc90000003f80:",
        "  ffffc90000003f80: ffffffff81001015 0000000000000000 ffffffff81001020 0000000000000005",
        "  ffffc90000003fa0: ffffc90000003f80 0000000000000000 0000000000000000 0000000000000000",
        "  ffffc90000003fc0: 0000000000000000 0000000000000000 0000000000000000 0000000000000000",
        "  ffffc90000003fe0: 0000000000000000 0000000000000000 0000000000000000 0000000000000000",
        "return addresses among 16 words:",
        "  ffffc90000003f80: ffffffff81001015  second+0x5",
        "  ffffc90000003f90: ffffffff81001020  second+0x10",
    ]  # fmt: skip


def test_disassembled() -> None:
    pytest.importorskip("capstone")
    assert after(lines_of(kernel_image(), SYMBOLS, plain=False), "code")[2:5] == [
        "  ffffffff81001000  e8 0b 00 00 00           call 0xffffffff81001010  ; second",
        "  ffffffff81001005  c3                       ret",
        "  ffffffff81001006  0f 0b                    ud2",
    ]


def test_without_capstone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    assert disassembler() is None


def test_without_symbols_what_may_be_executed_counts() -> None:
    trace = after(lines_of(kernel_image()), "return")
    assert trace == [
        "return addresses among 16 words:",
        "  ffffc90000003f80: ffffffff81001015  in an executable page",
        "  ffffc90000003f90: ffffffff81001020  in an executable page",
    ]
    tables, registers = kernel()
    registers["msr_efer"] = 0x500  # no page can be forbidden: nothing tells them apart
    tables.map(STACK & -4096 | 0x10000, 0x9000)
    registers["rsp"] = STACK | 0x10000
    assert after(lines_of(tables.image(**registers)), "return") == [
        "return addresses among 16 words: none"
    ]


def moved(symbols: bytes = SYMBOLS, banner: bytes = b"", **registers: int) -> int | None:
    tables, known = kernel()
    tables.fill(0x201800, banner)
    with open_image(tables.image(**{**known, **registers})) as opened:
        return kaslr_offset(opened.vcpus, Symbols.read(BufferSource(symbols)))


def test_where_linux_has_moved_to() -> None:
    entry = 0xFFFFFFFF81C00080
    assert moved() == 0 and moved(msr_lstar=entry + 0x18200000) == 0x18200000
    for other in (0, entry + 1, entry + 0x1000, entry + 0x100000, entry - 0x200000, entry + 2**30):
        assert moved(msr_lstar=other) is None
    assert moved(b"c1000000 T entry_SYSENTER_32\n", sysenter_eip=0xC2000000) == 0x1000000
    assert moved(b"ffffffff81000000 T _text\n") is None


def test_symbols_that_put_the_banner_elsewhere_are_of_another_kernel() -> None:
    symbols = SYMBOLS + b"ffffffff81001800 D linux_banner\n"
    assert moved(symbols, b"Linux version 6.1.0") == 0
    assert moved(symbols, b"linux version") is None
    assert moved(symbols) == 0  # a page without its contents
    assert moved(SYMBOLS + b"ffffffff91001800 D linux_banner\n") == 0  # or none


def test_32_bits() -> None:
    tables = Tables("PAE")
    tables.map(0xC1000000, 0x200000, 21)
    tables.map(0xC2000000, 0x9000)
    tables.fill(0x200000, CODE)
    tables.fill(0x9FF8, (0xC1000003).to_bytes(4, "little"))
    lines = lines_of(
        tables.image(rip=0xC1000000, rsp=0xC1FFFFF8, cs_base=0, cs_arbytes=0xC9B,
                     ss_base=0x1000, ss_arbytes=0xC93, cs_sel=0x60, rbp=0xFFFFFFFF),
        b"c1000000 t start\n",
    )  # fmt: skip
    assert lines[:5] == [
        "vcpu 0: 32-bit code in ring 0, PAE paging",
        "  eip     0060:c1000000 start",
        "  eflags  00000246  PF ZF IF",
        "  eax  00000000  ebx  00000000  ecx  0000b79d  edx  00000000",
        "  esi  0000b79d  edi  00000000  ebp  ffffffff  esp  c1fffff8",
    ]
    assert after(lines, "code") == [
        "code at 0xc1000000:",
        "  <e8> 0b 00 00 00 c3 0f 0b 00 00 00 00 00 00 00 00",  # nothing is mapped before it
        "stack at 0xc2000ff8:",
        "  c2000ff8: c1000003 00000000",
        "return addresses among 2 words:",
        "  c2000ff8: c1000003  start+0x3",
    ]


def test_16_bits() -> None:
    """Real mode: segments count, and registers have what bits they have."""
    memory = {0xF: bytearray(4096), 0x8: bytearray(4096)}
    memory[0xF][0x10:0x12] = b"\xeb\xfe"
    memory[0x8][0xFFE:] = b"\x34\x12"
    registers = dict(
        cr0=0x10, cs_sel=0xF00, cs_base=0xF000, rip=0x10, ss_base=0x8000, rsp=0x20FFE,
        cs_arbytes=0x9B, ss_arbytes=0x93,
    )  # fmt: skip
    lines = lines_of(image(memory, registers=registers))
    assert lines[0] == "vcpu 0: 16-bit code in ring 0, no paging"
    assert after(lines, "code") == [
        "code at 0xf010:",
        f"  {'00 ' * 16}<eb> fe{' 00' * 14}",
        "stack at 0x8ffe:",
        "  8ffe: 1234",
        "return addresses among 1 words: none",
    ]
    registers |= dict(rip=0xFFFF_FFFF_0000_0010, ss_base=0, rsp=0x8FFE, cs_arbytes=0xC9B)
    big = lines_of(image(memory, registers=registers | {"ss_arbytes": 0xC93}))
    assert after(big, "code")[0] == "code at 0xf010:"


def test_what_is_not_there_is_said() -> None:
    tables, registers = kernel()
    registers |= {"rip": TEXT - 1, "rsp": 1 << 63}
    lines = lines_of(tables.image(**registers))
    assert after(lines, "code") == [
        "code at 0xffffffff80ffffff:",
        "  virtual address 0xffffffff80ffffff: not present: PD entry 7 at gpa 0x102038 is 0x0",
        "stack at 0x8000000000000000:",
        "  virtual address 0x8000000000000000: not canonical: with 4-level paging, bits 47 to 63 "
        "are all the same",
    ]


def test_more_pages_of_stack_as_far_as_there_are() -> None:
    tables, registers = kernel()
    tables.map((STACK & -4096) + 4096, 0x200000)
    lines = lines_of(tables.image(**registers), SYMBOLS, pages=4)
    assert after(lines, "return")[0] == f"return addresses among {16 + 512} words:"
    assert len(after(lines, "stack")) == 1 + 8 + 1 + 2
