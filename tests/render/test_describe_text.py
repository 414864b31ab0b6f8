from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from hvmctx.abi import pv, x86
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.image.image import open_image
from hvmctx.render.describe import describe
from hvmctx.render.describe_text import print_description
from tests.builders.contexts import msrs, put, xsave
from tests.builders.samples import EXAMPLE, IMAGES, context_bytes
from tests.builders.streams import (
    CONTEXT,
    Pipe,
    libxc_head,
    libxc_stream,
    libxl_head,
    page_data,
    record,
    word,
    xl_head,
)

GOLDEN = """\
INPUT: xl, 62469 bytes
  0x00000000  xl file: JSON configuration of 1137 bytes, stream v2
  0x000004a5  libxl stream, version 2
  0x000004bd  libxc stream, version 3
  0x000004d5  domain: x86 HVM, from Xen 4.17
guest:        x86 HVM 'hvm1', up to 1 vcpus, 3e5e5ef5-72ee-4468-8835-90bbbbc93959; Xen 4.17
memory:       16.0 MiB; page words: 4092 allocate-only, 2052 absent; configured 16.0 MiB
tsc:          mode 0, 2599997 kHz, 25431040530 ns, incarnation 1
params:       STORE_PFN=0xfeffc, IOREQ_PFN=0xfeffd, BUFIOREQ_PFN=0xfeffb, PAGING_RING_PFN=0xfeff8, \
MONITOR_RING_PFN=0xfeff9, SHARING_RING_PFN=0xfeffa, VM86_TSS_SIZED=0x180fc100280, \
CONSOLE_PFN=0xfefff, ACPI_IOPORTS_LOCATION=0x1, IDENT_PT=0xfeffe000, IOREQ_SERVER_PFN=0xfeff0, \
NR_IOREQ_SERVER_PAGES=0x8
policies:     59 CPUID leaves, 2 MSRs
device model: qemu-upstream, 6102 bytes, QEVM version 3: timer, cpu_common, cpu, apic, PCIBUS, \
0000:00:00.0/I440FX, dma, dma, 0000:00:01.0/PIIX3, ioapic, hpet, mc146818rtc, fdc, ps2kbd, \
ps2mouse, pckbd, port92, 0000:00:01.1/ide, i2c_bus, 0000:00:01.3/piix4_pm, 0000:00:02.0/platform
HVM context:  4112 bytes, 1 of 1 vcpus online: HEADER, CPU, 2 PIC, IOAPIC, LAPIC, LAPIC_REGS, \
PCI_IRQ, ISA_IRQ, PCI_LINK, PIT, RTC, HPET, PMTIMER, MTRR, VMCE_VCPU, TSC_ADJUST, END
vcpu 0:       rip 0xb7b9; cr0 ET; rflags PF ZF IF

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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    out = Terminal()
    with open_image(EXAMPLE) as image:
        facts = {**describe(image), "input": "INPUT", "problems": ["a problem " * 9]}
    print_description(facts, out)
    lines = out.getvalue().splitlines()
    words, golden = out.getvalue().split(), [*GOLDEN.split(), "problem:", *["a", "problem"] * 9]
    assert words == golden, "the same text"
    text = lines[: lines.index("")]
    assert 55 < max(map(len, text)) <= 60
    assert "tsc:          mode 0, 2599997 kHz, 25431040530 ns," in lines
    assert "              incarnation 1" in lines and "         problem a problem" in "\n".join(
        lines
    )
    monkeypatch.setenv("COLUMNS", "20")
    print_description(facts, narrow := Terminal())
    assert max(map(len, narrow.getvalue().splitlines())) > 300, "a terminal that wraps better"


def text_of(data: bytes | Path | Pipe, **how: Any) -> list[str]:
    with open_image(data) as image:
        return in_words(describe(image, **how)).splitlines()


def line(data: bytes | Path | Pipe, name: str) -> str:
    """What follows that name; empty if there is no such line."""
    found = [text for text in text_of(data) if text.startswith(f"{name}:")]
    return found[0][14:] if found else ""


def test_pv() -> None:
    basic = pv.vcpu_guest_context_x86_64()
    basic.user_regs.rip, basic.user_regs.rsp, basic.ctrlreg[3] = 0x1234, 0x8000, 0x55001
    shared = pv.shared_info_x86_64(max_pfn=0x3FF)
    data = (
        libxc_head(guest=1) + record(2, b"\x08\x04" + bytes(6)) + record(16)
        + record(3, bytes(4) + b"\xff\3" + bytes(18)) + page_data(word(1), word(2, 0xC))
        + record(7, bytes(shared).ljust(4096, b"\0")) + record(4, b"\2" + bytes(7) + bytes(basic))
        + record(0)
    )  # fmt: skip
    assert line(data, "guest") == "x86 PV; Xen 4.17"
    assert line(data, "PV") == (
        "8-byte words, 4 page table levels, p2m of pfns 0x0 to 0x3ff, max_pfn 0x3ff, 1 vcpus"
    )
    assert line(data, "vcpu 2") == "ip 0x1234, sp 0x8000, page table at pfn 0x55"
    assert line(data, "HVM context") == "none: a PV guest has none"
    narrow = pv.vcpu_guest_context_x86_32(ctrlreg=(0, 0, 0, 0x00055003))
    data = (
        libxc_head(guest=1) + record(2, b"\x04\x03" + bytes(6))
        + record(4, bytes(8) + bytes(narrow)) + record(0)
    )  # fmt: skip
    assert line(data, "vcpu 0") == "ip 0x0, sp 0x0, page table at pfn 0x300055", "rotated by 12"


def test_pvh_is_called_so() -> None:
    image = next(path for path in IMAGES if path.stem == "pvhx")
    assert line(image, "guest").startswith("x86 HVM (PVH) 'pvhx', up to 2 vcpus, 248c7fba-")


def test_memory_of_streams_that_send_pages_again() -> None:
    """As much as the guest gets, not as there are words."""
    data = libxc_stream(
        page_data(*map(word, range(8))), page_data(*map(word, range(4))), page_data(word(9, 5))
    )
    assert line(data, "memory") == "32 KiB; page words: 12 normal, 1 invalid type 5"
    assert line(Pipe(data), "memory").startswith("at most 48 KiB; page words: 12 normal")


def test_checkpoints_and_verify() -> None:
    data = libxc_stream(page_data(word(1)), record(13), page_data(word(1)), CONTEXT, record(14))
    assert line(data, "checkpoints") == "1"
    assert line(data, "verify") == "pages are sent again, to be compared"


def test_xenstore() -> None:
    data = libxl_head() + record(2, bytes(8) + b"key\0one\0a\x1bb\0\xff\0") + record(0)
    assert line(data, "xenstore") == r"key=one, a\x1bb=\xff"


@pytest.mark.parametrize(
    ("config", "guest"),
    [
        (b'{"c_info": {"name": "caf\\u00e9\\u001b[31m\\nproblem: x"}}',
         r"x86 HVM 'café\x1b[31m\nproblem: x'; Xen 4.17"),
        (b'{"b_info": {"max_vcpus": "\\ud800"}, "c_info": {"uuid": 5}}', "x86 HVM; Xen 4.17"),
        (b'{"c_info": {"name": "\\ud800"}}', r"x86 HVM '\ud800'; Xen 4.17"),
        (b"{broken", "x86 HVM; Xen 4.17"),
        (b'{"b_info": {"max_vcpus": -1, "max_memkb": 1, "target_memkb": 1' + b"0" * 400 + b"}}",
         "x86 HVM; Xen 4.17"),
        (b'{"c_info": 5, "b_info": [1]}', "x86 HVM; Xen 4.17"),
        (b'"text"', "x86 HVM; Xen 4.17"),
    ],
)  # fmt: skip
def test_configurations(config: bytes, guest: str) -> None:
    """The guest is told by the stream; its configuration only adds to that."""
    size = (len(config) + 1).to_bytes(4, "little")
    data = xl_head(size + config + b"\0") + libxl_head() + record(1) + libxc_head() + CONTEXT
    data += record(0) + record(0)
    assert line(data, "guest") == guest
    assert len([text for text in text_of(data) if text.startswith("problem: ")]) == (
        config == b"{broken"
    )


def test_the_index() -> None:
    text = text_of(libxc_stream(page_data(word(1)), CONTEXT), index=True)
    rows = [text.split() for text in text]
    at = rows.index(["offset", "layer", "type", "record", "bytes"])
    assert rows[at + 1 : at + 4] == [
        ["0x0", "libxc", "image", "header"], ["0x18", "libxc", "domain", "header"],
        ["0x28", "libxc", "0x1", "PAGE_DATA", "4112"],
    ]  # fmt: skip
    assert rows[-1][1:] == ["libxc", "0x0", "END", "0"]


def test_registers_by_name() -> None:
    """Of each vcpu its registers, the last value of each; what is not set is left out."""
    context = HvmContext.from_bytes(context_bytes())
    put(
        "CPU/0.cr0", 0x80000011, "CPU/0.cr4", 1 << 40 | 0x820, "CPU/0.msr_efer", 0x500,
        "CPU/0.rflags", 0x46,
    )(context)  # fmt: skip
    rows = [(0x48, 0, 0x401), (0x6E1, 0, 5), (0x99, 0, 0), (0x48, 0, 0)]
    context.entries[-1:-1] = [
        Record(x86.CPU_XSAVE, 0, xsave(7)), Record(x86.CPU_MSR, 0, msrs(*rows) + b"cut"),
        Record(x86.CPU_MSR, 5, msrs((0x48, 0, 1))),
    ]  # fmt: skip
    assert line(context.to_bytes(), "vcpu 0").strip() == (
        "rip 0xb7b9; cr0 PE ET PG; cr4 PAE UMIP bit 40; efer LME LMA; rflags PF ZF; "
        "xcr0 X87 SSE YMM; SPEC_CTRL IBRS BHI_DIS_S; PKRS 0x5; MSR 0x99 0x0; SPEC_CTRL 0x0"
    )
    with open_image(context.to_bytes()) as image:
        (row,) = describe(image)["context"]["registers"]
    assert (row["cr4"], row["xcr0"], row["msrs"][0]) == (1 << 40 | 0x820, 7, [0x48, 0x401])


def test_the_policy_when_asked_for() -> None:
    text = text_of(EXAMPLE, policy=True)
    assert "XSTATE: X87, SSE, YMM, PKRU (0x207), 2696 bytes" in text
    assert "CPUID 7:0.ecx: UMIP, PKU, VAES" in text
    assert not any(part.startswith("CPUID") for part in text_of(EXAMPLE))
    with open_image(context_bytes()) as image:
        plain = describe(image, policy=True)
    assert plain["policy"] is None and "XSTATE" not in in_words(plain)
