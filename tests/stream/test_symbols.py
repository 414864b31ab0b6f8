"""Symbols of a kernel, as text and as ELF."""

from __future__ import annotations

import shutil
import struct
import subprocess
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import FormatError, HvmctxError, LimitError
from hvmctx.files.opening import open_seekable
from hvmctx.files.source import BufferSource
from hvmctx.limits import Limits
from hvmctx.stream.symbols import Symbols

MAP = b"""\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000000 T startup_64
ffffffff81000040 t local\r
ffffffff81000100 W __weak
ffffffff82000000 D jiffies
ffffffff82000010 b counter
                 U printk
ffffffffa0000000 t in_module\t[bridge]
ffffffffa0000008 a not_a_place
"""


def read(data: bytes, limits: Limits | None = None) -> Symbols:
    source = BufferSource(data)
    if limits is not None:
        source.limits = limits
    return Symbols.read(source)


def test_a_system_map() -> None:
    symbols = read(MAP)
    assert len(symbols) == 7 and repr(symbols) == "<7 symbols>"
    for address, name, code in [
        (0xFFFFFFFF81000000, "_text", "_text"),
        (0xFFFFFFFF8100003F, "_text+0x3f", "_text+0x3f"),
        (0xFFFFFFFF81000041, "local+0x1", "local+0x1"),
        (0xFFFFFFFF81000100, "__weak", "__weak"),
        (0xFFFFFFFF811000FF, "__weak+0xfffff", "__weak+0xfffff"),
        (0xFFFFFFFF81100100, "", ""),  # too far away
        (0xFFFFFFFF82000001, "jiffies+0x1", ""),
        (0xFFFFFFFF82000010, "counter", ""),
        (0xFFFFFFFFA0000001, "in_module+0x1", "in_module+0x1"),
        (0xFFFFFFFF80FFFFFF, "", ""), (0, "", ""), (1 << 64, "", ""), (-1, "", ""),
    ]:  # fmt: skip
        assert (symbols.at(address), symbols.at(address, code=True)) == (name, code), hex(address)
    assert symbols.address("local") == 0xFFFFFFFF81000040
    assert symbols.address("loca") is symbols.address("printk") is None


def test_many_at_one_address() -> None:
    """No step for each of them."""

    class Counted(array):  # type: ignore[type-arg]
        asked = 0

        def __getitem__(self, key: Any) -> Any:
            self.asked += 1
            return super().__getitem__(key)

    symbols = read(b"1000 T first\n" + b"1000 T other\n" * 5000)
    addresses: Any = Counted("Q", symbols._addresses)
    symbols._addresses = addresses
    assert symbols.at(0x1001) == "first+0x1" and addresses.asked < 100


def test_moved() -> None:
    symbols = read(MAP)
    symbols.shift = 0x1000000
    assert symbols.at(0xFFFFFFFF82000041) == "local+0x1"
    assert symbols.address("local") == 0xFFFFFFFF82000040
    assert symbols.at(0x1000) == symbols.at(0) == ""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "symbols: offset 0x0: no symbols"),
        (b"\0" * 4096, "no symbols: found '"),
        # what Debian puts in the place of one
        (b"ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n",
         r"no symbols: found 'ffffffffffffffff B The real System.map"),
        (b"0000000000000000 T _text\n0000000000000000 t local\n", "all addresses are zero"),
        (b"\x7fELF", "elf: offset 0x0: header: not a little-endian ELF file"),
        (b"\x7fELF\2\2\1" + bytes(100), "not a little-endian ELF file"),
        (b"\x7fELF\2\1\1", "elf: offset 0x0: header: the file ends"),
        (b"\x7fELF\2\1\1" + bytes(100), "no section headers, so no symbols"),
        (b"\xff\xfe0\0\n\0", "no symbols"),
    ],
)  # fmt: skip
def test_what_has_none(data: bytes, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        read(data)


def test_limits() -> None:
    with pytest.raises(LimitError, match="more than 3 symbols: --limits symbols=N allows more"):
        read(MAP, Limits(symbols=3))
    with pytest.raises(LimitError, match="more than 100 bytes: --max-size N allows more"):
        read(MAP, Limits(input=100))
    with pytest.raises(LimitError, match=r"elf: .*more than 3 symbols"):
        read(program(64, [("a", 1, True)] * 4), Limits(symbols=3))
    assert len(read(b"1 t " + b"x" * 5000).at(1)) == 200


def program(bits: int, symbols: list[tuple[str, int, bool]]) -> bytes:
    """An ELF file of a symbol table: name, value, whether it is in a section of code."""
    names, rows = b"\0", b""
    for name, value, code in symbols:
        info, at, section = 0x10, len(names), 3 if code else 1  # labels without a type
        rows += (
            struct.pack("<IBBHQQ", at, info, 0, section, value, 0) if bits == 64
            else struct.pack("<IIIBBH", at, value, 0, info, 0, section)
        )  # fmt: skip
        names += name.encode() + b"\0"
    head = 64 if bits == 64 else 52
    form = "<IIQQQQIIQQ" if bits == 64 else "<IIIIIIIIII"
    table = head + len(names) + len(rows)
    sections = [
        struct.pack(form, 0, kind, flags, 0, at, size, link, 0, 1, 0)
        for kind, flags, at, size, link in [
            (0, 0, 0, 0, 0), (2, 0, head + len(names), len(rows), 2), (3, 0, head, len(names), 0),
            (1, 6, 0, 0, 0),
        ]
    ]  # fmt: skip
    ident = b"\x7fELF" + bytes((bits // 32, 1, 1)) + bytes(9)
    header = struct.pack(
        "<HHIQQQIHHHHHH" if bits == 64 else "<HHIIIIIHHHHHH",
        2, 62 if bits == 64 else 3, 1, 0, 0, table, 0, head, 0, 0, len(sections[0]), 4, 2,
    )  # fmt: skip
    return ident + header + names + rows + b"".join(sections)


@given(st.lists(st.tuples(st.integers(1, 0xFFFFFFFF), st.booleans()), min_size=1))
def test_text_and_elf_say_the_same(made: list[tuple[int, bool]]) -> None:
    rows = [(f"n{number}", *row) for number, row in enumerate(made)]
    text = "".join(f"{address:08x} {'T' if code else 'd'} {name}\n" for name, address, code in rows)
    for symbols in (read(text.encode()), read(program(32, rows)), read(program(64, rows))):
        assert len(symbols) == len(rows)
        for name, address, _ in rows:
            assert symbols.address(name) == address
            first = next(row for row in rows if row[1] == address)
            assert symbols.at(address) == first[0]
            assert symbols.at(address, code=True) == (first[0] if first[2] else "")


@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda b: b"\x7fELF\2\1\1" + b))
def test_any_bytes(data: bytes) -> None:
    try:
        read(data).at(0x1234)
    except HvmctxError as error:
        assert str(error)


@given(st.sampled_from((32, 64)), st.integers(0, 250), st.integers(0, 255), st.integers(0, 300))
def test_any_damage(bits: int, at: int, byte: int, cut: int) -> None:
    data = bytearray(program(bits, [("one", 0x1000, True), ("two", 0x2000, False)]))
    data[at % len(data)] = byte
    try:
        symbols = read(bytes(data[: max(4, len(data) - cut % 80)]))
        assert len(symbols.at(0x1000)) <= 200
    except HvmctxError as error:
        assert str(error)


def test_packed(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "System.map.gz").write_bytes(gzip.compress(MAP))
    with open_seekable(str(tmp_path / "System.map.gz")) as source:
        assert len(Symbols.read(source)) == 7


@pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("nm")), reason="no gcc or nm")
def test_what_nm_says_of_a_program(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text(
        "int counter = 1; static int twice(int n) { return 2 * n; }\n"
        "int main(int n, char **v) { return twice(n) + counter; }\n"
    )
    program = tmp_path / "a.out"
    subprocess.run(["gcc", "-O0", "-o", program, tmp_path / "a.c"], check=True)
    listed = subprocess.run(["nm", program], capture_output=True, check=True).stdout
    with open_seekable(str(program)) as source:
        symbols = Symbols.read(source)
    by_text = read(listed)
    for name in ("main", "twice", "counter"):
        address = by_text.address(name)
        assert address is not None and symbols.address(name) == address
        for code in (False, True):
            assert symbols.at(address + 1, code=code) == by_text.at(address + 1, code=code)
