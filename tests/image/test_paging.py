"""Walks through page tables that tests/builders/paging.py has made, in every mode."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import TranslationError
from hvmctx.image.image import open_image
from hvmctx.image.memory_map import Memory
from hvmctx.image.paging import MODES, Paging
from tests.builders.paging import LARGE, NX, PAGE, PRESENT, REGISTERS, SHIFTS, SIZES, Tables

KINDS = [(mode, bits) for mode, sizes in SIZES.items() for bits in sizes]
ADDRESS = {"32-bit": 0xC0800000, "PAE": 0xC0800000} | dict.fromkeys(
    ("4-level", "5-level"), 0xFFFFFFFF_80000000
)


def paging(tables: Tables, **registers: int) -> Paging:
    width = registers.pop("width", 52)
    named = {"efer" if n == "msr_efer" else n: v for n, v in REGISTERS[tables.mode].items()}
    with open_image(tables.image()) as image:
        return Paging(image.memory, **{**named, "cr3": tables.root, **registers}, width=width)


def test_modes() -> None:
    assert tuple(REGISTERS) == MODES
    for mode in MODES:
        assert paging(Tables(mode)).mode == mode
    assert paging(Tables("PAE"), cr0=0x11).mode == "no"
    assert paging(Tables("PAE"), cr4=0x1020).mode == "PAE"  # LA57 is about long mode


@pytest.mark.parametrize(("mode", "bits"), KINDS)
def test_a_page_of_every_size(mode: str, bits: int) -> None:
    tables, address, gpa = Tables(mode), ADDRESS[mode] & -1 << bits, 3 << bits
    assert tables.map(address, gpa, bits)
    walk = paging(tables).walk(address + 0x123)
    assert (walk.gpa, walk.page_size, walk.error) == (gpa + 0x123, 1 << bits, None)
    shifts = SHIFTS[mode][: SHIFTS[mode].index(bits) + 1]
    assert len(walk.steps) == len(shifts)
    for step, shift in zip(walk.steps, shifts):
        assert step.entry_gpa == tables.entry_at(address, shift)
        assert step.entry == tables.get(step.entry_gpa)
        assert step.entry_gpa == step.table + step.index * tables.width
    assert ("PS" in walk.steps[-1].flags) == (bits > 12)


def test_without_paging_addresses_are_physical() -> None:
    walk = paging(Tables("no")).walk(0xFFFF0123)
    assert (walk.gpa, walk.steps, walk.error) == (0xFFFF0123, [], None)


def test_pse_36() -> None:
    """Above 4 GiB, by eight bits of the entry."""
    tables = Tables("32-bit")
    assert tables.map(0x400000, 0xAB_00C00000, 22)
    found = paging(tables).walk(0x4ABCDE)
    assert found.gpa == 0xAB_00CABCDE
    # without PSE that bit says nothing, and the entry names a table
    without = paging(tables, cr4=0).walk(0x4ABCDE)
    assert without.error is not None and without.error.level == "PT"


def test_pcid_and_cache_bits_of_cr3_do_not_count() -> None:
    tables = Tables("4-level")
    assert tables.map(0x1000, 0x5000)
    assert paging(tables, cr3=tables.root | 0xFFF).translate(0x1000) == 0x5000
    pae = Tables("PAE")
    assert pae.map(0x40001000, 0x5000)
    page = pae.memory[pae.root // PAGE]
    page[0x20:0x40], page[:0x20] = page[:0x20], bytes(32)  # not at the start of its page
    assert paging(pae, cr3=pae.root | 0x3F).translate(0x40001000) == 0x5000


def test_an_entry_that_points_to_its_own_table() -> None:
    """As Windows has one: the tables are mapped by themselves, and a walk comes to an end."""
    tables = Tables("4-level")
    tables.map(0x1000, 0x5000)
    tables.put(tables.root + 0x1ED * 8, tables.root | PRESENT)
    own = 0xFFFFF6FB_7DBED000  # index 0x1ed at every level
    assert paging(tables).translate(own) == tables.root


def test_flags_by_name() -> None:
    tables = Tables("4-level")
    tables.map(0x1000, 0x5000, flags=0x1FF | NX | 1 << 9 | 1 << 58)
    steps = paging(tables).walk(0x1000).steps
    assert steps[-1].flags == (
        ["P", "RW", "US", "PWT", "PCD", "A", "D", "PAT", "G", "bit 9", "bit 58", "NX"]
    )
    assert repr(steps[-1]).startswith("<PT[1] at 0x103008: 0x84000000000053ff>")


def test_executable() -> None:
    tables = Tables("4-level")
    tables.map(0x1000, 0x5000)
    tables.map(0x2000, 0x5000, flags=PRESENT | NX)
    walks = [paging(tables).walk(address) for address in (0x1000, 0x2000, 0x3000)]
    assert [walk.executable for walk in walks] == [True, False, False]


Change = Callable[[Tables], object]


def entry(shift: int, value: Callable[[int], int], address: int = 0x1000) -> Change:
    """Another value of the entry of that level for address 0x1000."""

    def change(tables: Tables) -> None:
        place = tables.entry_at(address, shift)
        assert place is not None
        tables.put(place, value(tables.get(place)))

    return change


def bit(shift: int, number: int) -> Change:
    return entry(shift, lambda value: value | 1 << number)


def gone(shift: int) -> Change:
    return entry(shift, lambda value: value & ~1)


def far(shift: int) -> Change:
    return entry(shift, lambda value: value & 0xFFF | 0x7000000)


def nothing(tables: Tables) -> None:
    pass


GONE = "is not in memory: "
FAILURES: list[tuple[str, Change, dict[str, int], str]] = [
    ("32-bit", gone(22), {}, "not present: PD entry 0 at gpa 0x100000 is 0x101026"),
    ("32-bit", gone(12), {}, "not present: PT entry 1 at gpa 0x101004 is 0x5026"),
    ("32-bit", bit(22, 7), {}, ""),  # a page of 4 MiB then
    ("32-bit", entry(22, lambda value: value | LARGE | 1 << 21), {}, "bits are set, 0x200000: PD"),
    ("32-bit", entry(22, lambda value: LARGE | 1 | 1 << 17), {"width": 36}, "set, 0x20000: PD"),
    ("32-bit", entry(22, lambda value: LARGE | 1 | 1 << 16), {"width": 36}, ""),
    ("32-bit", entry(22, lambda value: LARGE | 1 | 1 << 20), {}, ""),
    ("32-bit", far(22), {}, f"the PT {GONE}PD entry 0 at gpa 0x100000 is 0x7000027;"),
    ("PAE", gone(30), {}, "not present: PDPT entry 0 at gpa 0x100000 is 0x101000"),
    ("PAE", gone(21), {}, "not present: PD entry 0"),
    ("PAE", gone(12), {}, "not present: PT entry 1 at gpa 0x102008 is 0x5026"),
    ("PAE", bit(30, 1), {}, "reserved bits are set, 0x2: PDPT entry 0 at gpa 0x100000"),
    ("PAE", bit(30, 63), {}, "reserved bits are set, 0x8000000000000000: PDPT"),
    ("PAE", bit(30, 7), {}, "reserved bits are set, 0x80: PDPT"),
    ("PAE", bit(30, 8), {}, "reserved bits are set, 0x100: PDPT"),
    ("PAE", bit(30, 5), {}, ""),
    ("PAE", bit(30, 9), {}, ""),
    ("PAE", bit(21, 52), {}, "reserved bits are set, 0x10000000000000: PD"),
    ("PAE", bit(12, 62), {}, "reserved bits are set, 0x4000000000000000: PT"),
    ("PAE", bit(12, 63), {"efer": 0}, "reserved bits are set, 0x8000000000000000: PT"),
    ("PAE", bit(12, 63), {}, ""),
    ("PAE", entry(21, lambda value: LARGE | 1 | 1 << 13), {}, "reserved bits are set, 0x2000: PD"),
    ("PAE", bit(12, 40), {"width": 40}, "reserved bits are set, 0x10000000000: PT"),
    ("PAE", far(30), {}, f"the PD {GONE}PDPT entry 0 at gpa 0x100000 is 0x7000001;"),
    ("4-level", gone(39), {}, "not present: PML4 entry 0 at gpa 0x100000 is 0x101026"),
    ("4-level", gone(30), {}, "not present: PDPT entry 0"),
    ("4-level", gone(21), {}, "not present: PD entry 0"),
    ("4-level", gone(12), {}, "not present: PT entry 1 at gpa 0x103008 is 0x5026"),
    ("4-level", bit(39, 7), {}, "reserved bits are set, 0x80: PML4"),
    ("4-level", bit(39, 63), {"efer": 0x500}, "reserved bits are set, 0x8000000000000000: PML4"),
    ("4-level", bit(39, 63), {}, ""),
    ("4-level", bit(12, 45), {"width": 45}, "reserved bits are set, 0x200000000000: PT"),
    ("4-level", bit(12, 45), {"width": 46}, ""),
    ("4-level", bit(12, 60), {}, ""),  # ignored, or a protection key
    ("4-level", entry(30, lambda value: LARGE | 1 | 1 << 29), {}, "set, 0x20000000: PDPT"),
    ("4-level", entry(30, lambda value: LARGE | 1 | 1 << 12), {}, ""),  # PAT
    ("4-level", entry(21, lambda value: LARGE | 1 | 1 << 20), {}, "set, 0x100000: PD"),
    ("4-level", far(39), {}, f"the PDPT {GONE}PML4 entry 0 at gpa 0x100000 is 0x7000027;"),
    ("4-level", far(21), {}, f"the PT {GONE}PD entry 0 at gpa 0x102000 is 0x7000027;"),
    ("4-level", nothing, {"cr3": 0x7000000}, f"the PML4 {GONE}CR3 points to 0x7000000; no"),
    ("5-level", gone(48), {}, "not present: PML5 entry 0 at gpa 0x100000 is 0x101026"),
    ("5-level", bit(48, 7), {}, "reserved bits are set, 0x80: PML5"),
    ("5-level", bit(39, 7), {}, "reserved bits are set, 0x80: PML4"),
    ("5-level", gone(12), {}, "not present: PT entry 1 at gpa 0x104008 is 0x5026"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "change", "registers", "said"), FAILURES)
def test_what_stops_a_walk(mode: str, change: Change, registers: dict[str, int], said: str) -> None:
    tables = Tables(mode)
    tables.map(0x1000, 0x5000)
    change(tables)
    found = paging(tables, **registers)
    walk = found.walk(0x1234)
    if not said:
        assert walk.error is None
        return
    with pytest.raises(
        TranslationError, match=f"^virtual address 0x1234: .*{re.escape(said)}"
    ) as e:
        found.translate(0x1234)
    error = e.value
    assert error.address == 0x1234 and error.level in said and (walk.gpa, walk.page_size) == (0, 0)
    last = walk.steps[-1] if walk.steps else None
    if error.entry is None:
        assert "is not in memory" in str(error)
    else:
        assert last is not None and (last.entry_gpa, last.entry) == (error.entry_gpa, error.entry)


@pytest.mark.parametrize(
    ("mode", "address", "said"),
    [
        ("no", 1 << 32, "too large: with no paging an address has 32 bits"),
        ("32-bit", 1 << 32, "too large: with 32-bit paging an address has 32 bits"),
        ("PAE", 0xFFFFFFFF_80000000, "too large: with PAE paging"),
        ("4-level", 1 << 47, "not canonical: with 4-level paging, bits 47 to 63 are all the same"),
        ("4-level", 0xFFFF7FFF_FFFFFFFF, "not canonical"),
        ("4-level", 1 << 63, "not canonical"),
        ("4-level", 1 << 64, "too large: with 4-level paging an address has 64 bits"),
        ("5-level", 1 << 56, "not canonical: with 5-level paging, bits 56 to 63"),
        ("5-level", 1 << 47, "not present: PML5 entry 0"),
    ],
)
def test_addresses_that_are_none(mode: str, address: int, said: str) -> None:
    error = paging(Tables(mode)).walk(address).error
    assert said in str(error) and error is not None and error.address == address


@st.composite
def mappings(draw: st.DrawFn) -> tuple[Tables, dict[int, tuple[int, int]], int]:
    """Tables, what they map (address -> gpa, bits), and how many bits an address has."""
    mode = draw(st.sampled_from(sorted(SHIFTS)))
    tables = Tables(mode)
    top = {"32-bit": 32, "PAE": 32, "4-level": 48, "5-level": 57}[mode]
    mapped = {}
    for _ in range(draw(st.integers(1, 12))):
        bits = draw(st.sampled_from(SIZES[mode]))
        # few different indices, so that pages lie beside each other
        address = sum(
            draw(st.sampled_from((0, 1, 2, (1 << at) - 1))) << shift
            for shift, at in zip(
                SHIFTS[mode], (2 if (mode, n) == ("PAE", 0) else 9 for n in range(5))
            )
        ) & ((1 << top) - (1 << bits))
        if top > 32 and address >> top - 1:
            address |= (1 << 64) - (1 << top)
        most = 32 if (mode, bits) == ("32-bit", 12) else 40 if mode == "32-bit" else 52
        gpa = draw(st.integers(0, (1 << most - bits) - 1)) << bits
        flags = draw(st.integers(0, 0x3F)) << 1 & 0x17E | 1
        if tables.map(address, gpa, bits, flags):
            mapped[address] = gpa, bits
    return tables, mapped, top


@given(mappings(), st.data())
def test_a_walk_is_what_was_mapped(
    made: tuple[Tables, dict[int, tuple[int, int]], int], data: st.DataObject
) -> None:
    tables, mapped, _ = made
    found = paging(tables)
    for start, (gpa, bits) in mapped.items():
        at = data.draw(st.integers(0, (1 << bits) - 1))
        walk = found.walk(start + at)
        assert (walk.gpa, walk.page_size, walk.error) == (gpa + at, 1 << bits, None)
        for beside in (start - 1, start + (1 << bits)):
            inside = [s for s, (_, b) in mapped.items() if s <= beside < s + (1 << b)]
            assert (found.walk(beside).error is None) == bool(inside) or beside < 0


@given(st.sampled_from(MODES), st.lists(st.binary(max_size=64), min_size=1, max_size=6),
       st.integers(-1, 1 << 65), st.integers(0, 1 << 64))  # fmt: skip
def test_any_bytes_are_a_walk(mode: str, parts: list[bytes], address: int, cr3: int) -> None:
    tables = Tables(mode)
    for number, part in enumerate(parts):
        tables.fill(0x100000 + number * PAGE, (part or b"\1") * (PAGE // (len(part) or 1)))
    for root in (cr3, 0x100000):
        walk = paging(tables, cr3=root).walk(address % (1 << 64))
        assert len(walk.steps) <= 5 and (walk.error is None) == bool(walk.page_size)


def test_tables_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of their pages are asked for; and however many there are, few are kept."""
    reads: list[int] = []
    read = Memory.read

    def counting(memory: Memory, gpa: int, size: int) -> bytes:
        reads.append(gpa)
        return read(memory, gpa, size)

    monkeypatch.setattr(Memory, "read", counting)
    tables = Tables("4-level")
    for number in range(512):
        tables.map(number * PAGE, 0x5000)
    found = paging(tables)
    assert len(list(found.pages(0x800, 511 * PAGE))) == 512 and len(reads) == 4
    wide = Tables("4-level")
    for number in range(200):
        wide.map(number << 21, 0x5000)
    found = paging(wide)
    for number in range(200):
        assert found.translate(number << 21) == 0x5000
    assert len(found._tables) <= 64


def test_pages() -> None:
    tables = Tables("PAE")
    tables.map(0x200000, 0x40000000, 21)
    tables.map(0x400000, 0x5000)
    found = paging(tables)
    assert [(w.address, w.gpa, n) for w, n in found.pages(0x3FFFF0, 0x20)] == [
        (0x3FFFF0, 0x401FFFF0, 16), (0x400000, 0x5000, 16),
    ]  # fmt: skip
    with pytest.raises(TranslationError, match="address 0x401000: not present"):
        list(found.pages(0x3FFFF0, 0x2000))
    assert list(found.pages(0x9000, 0)) == []
    assert repr(found) == "<PAE paging, tables from 0x100000>"
    assert repr(found.walk(0x400001)) == "<walk: 0x400001 is at gpa 0x5001>"
    assert repr(found.walk(0)) == (
        "<walk: virtual address 0x0: not present: PD entry 0 at gpa 0x101000 is 0x0>"
    )
