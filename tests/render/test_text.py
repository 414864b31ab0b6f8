"""The genuine tool's text, byte for byte, and where ours differs from it on purpose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import x86
from hvmctx.abi.declare import RecordType, declared
from hvmctx.abi.registry import record_types
from hvmctx.abi.releases import RELEASES, Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.image.image import open_image
from hvmctx.render.text import TextDialect
from tests.builders.samples import (
    CONTEXTS,
    DATA,
    EXAMPLE,
    context_bytes,
    domid_of,
    expected_text,
    release_of,
    texts_by_release,
)

KNOWN = [known for known in declared.values() if known.size]
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
    context = HvmContext.from_bytes(path.read_bytes(), damaged=True)
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


def test_text_of_every_release() -> None:
    releases = set()
    for name, release, data, expected in texts_by_release():
        assert dump(HvmContext.from_bytes(data), release, domid=7) == expected, name
        releases.add(Release(release).branch)
    assert releases == set(RELEASES)


def test_old_cpu_record_does_not_lead_astray() -> None:
    path = DATA / "hvmctx" / "4.17" / "edge" / "old_cpu_1024_misparse.bin"
    context = HvmContext.from_bytes(path.read_bytes(), damaged=True)
    assert [record.typecode for record in context.entries] == [1, 2, 13, 0]
    assert "ACPI PM: TMR_VAL" in dump(context, "4.17")
    assert "ACPI PM: TMR_VAL" not in expected_text(path)


def test_wrapped_length_ends_the_dump() -> None:
    path = DATA / "hvmctx" / "4.17" / "edge" / "unknown_type_length_past_end.bin"
    context = HvmContext.from_bytes(path.read_bytes(), damaged=True)
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
        ours = dump(opened.context, release, domid)
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


@pytest.mark.parametrize("known", KNOWN, ids=str)
def test_which_releases_differ(known: RecordType) -> None:
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


VARIABLE = {"CPU": [1016, *range(1025, 1032)], "CPU_XSAVE": [600 + 37], "CPU_MSR": [8 + 16 * 2, 33]}
"""Lengths besides those of the releases: what loaders take, and what they do not."""


def lengths(known: RecordType) -> list[int]:
    """All that a record of this type may have, in any release, and a byte more or less."""
    legal = {Release(name).size_of(known) or known.size for name in RELEASES}
    return sorted({*legal, *VARIABLE.get(known.name, ()), known.size - 1, known.size + 1})


def hidden(
    dialect: TextDialect, known: RecordType, length: int, fill: int, start: int = 0
) -> list[int]:
    """The offsets of bytes of which a change goes unseen: of any of their bits where the
    record is short, else of one, not the lowest, as words tell 0 and 1 apart."""

    def text(body: bytes) -> str:
        return dialect.entry(0, Record(known, 0, body))

    plain = bytes([fill]) * length
    before = text(plain)
    lost = []
    for at in range(start, length):
        for bit in range(8) if length <= 64 else (1 + at % 7,):
            changed = plain[:at] + bytes([fill ^ 1 << bit]) + plain[at + 1 :]
            if text(changed) == before:
                lost.append(at)
    return lost


@pytest.mark.parametrize("known", KNOWN, ids=str)
def test_all_hides_no_byte(known: RecordType) -> None:
    """From zero to something, and from 1 to something else: `on` may stand for both."""
    dialect = TextDialect(show_all=True)
    for length in lengths(known):
        start = 1000 if known is x86.CPU and length % 8 else 0  # all before is as in the others
        for fill in (0, 1):
            assert hidden(dialect, known, length, fill, start) == [], (length, fill)


STYLES = [
    (known, release)
    for known in KNOWN
    for release in (
        "4.0",
        *CHANGES.get(known.name, ()),
        *(["4.1", "4.2"] * (known is x86.CPU_XSAVE)),
    )
    if release != "newest"
]


@pytest.mark.parametrize(("known", "release"), STYLES, ids=str)
def test_all_hides_no_byte_in_any_style(known: RecordType, release: str) -> None:
    dialect = TextDialect(Release(release), show_all=True)
    for fill in (0, 1):
        assert hidden(dialect, known, known.size, fill) == [], fill


def test_what_hides_a_byte_is_found() -> None:
    """The check itself: the tool's own text hides most of a VIRIDIAN_VCPU."""
    assert hidden(TextDialect(), x86.VIRIDIAN_VCPU, 216, 1) != []
    lost = hidden(TextDialect(), x86.PIT, 56, 1)
    assert {32, 47, 48, 55} <= set(lost) and 0 not in lost


ODD_BYTES = [
    ("newest", "PIT", 56, {48: 2}, "    PIT: speaker on\n", "          speaker_data_on 0x2\n"),
    ("4.11", "VIRIDIAN_VCPU", 216, {8: 3}, "pending true\n", "          apic_assist_pending 0x3\n"),
    ("newest", "LAPIC_REGS", 1024, {0x24: 7}, "", "          data[0x24:+4] 0x7\n"),
    ("newest", "LAPIC_REGS", 1024, {0x3F: 7}, "", "          data[0x38:+8] 0x700000000000000\n"),
    ("4.11", "LAPIC_REGS", 1024, {0x24: 7}, "0x0020: 0x0000000700000000", ""),
    ("4.1", "CPU", 1032, {511: 1}, "", "          fpu_regs[0x1f8:+8] 0x100000000000000\n"),
    (
        "newest",
        "CPU",
        1028,
        {1024: 2},
        "          flags 0x1\n",
        "          0x0400: 02 (read as 01)\n",
    ),
    ("newest", "CPU", 1028, {}, "          flags 0x1\n", "          0x0400: 00 (read as 01)\n"),
    (
        "newest",
        "CPU_MSR",
        24,
        {12: 5},
        "",
        "          msr   00000000 val   0000000000000000 _rsvd 0x5\n",
    ),
]


@pytest.mark.parametrize(("release", "name", "length", "odd", "line", "added"), ODD_BYTES)
def test_all_of_odd_bytes(
    release: str, name: str, length: int, odd: dict[int, int], line: str, added: str
) -> None:
    """`line` is there, `added` only because of these bytes."""
    known = next(k for k in KNOWN if k.name == name)
    body = bytearray(length)
    for at, value in odd.items():
        body[at] = value
    text = TextDialect(Release(release), show_all=True).entry(0, Record(known, 0, body))
    assert line in text and added in text
    if name != "CPU":
        plain = TextDialect(Release(release), show_all=True).entry(
            0, Record(known, 0, bytes(length))
        )
        assert not added or added not in plain
        assert "[0x" not in plain and "_rsvd" not in plain


def test_flags_of_an_odd_cpu_record_that_agree_need_no_line() -> None:
    for length in (1016, 1024, 1031):
        body = bytearray(length)
        body[1024:1025] = bytes([1] * (length > 1024))
        assert "read as" not in TextDialect(show_all=True).entry(0, Record(x86.CPU, 0, body))


def test_all_of_what_nothing_declares() -> None:
    context = HvmContext([Record(99, 0, b"\x12" * 33), Record(99, 1), Record(x86.END, 0, b"\7")])
    assert dump(context, "4.17", show_all=True).splitlines()[1:] == [
        "Entry 0: type 99 instance 0, length 33",
        " ** Don't understand type 99: skipping",
        "          0x0000: " + 32 * "12",
        "          0x0020: 12",
        "Entry 1: type 99 instance 1, length 0",
        " ** Don't understand type 99: skipping",
        "Entry 2: type 0 instance 0, length 1",
        "          0x0000: 07",
    ]
    assert "0x0000" not in dump(context, "4.17")


@pytest.mark.parametrize(
    ("release", "xmm"), [("4.0", "xmm00 "), ("4.17", "xmm00 "), ("newest", "xmm0  ")]
)
def test_all_is_of_one_style(release: str, xmm: str) -> None:
    """The two FXSAVE images alike, but for the records' own offsets."""
    image = bytes(range(7, 7 + 160)) * 4
    texts = [
        TextDialect(Release(release), show_all=True).entry(0, Record(known, 0, body))
        for known, body in (
            (x86.CPU, x86.CPU.layout.encode({"fpu_regs": image[:512]})),
            (x86.CPU_XSAVE, bytes(24) + image[:512] + bytes(64)),
        )
    ]
    one, other = (
        [line for line in text.splitlines() if re.match(r" +(FPU|ftw|fpuip|mxcsr|xmm|mm|\()", line)]
        for text in texts
    )
    assert one == other and len(one) == 34 and any(xmm in line for line in one)


def test_all_labels_what_the_dialect_is_too_old_for() -> None:
    context = HvmContext([Record(k, 0, bytes(k.size)) for k in KNOWN])
    for release in ("4.0", "4.1"):
        text = dump(context, release, show_all=True)
        for label in (
            "    VMCE_VCPU: caps 0\n          mci_ctl2_bank0 0\n",
            "    TSC_ADJUST: tsc_adjust 0\n",
            "    VIRIDIAN_VCPU: apic_assist 0x0\n",
        ):
            assert label in text
        assert "Don't understand type 18: skipping" in dump(context, release)


def test_variable_parts() -> None:
    body = bytes.fromhex("01000000 00000000 48000000 00000000 0500000000000000 ff")
    text = TextDialect(show_all=True).entry(0, Record(x86.CPU_MSR, 0, body))
    assert text.endswith("          msr 0x00000048 val 0x0000000000000005\n          0x0018: ff\n")
    text = TextDialect(show_all=True).entry(0, Record(x86.CPU_XSAVE, 0, bytes(600) + b"\1\2"))
    assert text.endswith("          0x0258: 0102\n")
    for record in (Record(x86.CPU_MSR, 0, body), Record(x86.CPU_XSAVE, 0, bytes(600))):
        assert "Don't understand" in TextDialect().entry(0, record)


@given(st.binary(max_size=300), st.sampled_from(list(RELEASES)), st.booleans())
def test_any_bytes(data: bytes, release: str, show_all: bool) -> None:
    text = dump(HvmContext.from_bytes(data, damaged=True), release, show_all=show_all)
    assert text.startswith("HVM save record for domain 0\n") and text.endswith("\n")


def test_selected_records_keep_their_numbers() -> None:
    context = HvmContext.from_bytes(context_bytes())
    text = "".join(TextDialect().dump(context, wanted=lambda r: r.typecode == 3))
    assert [line for line in text.splitlines() if line.startswith("Entry")] == [
        "Entry 2: type 3 instance 0, length 8",
        "Entry 3: type 3 instance 1, length 8",
    ]
