"""The memory that a vcpu sees."""

from __future__ import annotations

import struct
from typing import cast

import pytest

from hvmctx.abi import streams, x86
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import (
    LimitError,
    MissingPageError,
    MissingRecordError,
    TranslationError,
    UsageError,
)
from hvmctx.image.image import open_image
from hvmctx.image.vcpus import address_of
from hvmctx.limits import Limits
from tests.builders.paging import PAGE, REGISTERS, Tables, image
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.streams import pv, record


def guest() -> Tables:
    """Text at 0x400ff8 over two pages that lie apart; a page at 0x403000 that leads nowhere, and
    one at 0x404000 that is not in memory."""
    tables = Tables("4-level")
    tables.map(0x400000, 0x9000)
    tables.map(0x401000, 0x7000)
    tables.map(0x402000, 0x8000)
    tables.map(0x404000, 0x500000)
    tables.fill(0x9FF8, b"all of l")
    tables.fill(0x7000, b"l" * PAGE)
    tables.fill(0x8000, b"end")
    return tables


def test_across_pages() -> None:
    with open_image(guest().image()) as opened:
        (vcpu,) = opened.vcpus
        assert vcpu.read(0x400FF8, 10) == b"all of lll"
        assert vcpu.read(0x401FFE, 5) == b"llend"
        assert vcpu.read(0x401FFE, 0) == b""
        assert opened.vcpus[0].read(0x402000, 3) == b"end"
        assert vcpu.walk(0x402000).gpa == 0x8000 and vcpu.paging.mode == "4-level"
        assert (vcpu.id, vcpu.cpu.cr3, repr(vcpu)) == (0, 0x100000, "<vcpu 0>")
        assert len(opened.vcpus) == 1 and 0 in opened.vcpus and 1 not in opened.vcpus


def test_all_or_nothing() -> None:
    with open_image(guest().image(), limits=Limits(input=PAGE * 4)) as opened:
        vcpu = opened.vcpus[0]
        with pytest.raises(TranslationError, match=r"^virtual address 0x403000: not present: PT"):
            vcpu.read(0x402000, PAGE + 1)
        with pytest.raises(MissingPageError) as error:
            vcpu.read(0x404010, 1)
        assert error.value.pfn == 0x500 and str(error.value) == (
            "virtual address 0x404010 is at gpa 0x500010: no memory at pfn 0x500: "
            "the image does not mention it"
        )
        with pytest.raises(LimitError, match=r"of memory at once: --max-size N allows more"):
            vcpu.read(0x400000, PAGE * 4 + 1)
        for address, size in ((-1, 1), (1, -1)):
            with pytest.raises(UsageError, match="expected no negative number"):
                vcpu.read(address, size)
        with pytest.raises(TranslationError, match="address 0x800000000000: not canonical"):
            vcpu.read(0x7FFFFFFFFFFF + 1, 1)
        with pytest.raises(MissingRecordError, match="no vcpu 3; it has 0"):
            opened.vcpus[3]


def test_each_vcpu_has_tables_of_its_own() -> None:
    tables, other = guest(), Tables("PAE", 0x200000)
    other.map(0x400000, 0x8000)
    tables.memory.update(other.memory)
    second = dict(cr3=other.root, cr4=0x20, msr_efer=0)
    with open_image(tables.image({}, second)) as opened:
        assert [vcpu.paging.mode for vcpu in opened.vcpus] == ["4-level", "PAE"]
        assert [vcpu.read(0x400000, 3) for vcpu in opened.vcpus] == [bytes(3), b"end"]


def test_registers_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search for each of very many vcpus would take the square of their number."""
    with open_image(guest().image({}, {"rip": 5})) as opened:
        monkeypatch.setattr(HvmContext, "record", None)
        assert [vcpu.cpu.rip for vcpu in opened.vcpus][1:] == [5]
        opened.vcpus[1].cpu.rip = 6
        assert opened.context.records("CPU", 1)[0].fields()["rip"] == 6


def test_the_width_of_addresses_is_the_policys() -> None:
    tables = guest()
    place = tables.entry_at(0x402000, 12)
    assert place is not None
    tables.put(place, tables.get(place) | 1 << 40)
    said = []
    for width in (None, 40, 41, 0, 200):
        row = struct.pack("<6I", 0x80000008, 0xFFFFFFFF, width or 0, 0, 0, 0)
        policy = b"" if width is None else record(streams.LIBXC_X86_CPUID_POLICY, row)
        tables.policy = policy
        with open_image(tables.image()) as opened:
            error = opened.vcpus[0].walk(0x402000).error
            said.append("" if error is None else str(error))
    # without one, and with one that no CPU has, there are 52
    assert said[:1] + said[2:] == [""] * 4 and "reserved bits are set, 0x10000000000:" in said[1]
    tables.policy = record(streams.LIBXC_X86_CPUID_POLICY, bytes(5))
    with open_image(tables.image()) as opened:
        assert opened.vcpus[0].walk(0x402000).gpa == 1 << 40 | 0x8000


def test_inputs_without_memory_or_context() -> None:
    with (
        open_image(context_bytes()) as opened,
        pytest.raises(MissingPageError, match="no memory at pfn 0x1: the image has no page data"),
    ):
        opened.vcpus[0].read(0x1000, 1)
    with open_image(pv()) as opened, pytest.raises(MissingRecordError, match="PV guest"):
        opened.vcpus  # noqa: B018
    with open_image(EXAMPLE) as opened:
        assert opened.vcpus[0].read(opened.vcpus[0].cpu.rip, 4) == bytes(4)  # it is stripped


def test_a_vcpu_without_registers() -> None:
    """It has other records, and is offline."""
    context = HvmContext.from_bytes(context_bytes())
    context.entries = [one for one in context if one.name != "CPU"]
    with open_image(context.to_bytes()) as opened:
        vcpu = opened.vcpus[0]
        assert vcpu.lapic.disabled in (0, 1) and not hasattr(vcpu, "cpu")
        for ask in (lambda: vcpu.cpu, lambda: vcpu.paging, lambda: vcpu.read(0, 1)):
            with pytest.raises(MissingRecordError, match="the context has no CPU/0 record"):
                ask()
        with pytest.raises(AttributeError, match="no record type or attribute 'cpuu'"):
            vcpu.cpuu  # type: ignore[attr-defined]  # noqa: B018


def test_it_ends_where_addresses_do() -> None:
    with open_image(image({0xFFFFF: b"x" * PAGE}, registers=REGISTERS["no"])) as opened:
        vcpu = opened.vcpus[0]
        assert vcpu.read(0xFFFFFFFE, 2) == b"xx"
        with pytest.raises(TranslationError, match="0x100000000: too large: with no paging"):
            vcpu.read(0xFFFFFFFE, 3)


class Registers:
    rip, rsp, cs_base, cr3 = 0x10, 1 << 63, 0x1000, 5


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0x1000", 0x1000), ("4096", 4096), ("0XfF", 255), ("010", 10), ("rip", 0x10),
        ("cs_base+rip", 0x1010), ("rsp+0x10-8", (1 << 63) + 8), ("rip-0x11", (1 << 64) - 1),
        ("rsp+rsp", 0), ("+1", 1), ("-1", (1 << 64) - 1), ("0xffffffffffffffff", (1 << 64) - 1),
    ],
)  # fmt: skip
def test_addresses(text: str, address: int) -> None:
    assert address_of(text, lambda: cast(x86.hvm_hw_cpu, Registers)) == address


@pytest.mark.parametrize(
    "text",
    ["", "+", "rip+", "rip 5", "1 2", "0x", "5rip", "rip++1", "eip", "ffff", "fpu_regs", "rip*2",
     "cs_sel", "0x10000000000000000", "18446744073709551616", "9" * 150, "1+" * 500 + "1",
     "\u0661", "rip\n", "__class__"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not an address|no register|more than 64 bits"):
        address_of(text, lambda: cast(x86.hvm_hw_cpu, Registers))
