"""The genuine tool's text, byte for byte, and where ours differs from it on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import x86
from hvmctx.abi.declare import record_types
from hvmctx.abi.releases import RELEASES, Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.image import open_image
from hvmctx.render.text import TextDialect
from tests.samples import (
    CONTEXTS,
    DATA,
    EXAMPLE,
    context_bytes,
    domid_of,
    expected_text,
    release_of,
)

ASTRAY = {
    # the tool reads the 1032 bytes that it was compiled for of a record of 1024
    "old_cpu_1024_misparse",
    # the tool's 32-bit cursor wraps, and it goes on reading in the middle
    "unknown_type_length_past_end",
}


def dump(context: HvmContext, release: str, domid: int = 0, show_all: bool = False) -> str:
    return "".join(TextDialect(Release(release), show_all=show_all).dump(context, domid=domid))


@pytest.mark.parametrize("path", CONTEXTS, ids=lambda path: "/".join(path.parts[-3:]))
def test_samples(path: Path) -> None:
    expected = expected_text(path)
    context = HvmContext.parse(path.read_bytes())
    ours = dump(context, release_of(path), domid_of(expected))
    if path.stem not in ASTRAY:
        assert ours == expected
        status = path.with_suffix(".rc.txt")
        if status.exists() and status.read_text().strip() == "1":
            assert context.damage is not None
        return
    same = 0
    while ours[: same + 1] == expected[: same + 1]:
        same += 1
    assert expected[:same].count("\n") >= (71 if "1024" in path.stem else 7)


def test_old_cpu_record_does_not_lead_astray() -> None:
    path = DATA / "hvmctx" / "4.17" / "edge" / "old_cpu_1024_misparse.bin"
    context = HvmContext.parse(path.read_bytes())
    assert [record.typecode for record in context.entries] == [1, 2, 13, 0]
    assert "ACPI PM: TMR_VAL" in dump(context, "4.17")
    assert "ACPI PM: TMR_VAL" not in expected_text(path)


def test_wrapped_length_ends_the_dump() -> None:
    path = DATA / "hvmctx" / "4.17" / "edge" / "unknown_type_length_past_end.bin"
    context = HvmContext.parse(path.read_bytes())
    assert dump(context, "4.17").splitlines()[-2:] == [
        "Entry 1: type 99 instance 5, length 4294967280",
        " ** Don't understand type 99: skipping",
    ]
    assert "found 3 bytes, expected 4294967280" in str(context.damage)


@pytest.mark.parametrize(
    ("image", "release", "domid"),
    [("pvhx", "4.17", 11), ("hvm2x420", "4.20", 1), ("hvm1", "4.17", 2)],
)
def test_genuine_images(image: str, release: str, domid: int) -> None:
    """The text that was taken after the save: only clocks have gone on."""
    path = EXAMPLE if image == "hvm1" else DATA / "images" / f"{image}.save"
    expected = (DATA / "images" / f"{image}.hvmctx.txt").read_text()
    with open_image(path) as opened:
        ours = dump(opened.hvm_context, release, domid)
    assert len(ours.splitlines()) == len(expected.splitlines())
    for mine, theirs in zip(ours.splitlines(), expected.splitlines()):
        if mine != theirs:
            assert mine.startswith(("            tsc 0x", "    ACPI PM: TMR_VAL 0x"))
            assert mine.partition(",")[2] == theirs.partition(",")[2]


# Which tool is the first that prints a line differently from the one before it.
CHANGES = {
    "CPU": ["4.1", "4.2", "4.12", "newest"],
    "LAPIC_REGS": ["4.12"],
    "HPET": ["4.12"],
    "MTRR": ["4.12"],
    "VIRIDIAN_DOMAIN": ["4.2"],
    "VIRIDIAN_VCPU": ["4.2", "4.7", "4.9", "4.11", "4.12"],
    "VMCE_VCPU": ["4.2", "4.3"],
    "TSC_ADJUST": ["4.3"],
}


@pytest.mark.parametrize("known", [k for k in record_types() if 0 < k.typecode <= 20], ids=str)
def test_which_releases_differ(known: object) -> None:
    assert isinstance(known, type(x86.CPU))
    bodies = (bytes((7 * i + 1) % 256 for i in range(known.size)), bytes(known.size))
    records = [Record(known, 0, body) for body in bodies]
    texts = [[TextDialect(Release(name)).entry(0, r) for r in records] for name in RELEASES]
    changed = [
        name for name, text, before in zip(list(RELEASES)[1:], texts[1:], texts) if text != before
    ]
    assert changed == CHANGES.get(known.name, [])


GOLDEN = {
    "4.0": ["           itdr            (0x"],
    "4.2": ["    VIRIDIAN_VCPU: apic_assist 0x908070605040302"],
    "4.8": ["    VIRIDIAN_VCPU: apic_assist_msr 0x908070605040302, apic_assist_vector 0xa"],
    "4.10": ["    VIRIDIAN_VCPU: vp_assist_msr 0x908070605040302, vp_assist_vector 0xa"],
    "4.11": ["    VIRIDIAN_VCPU: vp_assist_msr 0x908070605040302, vp_assist_pending true"],
    "4.12": ["    VIRIDIAN_VCPU: vp_assist_msr 0x908070605040302, apic_assist_pending true"],
}


@pytest.mark.parametrize("release", GOLDEN)
def test_dialects_that_no_sample_shows(release: str) -> None:
    """Straight from the change log of xen-hvmctx.c."""
    context = HvmContext(
        [Record(x86.CPU, 0, bytes(1024)), Record(x86.VIRIDIAN_VCPU, 0, bytes(range(2, 18)))]
    )
    for line in GOLDEN[release]:
        assert line in dump(context, release)


def test_fpu_block_depends_on_the_flags_since_4_12() -> None:
    for flags in (0, 1):
        record = Record(x86.CPU, 0, x86.CPU.layout.encode({"flags": flags}))
        for release, shown in (("4.11", True), ("4.12", bool(flags))):
            text = TextDialect(Release(release)).entry(0, record)
            assert ("    FPU:    fcw" in text) == shown
        assert "    FPU:    fcw" in TextDialect(show_all=True).entry(0, record)


def test_labels_of_ds_and_es_are_swapped_as_in_the_tool() -> None:
    record = Record(x86.CPU, 0, x86.CPU.layout.encode({"ds_sel": 0xD5, "es_sel": 0xE5}))
    text = TextDialect(Release("4.17")).entry(0, record)
    assert "             es 0x00d5 (" in text and "             ds 0x00e5 (" in text
    text = TextDialect(Release("4.5")).entry(0, record)
    assert "             ds 0x000000d5 (" in text


ALL_LINES = [
    ("RTC", {"rtc_offset": -3600}, "          rtc_offset -3600\n"),
    (
        "LAPIC",
        {"tdt_msr": 5, "pending_esr": 6},
        "          tdt_msr 0x5\n          pending_esr 0x6\n",
    ),
    ("CPU", {"msr_tsc_aux": 7, "flags": 1}, "          msr_tsc_aux 0x7\n"),
    ("CPU", {"flags": 1}, "          flags 0x1\n"),
    ("VMCE_VCPU", {"mcg_ext_ctl": 8}, "          mcg_ext_ctl 0x8\n"),
    ("VIRIDIAN_DOMAIN", {"reference_tsc": 9}, "          reference_tsc 0x9\n"),
    ("VIRIDIAN_VCPU", {"simp_msr": 10}, "          simp_msr 0xa\n"),
    ("PIT", {"channels": [{}, {}, {"mode": 3}]}, "               mode 0x3, bcd 0, gate 0\n"),
    ("PIT", {"pad0": 3}, "          pad0 0x3\n"),
    ("PCI_LINK", {"pad0": [0, 1, 0, 0]}, "          pad0 00010000\n"),
    ("HPET", {"res0": 2}, "          res0 0x2\n"),
    ("CPU_XSAVE", {"xcr0": 7, "xcr0_accum": 7}, "          xcr0 0x0000000000000007 accum"),
]


@pytest.mark.parametrize(("name", "fields", "line"), ALL_LINES)
def test_all(name: str, fields: dict[str, object], line: str) -> None:
    known = next(k for k in record_types() if k.name == name)
    record = Record(known, 0, known.layout.encode(fields))
    assert line in TextDialect(show_all=True).entry(0, record)
    assert line not in TextDialect().entry(0, record)


@pytest.mark.parametrize("known", [k for k in record_types() if 0 < k.typecode <= 20], ids=str)
def test_all_forgets_nothing(known: object) -> None:
    """Any field that is not zero changes the text, reserved ones too."""
    assert isinstance(known, type(x86.CPU))
    base = {"flags": 1} if known is x86.CPU else {}
    zero = known.layout.encode(base)
    dialect = TextDialect(show_all=True)
    before = dialect.entry(0, Record(known, 0, zero))
    for path in known.layout.paths():
        slot = known.layout.locate(path)
        body = bytearray(zero)
        slot.put(body, bytes([1] * slot.size) if slot.is_bytes else (1 if path != "flags" else 2))
        if path not in ("fpu_regs", "save_area.fpu_sse.x"):
            assert dialect.entry(0, Record(known, 0, body)) != before, path


def test_variable_parts() -> None:
    body = bytes.fromhex("01000000 00000000 48000000 00000000 0500000000000000 ff")
    text = TextDialect(show_all=True).entry(0, Record(x86.CPU_MSR, 0, body))
    assert text.endswith("          msr 0x00000048 val 0x0000000000000005\n          0x0000: ff\n")
    text = TextDialect(show_all=True).entry(0, Record(x86.CPU_XSAVE, 0, bytes(600) + b"\1\2"))
    assert text.endswith("          0x0000: 0102\n")
    for record in (Record(x86.CPU_MSR, 0, body), Record(x86.CPU_XSAVE, 0, bytes(600))):
        assert "Don't understand" in TextDialect().entry(0, record)


@given(st.binary(max_size=300), st.sampled_from(list(RELEASES)), st.booleans())
def test_any_bytes(data: bytes, release: str, show_all: bool) -> None:
    text = dump(HvmContext.parse(data), release, show_all=show_all)
    assert text.startswith("HVM save record for domain 0\n") and text.endswith("\n")


def test_selected_records_keep_their_numbers() -> None:
    context = HvmContext.parse(context_bytes())
    text = "".join(TextDialect().dump(context, wanted=lambda r: r.typecode == 3))
    assert [line for line in text.splitlines() if line.startswith("Entry")] == [
        "Entry 2: type 3 instance 0, length 8",
        "Entry 3: type 3 instance 1, length 8",
    ]
