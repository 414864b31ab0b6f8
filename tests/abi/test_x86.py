"""Every member of every record, against the layouts that a compiler gave Xen's headers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hvmctx.abi import x86
from hvmctx.abi.fields import Layout, fields_of
from hvmctx.abi.registry import by_name, by_typecode, record_types
from tests.builders.samples import DATA, load

LAYOUTS = load(DATA / "layouts.json")
RECORDS = {record["name"]: record for record in LAYOUTS["records"]}
MEMBERS = [(name, member) for name, record in RECORDS.items() for member in record["members"]]


def test_descriptor() -> None:
    assert x86.DESCRIPTOR.pack(0x102, 3, 0x4050607).hex() == "0201030007060504"
    found = {f.name: (f.offset, f.size) for f in fields_of(x86.hvm_save_descriptor)}
    assert found == {m["name"]: (m["offset"], m["size"]) for m in LAYOUTS["descriptor"]}


@pytest.mark.parametrize("name", RECORDS)
def test_record(name: str) -> None:
    known = by_name(name)
    assert known.typecode == RECORDS[name]["typecode"]
    assert known.size == RECORDS[name]["sizeof"]
    assert known.struct.__name__ == RECORDS[name]["struct"]
    assert by_typecode(known.typecode) is known


def _check(layout: Layout, member: dict[str, Any]) -> None:
    whole_array = member.get("count", 1) > 1 and member.get("elem_size") != 1
    path = member["name"] + ("[0]" if whole_array else "")
    if path in ("i", "pad"):
        path += "[0]"
    slot = layout.locate(path)
    if member["type"] == "bitfield":
        assert 8 * slot.offset + slot.shift == member["abs_bit_offset"]
        assert slot.width == member["bit_width"]
        return
    assert slot.offset == member["offset"]
    assert slot.size == member["elem_size" if whole_array else "size"]
    assert slot.signed == member["type"].startswith("s64")
    if whole_array:
        last = layout.locate(f"{member['name']}[{member['count'] - 1}]")
        assert last.offset + last.size == member["offset"] + member["size"]


@pytest.mark.parametrize(
    ("name", "member"), MEMBERS, ids=lambda v: v if isinstance(v, str) else v["name"]
)
def test_member(name: str, member: dict[str, Any]) -> None:
    known = by_name(name)
    if member.get("flexible"):
        assert known.rest is not None
        array, _, field = member["name"].partition("[n].")
        assert known.rest[0] == array
        slot = Layout.of(known.rest[1]).locate(field)
        assert (known.size + slot.offset, slot.size) == (member["offset"], member["size"])
    else:
        _check(known.layout, member)


@pytest.mark.parametrize("member", RECORDS["CPU"]["compat"], ids=lambda member: member["name"])
def test_compat_member(member: dict[str, Any]) -> None:
    _check(Layout.of(x86.hvm_hw_cpu_compat), member)


def test_no_member_is_ours_alone() -> None:
    """Whatever is declared, and not padding, the headers have too."""
    for known in record_types():
        if known.name not in RECORDS:
            continue
        theirs = {
            m["name"].partition("[")[0].partition(".")[0] for m in RECORDS[known.name]["members"]
        }
        ours = {f.name for f in known.layout.fields}
        assert {n for n in ours - theirs if not n.startswith("_")} == set(), known


def test_reserved_fields() -> None:
    """All that text and the strict view take for reserved."""

    def walk(ctype: Any, prefix: str) -> Iterator[str]:
        for field in fields_of(ctype):
            element = getattr(field.ctype, "_type_", field.ctype)
            if field.is_reserved:
                yield prefix + field.name
            elif hasattr(element, "_fields_"):
                yield from walk(element, f"{prefix}{field.name}.")

    found = [name for known in record_types() for name in walk(known.struct, f"{known.name}.")]
    found += list(walk(x86.CPU_MSR.rest[1], "CPU_MSR.rest.")) if x86.CPU_MSR.rest else []
    expected = """
        CPU.pad0 CPU.pending_reserved PIC._pad0 IOAPIC.redirtbl.fields.reserve
        IOAPIC.redirtbl.fields.reserved LAPIC._pad0 PCI_IRQ.pad ISA_IRQ.pad PCI_LINK.pad0
        PIT.pad0 RTC.pad0 HPET.res0 HPET.res1 HPET.res2 HPET.res3 HPET.timers.res4 HPET.res5
        CPU_XSAVE.save_area.xsave_hdr.reserved VIRIDIAN_VCPU._pad CPU_MSR._pad0
        CPU_MSR.rest._rsvd VMPORT._pad0 VMPORT.chans._pad0 VMPORT.chans._pad1
    """
    assert sorted(found) == sorted(expected.split())
