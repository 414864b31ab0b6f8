from __future__ import annotations

import doctest
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import Buffer, VmportState, to_record
from hvmctx.context.vmport_paths import remove_path, set_path
from hvmctx.context.vmport_slots import Slots, pack_entry
from hvmctx.edit import diff as diffing
from hvmctx.edit.diff import Difference, diff, diff_contexts, diff_images
from hvmctx.errors import FormatError
from hvmctx.image.image import open_image
from tests.builders.contexts import any_contexts, cpu, drop, msrs, put
from tests.builders.samples import DATA, EXAMPLE, IMAGES, context_bytes
from tests.builders.streams import libxc_head, page_data, record, word


def _taken(data: bytes | bytearray) -> HvmContext:
    return HvmContext.from_bytes(data, damaged=True)


def lines(one: bytes, *changes: Callable[[HvmContext], object]) -> list[str]:
    context = HvmContext.from_bytes(one)
    for change in changes:
        change(context)
    other = HvmContext.from_bytes(context.to_bytes())
    return [str(difference) for difference in diff_contexts(HvmContext.from_bytes(one), other)]


def test_fields() -> None:
    assert lines(context_bytes(), cpu(rip=0x1000), put("PIT/0.channels[0].rw_mode", 2)) == [
        "CPU/0.rip: 0xb7b9 -> 0x1000", "PIT/0.channels[0].rw_mode: 0x3 (WORD) -> 0x2 (MSB)",
    ]  # fmt: skip
    assert lines(context_bytes(), put("LAPIC_REGS/0.data[0x20:+4]", 0x11223344)) == [
        "LAPIC_REGS/0.data[0x20:+4]: 0x0 -> 0x11223344"
    ]
    assert lines(context_bytes()) == []


def test_bits_that_changed_are_named() -> None:
    first = HvmContext.from_bytes(context_bytes())
    put("CPU/0.cr4", 0xA0)(first)
    other = HvmContext.from_bytes(first.to_bytes())
    put("CPU/0.cr4", 1 << 40 | 0x820, "CPU/0.rflags", 0x46, "PMTIMER/0.pm1a_en", 0x100)(other)
    found = list(diff_contexts(first, HvmContext.from_bytes(other.to_bytes())))
    assert [str(difference) for difference in found] == [
        "CPU/0.rflags: 0x246 -> 0x46 (-IF)",
        "CPU/0.cr4: 0xa0 -> 0x10000000820 (-PGE +UMIP +bit 40)",
        "PMTIMER/0.pm1a_en: 0x0 -> 0x100 (+PWRBTN)",
    ]
    assert found[1].as_dict()["bits"] == "-PGE +UMIP +bit 40"
    assert "bits" not in Difference("tail", "1", "2").as_dict()


def test_records() -> None:
    def longer(context: HvmContext) -> None:
        context.entries.insert(-1, Record(19, 0, bytes(8)))
        context.records(5)[0].body = bytes(context.records(5)[0].body)[:16]

    found = lines(context_bytes(), drop("PIT/0"), longer)
    assert found == [
        "LAPIC/0: 24 bytes -> 16 bytes",
        "PIT/0: only in the first: 56 bytes",
        "TSC_ADJUST/0#2: only in the second: 8 bytes",
    ]


def test_variable_and_unknown_records() -> None:
    base = HvmContext([Record(99, 1, b"abcdef"), Record(20, 0, bytes(24)), Record(0, 0)], b"t")

    def change(context: HvmContext) -> None:
        context.entries[0].body = b"abXYefgh"
        context.entries[1].body = bytes(16) + b"\1" + bytes(7)
        context.tail = b"u"

    assert lines(base.to_bytes(), change) == [
        "context:99/1: 6 bytes -> 8 bytes", "context:99/1[0x2:+2]: 0x6463 -> 0x5958",
        "CPU_MSR/0.msr[0].val: 0x0 -> 0x1", "tail[0x0:+1]: 0x74 -> 0x75",
    ]  # fmt: skip


def test_vmport() -> None:
    state = VmportState.empty()
    state.guestinfo = Slots({b"a": b"1", b"gone": b"x"})
    base = HvmContext([to_record(state), Record(0, 0)]).to_bytes()
    state.guestinfo = Slots({b"a": b"2"})
    state.guestinfo_jumbo = Slots({b"new": b"j"})
    state.channels[1].recv[0] = Buffer(b"abc")
    other = HvmContext([to_record(state), Record(0, 0)])
    found = [str(d) for d in diff_contexts(HvmContext.from_bytes(base), other)]
    assert 'VMPORT/0.guestinfo["a"]: "1" -> "2"' in found
    assert 'VMPORT/0.guestinfo["gone"]: only in the first: "x"' in found
    assert 'VMPORT/0.guestinfo_jumbo["new"]: only in the second: "j"' in found
    assert "VMPORT/0.chans[1].recv[0]:  -> 616263" in found


@given(st.binary(max_size=200) | any_contexts, st.binary(max_size=200) | any_contexts)
def test_any_contexts(one: bytes, other: bytes) -> None:
    """Nothing differs exactly where the bytes are the same."""
    found = list(diff_contexts(_taken(one), _taken(other)))
    assert (found == []) == (one == other)
    assert not [d for d in found if d.before is None and d.after is None]


@given(st.data())
def test_any_change_is_a_difference(data: st.DataObject) -> None:
    """Of a byte, or of the order of records: VMPORT, variable and odd records among them."""
    state = VmportState.empty()
    state.guestinfo = Slots({b"key": b"value", b"k": b""})
    vmport = to_record(state)
    vmport.body = bytes(vmport.body) + b"behind"
    context = HvmContext(
        [vmport, Record("RTC", 0, bytes(25)), Record("CPU_MSR", 0, bytes(8 + 16 + 3)),
         Record("CPU", 0, bytes(1028)), Record(99, 0, b"odd"), Record("END", 0, b"", length=3)]
    )  # fmt: skip
    one = bytearray(context.to_bytes())
    other = one[:]
    for _ in range(data.draw(st.integers(0, 3))):
        other[data.draw(st.integers(0, len(other) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        changed = _taken(other)
        changed.entries = data.draw(st.permutations(changed.entries))
        other = bytearray(changed.to_bytes())
    found = list(diff_contexts(_taken(one), _taken(other)))
    assert (found == []) == (one == other)


def test_a_key_that_is_there_twice() -> None:
    """Each of them is compared with its counterpart."""
    bodies = []
    for first in (b"one", b"two"):
        body = bytearray(VmportState.empty().to_bytes())
        entries = pack_entry(b"key", first) + pack_entry(b"key", b"last")
        body[4:8] = len(entries).to_bytes(4, "little")
        body[20:24] = (2).to_bytes(4, "little")
        bodies.append(HvmContext([Record("VMPORT", 0, bytes(body) + entries)]))
    assert [str(d) for d in diff_contexts(*bodies)] == ['VMPORT/0.guestinfo["key"]: "one" -> "two"']
    once = HvmContext.from_bytes(bodies[0].to_bytes())
    gone = remove_path(bytes(once.records(21)[0].body), "guestinfo[key]")
    once.records(21)[0].body = set_path(gone, "guestinfo[key]", b"one")
    found = [str(d) for d in diff_contexts(bodies[0], once)]
    assert 'VMPORT/0.guestinfo["key"]#2: only in the first: "last"' in found


def images(one: Path | bytes, other: Path | bytes, **how: Any) -> list[str]:
    with open_image(one) as first, open_image(other) as second:
        return [str(difference) for difference in diff_images(first, second, **how)]


@pytest.mark.parametrize("path", [*IMAGES, EXAMPLE], ids=lambda path: path.name)
def test_an_image_and_itself(path: Path) -> None:
    assert images(path, path, memory=True) == []


def test_images() -> None:
    found = images(EXAMPLE, next(path for path in IMAGES if path.stem == "hvm2x420"))
    text = "\n".join(found)
    for part in (
        "config.c_info.name: ", "libxc.domain_header.xen_minor: 0x11 -> 0x14",
        "HVM_PARAMS.VIRIDIAN: only in the second", "EMULATOR_CONTEXT/0.timer[0x3:+21]: ",
        "CPU/0.rip: ", "X86_TSC_INFO.nsec: ",
    ):  # fmt: skip
        assert part in text, part
    heads = list(dict.fromkeys(re.split(r"[./:#\[]", line)[0] for line in found))
    order = [
        "CPU", "LAPIC_REGS", "HVM_PARAMS", "X86_TSC_INFO", "config", "libxc", "EMULATOR_CONTEXT",
    ]  # fmt: skip
    assert [head for head in heads if head in order] == order
    assert len(found) < 50


def stream(*memory: bytes) -> bytes:
    tail = record(9, context_bytes()) + record(0)
    return libxc_head() + record(16) + b"".join(memory) + tail


def test_memory() -> None:
    one = stream(page_data(word(0), word(1), word(2), fill=1))
    other = stream(page_data(word(0), word(1, 0xE), word(5), fill=1))
    assert images(one, other) == [
        "pfn[0x1].type: normal -> allocate-only", "pfn[0x2].type: only in the first: normal",
        "pfn[0x5].type: only in the second: normal",
    ]  # fmt: skip
    other = stream(page_data(word(0), word(1), fill=1), page_data(word(2), fill=9))
    assert images(one, other) == []
    assert images(one, other, memory=True) == [
        f"pfn[0x2][0x0:+4096]: {'03' * 32}... (4096 bytes) -> {'09' * 32}... (4096 bytes)"
    ]


def test_pages_that_differ_are_ranges() -> None:
    numbers = (0, 1, 2, 3, 7, 8, 9)
    pages = [bytes([number]) * 4096 for number in numbers]
    changed = pages[:]
    for at, offset in ((1, 5), (2, 6), (2, 99), (3, 0), (5, 4095), (6, 8), (6, 12)):
        page = bytearray(changed[at])
        page[offset] ^= 0xFF
        changed[at] = bytes(page)
    one, other = (stream(_batch(numbers, data)) for data in (pages, changed))
    assert images(one, other) == []
    assert images(one, other, memory=True) == [
        "pfn[0x1:+0x3]: 3 pages (4 bytes differ)", "pfn[0x8:+0x2]: 2 pages (3 bytes differ)",
    ]  # fmt: skip
    alone = (stream(_batch(numbers[-1:], data[-1:])) for data in (pages, changed))
    assert images(*alone, memory=True) == [
        "pfn[0x9][0x8:+5]: 0909090909 -> f6090909f6 (2 bytes differ)"
    ]
    with open_image(one) as first, open_image(stream()) as second:
        found = {each.path: each.count for each in diff(first, second)}
    assert found == {"pfn[0x0:+0x4].type": 4, "pfn[0x7:+0x3].type": 3}


def _batch(numbers: tuple[int, ...], pages: list[bytes]) -> bytes:
    head = struct.pack(f"<II{len(numbers)}Q", len(numbers), 0, *numbers)
    return record(1, head + b"".join(pages))


def test_msrs_that_changed_are_named() -> None:
    base = HvmContext([Record("CPU_MSR", 0, msrs((0x48, 0, 1))), Record("END", 0)])
    other = HvmContext([Record("CPU_MSR", 0, msrs((0x48, 0, 2))), Record("END", 0)])
    assert [str(each) for each in diff_contexts(base, other)] == [
        "CPU_MSR/0.msr[0].val: 0x1 -> 0x2 (-IBRS +STIBP)"
    ]


def test_policies() -> None:
    def with_policies(eax: int, spec_ctrl: int) -> bytes:
        cpuid = struct.pack("<6I", 1, 0xFFFFFFFF, eax, 0, 0, 0)
        msr = struct.pack("<IIQ", 0x48, 0, spec_ctrl)
        return libxc_head() + record(17, cpuid) + record(18, msr) + record(16) + record(0)

    assert images(with_policies(5, 1), with_policies(6, 2)) == [
        "CPUID[1].eax: 0x5 -> 0x6",
        "MSR[0x48]: 0x1 -> 0x2 (-IBRS +STIBP)",
    ]


def test_records_that_are_not_taken_apart() -> None:
    """A checkpoint more, another PV guest's shared page, a type that nobody knows."""
    head = libxc_head() + record(16)
    one = head + record(7, bytes(4096)) + record(0x80000055, b"abcd") + record(0)
    page = bytes(100) + b"\1\2" + bytes(3994)
    other = head + record(7, page) + record(0x80000055, b"abcde") + record(14) + record(0)
    assert images(one, other) == [
        "SHARED_INFO/0[0x64:+2]: 0x0 -> 0x201", "libxc:0x80000055/0: 4 bytes -> 5 bytes",
        "CHECKPOINT/0: only in the second: 0 bytes",
    ]  # fmt: skip


def test_a_missing_context() -> None:
    bare = libxc_head() + record(16) + record(0)
    assert images(stream(), bare) == ["HVM_CONTEXT: only in the first: present"]


def test_many_differences_of_one_body_end() -> None:
    one, other = bytes(20_000), (bytes(49) + b"\1") * 400
    head = libxc_head() + record(16)
    found = images(*(head + record(0x80000055, body) + record(0) for body in (one, other)))
    assert len(found) == 100
    assert found[0] == "libxc:0x80000055/0[0x31:+1]: 0x0 -> 0x1"
    assert found[-1].startswith("libxc:0x80000055/0[0x1387:+15001]: 00")
    assert found[-1].endswith(" (301 bytes differ)")


def test_the_example_of_the_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLE.parent.parent)
    assert doctest.testmod(diffing) == (0, 2)


def test_one_function_for_both() -> None:
    with open_image(EXAMPLE) as image, open_image(context_bytes()) as bare:
        context = image.context.copy()
        assert not [*diff(image, image)] and not [*diff(image, context)] and not [*diff(bare, bare)]
        context.vcpus[0].cpu.rax = 7
        assert [str(found) for found in diff(context, image)] == ["CPU/0.rax: 0x7 -> 0x0"]
        assert [str(f) for f in diff(image, bare)] == [
            str(f) for f in diff_contexts(image.context, bare.context)
        ]


def test_a_legacy_stream_is_not_compared() -> None:
    with open_image(DATA / "streams" / "legacy_hvm_w64.in.bin") as image:
        for pair in ((image, image), (HvmContext(), image)):
            with pytest.raises(FormatError, match="legacy"):
                diff(*pair)
