from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.image import open_image
from hvmctx.render.describe import describe, print_description
from tests.samples import DATA, EXAMPLE, SMALL, context_bytes, libxc_stream, record

GOLDEN = """\
INPUT: xl, 62469 bytes
  0x00000000  xl file: JSON configuration of 1141 bytes, stream v2
  0x000004a5  libxl stream, version 2
  0x000004bd  libxc stream, version 3
  0x000004d5  domain: x86 HVM, from Xen 4.17
guest:        x86 HVM 'hvm1', up to 1 vcpus; Xen 4.17
memory:       16.0 MiB; page words: 4092 allocate-only, 2052 absent
tsc:          mode 0, 2599997 kHz, 25431040530 ns, incarnation 1
params:       STORE_PFN=0xfeffc, IOREQ_PFN=0xfeffd, BUFIOREQ_PFN=0xfeffb, PAGING_RING_PFN=0xfeff8, \
MONITOR_RING_PFN=0xfeff9, SHARING_RING_PFN=0xfeffa, VM86_TSS_SIZED=0x180fc100280, \
CONSOLE_PFN=0xfefff, ACPI_IOPORTS_LOCATION=0x1, IDENT_PT=0xfeffe000, IOREQ_SERVER_PFN=0xfeff0, \
NR_IOREQ_SERVER_PAGES=0x8
device model: qemu-upstream, 6102 bytes, QEVM version 3: timer, cpu_common, cpu, apic, PCIBUS, \
0000:00:00.0/I440FX, dma, dma, 0000:00:01.0/PIIX3, ioapic, hpet, mc146818rtc, fdc, ps2kbd, \
ps2mouse, pckbd, port92, 0000:00:01.1/ide, i2c_bus, 0000:00:01.3/piix4_pm, 0000:00:02.0/platform
HVM context:  4112 bytes, 1 of 1 vcpus online: HEADER, CPU, 2 PIC, IOAPIC, LAPIC, LAPIC_REGS, \
PCI_IRQ, ISA_IRQ, PCI_LINK, PIT, RTC, HPET, PMTIMER, MTRR, VMCE_VCPU, TSC_ADJUST, END

layer  type  record            count  bytes  first at
libxl  0x1   LIBXC_CONTEXT         1      0  0x4b5
libxc  0x11  X86_CPUID_POLICY      1   1416  0x4e5
libxc  0x12  X86_MSR_POLICY        1     32  0xa75
libxc  0x10  STATIC_DATA_END       1      0  0xa9d
libxc  0x1   PAGE_DATA             6  49200  0xaa5
libxc  0x8   X86_TSC_INFO          1     24  0xcb05
libxc  0x9   HVM_CONTEXT           1   4112  0xcb25
libxc  0xa   HVM_PARAMS            1    200  0xdb3d
libxc  0x0   END                   1      0  0xdc0d
libxl  0x3   EMULATOR_CONTEXT      1   6110  0xdc15
libxl  0x0   END                   1      0  0xf3fd
"""


def in_words(plain: dict[str, Any]) -> str:
    out = io.StringIO()
    print_description(plain, out)
    return out.getvalue()


def test_example() -> None:
    with open_image(EXAMPLE) as image:
        text = in_words(describe(image))
    assert text.replace(str(EXAMPLE), "INPUT") == GOLDEN


def test_pv() -> None:
    with open_image(DATA / "streams" / "handbuilt" / "libxc_v3_pv_ok.bin") as image:
        plain = describe(image)
    assert plain["pv"] == {"guest_width": 8, "pt_levels": 4, "vcpus": 1}
    text = in_words(plain)
    assert "guest:        x86 PV; Xen 4.22\n" in text
    assert "PV:           8-byte words, 4 page table levels, 1 vcpus\n" in text
    assert "memory:       12 KiB; page words: 2 normal, 1 broken" in text
    assert "HVM context:  none: a PV guest has none\n" in text


def test_parked_vcpu() -> None:
    with open_image(DATA / "images" / "hvm2x420.save") as image:
        plain = describe(image)
    assert plain["context"]["vcpus"] == 1 and plain["context"]["vcpu_ids"] == [0, 1]
    assert "1 of 2 vcpus online" in in_words(plain)


def test_converted_stream() -> None:
    head = bytearray(libxc_stream(record(9, context_bytes())))
    head[32:40] = bytes(4) + b"\1\0\0\0"
    with open_image(bytes(head)) as image:
        assert "converted from a legacy stream" in in_words(describe(image))


def test_what_is_odd_is_said() -> None:
    data = libxc_stream(record(0x80000055), record(9, context_bytes()[:-1], pad=b"\1")) + b"more"
    with open_image(data) as image:
        plain = describe(image)
    assert len(plain["notes"]) == 3 and len(plain["problems"]) == 1
    text = in_words(plain)
    assert "note: libxc: offset 0x28: unknown optional record" in text
    assert "type 0x80000055 (optional)" in text
    assert "problem: context: offset" in text


@given(st.data())
def test_anything_can_be_described(data: st.DataObject) -> None:
    broken = bytearray(SMALL)
    for _ in range(data.draw(st.integers(0, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(broken)))
    with open_image(bytes(broken[:cut]), layer="xl") as image:
        plain = describe(image)
    assert json.loads(json.dumps(plain)) == plain
    assert in_words(plain).startswith("buffer: xl")


@pytest.mark.parametrize("data", [b"", context_bytes(), context_bytes()[:100]])
def test_bare_contexts(data: bytes) -> None:
    with open_image(data) as image:
        plain = describe(image)
    assert plain["complete"] == (len(data) == len(context_bytes()))
    assert bool(plain["problems"]) != plain["complete"]
    assert in_words(plain).startswith("buffer: context")
