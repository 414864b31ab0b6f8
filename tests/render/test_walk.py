"""The lines of a walk."""

from __future__ import annotations

from hvmctx.image.image import open_image
from hvmctx.render.walk import walk_lines
from tests.builders.paging import NX, PRESENT, REGISTERS, Tables, image


def lines_of(tables: Tables, address: int) -> list[str]:
    with open_image(tables.image()) as opened:
        vcpu = opened.vcpus[0]
        return list(walk_lines(vcpu.walk(address), vcpu.paging))


def test_a_page() -> None:
    tables = Tables("4-level")
    tables.map(0xFFFFFFFF81000000, 0x1000000, 21, flags=0x163 | NX)
    assert lines_of(tables, 0xFFFFFFFF81000123) == [
        "0xffffffff81000123: 4-level paging, tables from 0x100000",
        "  PML4  0x100000[511] at 0x100ff8           0x0000000000101027  P RW US A",
        "  PDPT  0x101000[510] at 0x101ff0           0x0000000000102027  P RW US A",
        "  PD    0x102000[8] at 0x102040             0x80000000010001e3  P RW A D PS G NX",
        "  page of 2 MiB, gpa 0x1000123",
    ]
    small, large = Tables("PAE"), Tables("5-level")
    small.map(0, 0x5000)
    large.map(1 << 40, 1 << 40, 30)
    assert lines_of(small, 5)[-1] == "  page of 4 KiB, gpa 0x5005"
    assert lines_of(large, 1 << 40)[-1] == "  page of 1 GiB, gpa 0x10000000000"


def test_where_it_stops() -> None:
    tables = Tables("32-bit")
    tables.map(0x1000, 0x5000, flags=PRESENT)
    assert lines_of(tables, 0x2000) == [
        "0x2000: 32-bit paging, tables from 0x100000",
        "  PD    0x100000[0] at 0x100000             0x0000000000101027  P RW US A",
        "  PT    0x101000[2] at 0x101008             0x0000000000000000",
    ]


def test_without_paging() -> None:
    with open_image(image({}, registers=REGISTERS["no"])) as opened:
        vcpu = opened.vcpus[0]
        assert list(walk_lines(vcpu.walk(5), vcpu.paging)) == [
            "0x5: no paging", "  page of 4 KiB, gpa 0x5",
        ]  # fmt: skip
