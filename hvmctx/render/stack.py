"""What a vcpu was doing: its registers, the code where it stands, and its stack, as lines of text.
What `xenctx` shows of a running guest, of a saved one: `hvmctx stack`.

Instruction and stack pointer are taken by the mode that EFER, CS and SS select. A word of
the stack counts as a return address if a symbol of code is near; without symbols, if it leads to
a page that may be executed, where pages can be forbidden to be.
"""

from __future__ import annotations

import importlib
import re

from hvmctx.abi.streams import PAGE_SIZE
from hvmctx.abi.x86_bits import CR0, CR4, EFER, RFLAGS, dpl, short_names
from hvmctx.errors import MissingPageError, MissingRecordError, TranslationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hvmctx.abi.x86 import hvm_hw_cpu
    from hvmctx.image.vcpus import GuestVcpu
    from hvmctx.stream.symbols import Symbols

    Disassembler = Callable[[bytes, int, int], Iterable[tuple[int, bytes, str]]]
    """Takes code, its address and 16, 32 or 64; gives address, bytes and text of each
    instruction."""

__all__ = ["disassembler", "kaslr_offset", "stack_lines"]

_GENERAL = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
)  # fmt: skip
_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldtr")
_CONTROL = (("cr0", CR0), ("cr2", None), ("cr3", None), ("cr4", CR4), ("efer", EFER))
_DEBUG = ("dr0", "dr1", "dr2", "dr3", "dr6", "dr7")
_LONG, _BIG = 1 << 9, 1 << 10
"""Of a segment's attributes."""
_BEFORE, _CODE_SHOWN, _LONGEST_CODE = 16, 16, 128
_MOST_INSTRUCTIONS = 8
_WORDS_SHOWN = 32
_ENTRIES = (("msr_lstar", "entry_SYSCALL_64"), ("sysenter_eip", "entry_SYSENTER_32"))
"""Registers that hold an address in Linux's text, and of which symbol."""
_BANNER, _BANNER_TEXT = "linux_banner", b"Linux version "
_KASLR_STEP, _KASLR_END = 1 << 21, 1 << 30
"""By what Linux aligns its text, and how far at most it moves it."""


class _Frame:
    """Where a vcpu stands: `bits` of its code (16, 32 or 64), linear addresses of the next
    instruction and of the top of the stack."""

    __slots__ = ("bits", "code", "stack")

    def __init__(self, cpu: hvm_hw_cpu) -> None:
        self.bits = 32 if cpu.cs_arbytes & _BIG else 16
        if cpu.msr_efer & EFER.LMA and cpu.cs_arbytes & _LONG:
            self.bits = 64
            self.code, self.stack = cpu.rip, cpu.rsp
            return
        pointer = 0xFFFFFFFF if cpu.ss_arbytes & _BIG else 0xFFFF
        self.code = cpu.cs_base + (cpu.rip & 0xFFFFFFFF) & 0xFFFFFFFF
        self.stack = cpu.ss_base + (cpu.rsp & pointer) & 0xFFFFFFFF

    @property
    def word(self) -> int:
        """Bytes of a word of the stack."""
        return self.bits // 8


def kaslr_offset(vcpus: Iterable[GuestVcpu], symbols: Symbols) -> int | None:
    """How far Linux has moved its text from where the symbols have it: by where a vcpu's system
    calls enter. None where there is no such symbol or register, or they do not fit together, or
    the kernel's banner is not where it would be then."""
    linked = [(register, symbols.address(name)) for register, name in _ENTRIES]
    for vcpu in vcpus:
        for register, entry in linked:
            try:
                found = getattr(vcpu.cpu, register)
            except MissingRecordError:
                continue
            if entry and found:
                offset = found - entry
                fits = offset in range(0, _KASLR_END, _KASLR_STEP)
                return offset if fits and _has_banner(vcpu, symbols, offset) else None
    return None


def _has_banner(vcpu: GuestVcpu, symbols: Symbols, offset: int) -> bool:
    """Also where that cannot be told: without the symbol, or the page, or its contents."""
    address = symbols.address(_BANNER)
    try:
        text = b"" if address is None else vcpu.read(address + offset, len(_BANNER_TEXT))
    except _NOT_THERE:
        return True
    return not any(text) or text == _BANNER_TEXT


def disassembler() -> Disassembler | None:
    """One, where capstone is installed."""
    try:
        capstone = importlib.import_module("capstone")
    except ImportError:
        return None
    modes = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}

    def take_apart(code: bytes, address: int, bits: int) -> Iterator[tuple[int, bytes, str]]:
        engine = capstone.Cs(capstone.CS_ARCH_X86, modes[bits])
        for one in engine.disasm(code, address, _MOST_INSTRUCTIONS):
            yield one.address, bytes(one.bytes), f"{one.mnemonic} {one.op_str}".strip()

    return take_apart


def stack_lines(
    vcpu: GuestVcpu,
    symbols: Symbols | None = None,
    *,
    take_apart: Disassembler | None = None,
    pages: int = 1,
) -> Iterator[str]:
    """Of one vcpu. `pages` of stack are looked at, the first from the stack pointer to the
    end of the page. What cannot be read is a line that says why. Lines may have any characters
    that symbols have. Raises MissingRecordError for a vcpu without a CPU record, FormatError and
    InputError where the image cannot be read."""
    cpu, frame = vcpu.cpu, _Frame(vcpu.cpu)
    ring, mode = dpl(cpu.ss_arbytes), vcpu.paging.mode
    yield f"vcpu {vcpu.id}: {frame.bits}-bit code in ring {ring}, {mode} paging"
    yield from _registers(cpu, frame, symbols)
    yield from _code(vcpu, frame, symbols, take_apart)
    yield from _stack(vcpu, frame, symbols, pages)


def _registers(cpu: hvm_hw_cpu, frame: _Frame, symbols: Symbols | None) -> Iterator[str]:
    wide = bool(cpu.msr_efer & EFER.LMA)
    digits, names = (16, _GENERAL) if wide else (8, _GENERAL[:8])
    prefix = "r" if wide else "e"
    where = _named(symbols, frame.code, " ")
    yield f"  {prefix}ip     {cpu.cs_sel & 0xFFFF:04x}:{cpu.rip:0{digits}x}{where}"
    yield f"  {prefix}flags  {cpu.rflags:08x}  {_bits(RFLAGS, cpu.rflags & ~RFLAGS.ONE)}".rstrip()
    for row in (names[at : at + 4] for at in range(0, len(names), 4)):
        cells = (
            f"{name if wide else prefix + name[1:]:<4} {getattr(cpu, name):0{digits}x}"
            for name in row
        )
        yield f"  {'  '.join(cells)}"
    for name in _SEGMENTS:
        selector, base, limit, attributes = (
            getattr(cpu, f"{name}_{part}") for part in ("sel", "base", "limit", "arbytes")
        )
        yield (
            f"  {name:<4} {selector & 0xFFFF:04x}  base {base:0{digits}x}  limit {limit:08x}  "
            f"attributes {attributes:04x}"
        )
    yield f"  gs   base after swapgs {cpu.shadow_gs:0{digits}x}"
    for name, register in _CONTROL:
        value = getattr(cpu, "msr_efer" if name == "efer" else name)
        bits = _bits(register, value) if register else ""
        yield f"  {name:<4} {value:0{digits}x}  {bits}".rstrip()
    for row in (_DEBUG[:3], _DEBUG[3:]):
        yield f"  {'  '.join(f'{name:<4} {getattr(cpu, name):0{digits}x}' for name in row)}"


def _bits(register: type, value: int) -> str:
    return " ".join(short_names(register, value))


def _named(symbols: Symbols | None, address: int, before: str = "") -> str:
    name = symbols.at(address, code=True) if symbols is not None else ""
    return before + name if name else ""


def _code(
    vcpu: GuestVcpu, frame: _Frame, symbols: Symbols | None, take_apart: Disassembler | None
) -> Iterator[str]:
    yield f"code at {frame.code:#x}:"
    try:
        code = _from(vcpu, frame.code, _LONGEST_CODE)
    except _NOT_THERE as error:
        yield f"  {error}"
        return
    before = max(0, frame.code - _BEFORE)
    try:
        passed = vcpu.read(before, frame.code - before)
    except _NOT_THERE:
        passed = b""
    parts = (passed.hex(" "), f"<{code[0]:02x}>", code[1:_CODE_SHOWN].hex(" "))
    yield f"  {' '.join(part for part in parts if part)}"
    for address, taken, text in take_apart(code, frame.code, frame.bits) if take_apart else ():
        target = re.search(r"(?<!\[)\b0x([0-9a-f]{6,16})\b", text)
        name = _named(symbols, int(target[1], 16), "  ; ") if target else ""
        yield f"  {address:0{frame.word * 2}x}  {taken.hex(' '):<23}  {text}{name}".rstrip()


def _stack(vcpu: GuestVcpu, frame: _Frame, symbols: Symbols | None, pages: int) -> Iterator[str]:
    size, digits = frame.word, frame.word * 2
    yield f"stack at {frame.stack:#x}:"
    try:
        data = _from(vcpu, frame.stack, pages * PAGE_SIZE - frame.stack % PAGE_SIZE)
    except _NOT_THERE as error:
        yield f"  {error}"
        return
    words = [
        int.from_bytes(data[at : at + size], "little")
        for at in range(0, len(data) - size + 1, size)
    ]
    for at in range(0, min(len(words), _WORDS_SHOWN), 4):
        row = " ".join(f"{word:0{digits}x}" for word in words[at : at + 4])
        yield f"  {frame.stack + at * size:0{digits}x}: {row}"
    found = [
        (at, word, name) for at, word in enumerate(words) if (name := _return(vcpu, word, symbols))
    ]
    yield f"return addresses among {len(words)} words: {'' if found else 'none'}".rstrip()
    for at, word, name in found:
        yield f"  {frame.stack + at * size:0{digits}x}: {word:0{digits}x}  {name}".rstrip()


def _return(vcpu: GuestVcpu, word: int, symbols: Symbols | None) -> str:
    if symbols is not None:
        return symbols.at(word, code=True)
    executable = vcpu.paging.no_execute and vcpu.walk(word).executable
    return "in an executable page" if executable else ""


_NOT_THERE = (TranslationError, MissingPageError)


def _from(vcpu: GuestVcpu, address: int, size: int) -> bytes:
    """As many bytes as there are, up to the end of the first page that is followed by none."""
    found = b""
    while len(found) < size:
        at = address + len(found)
        try:
            found += vcpu.read(at, min(size - len(found), PAGE_SIZE - at % PAGE_SIZE))
        except _NOT_THERE:
            if not found:
                raise
            break
    return found
