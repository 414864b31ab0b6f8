"""What mends each rule: the steps, as a golden table, and what holds for all of them."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmctx.abi.releases import RELEASES, Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.image.image import open_image
from hvmctx.mend.repair import Repair, repair
from hvmctx.restore.context import load, remedy
from hvmctx.restore.context_rules import RULES, UNPAUSED, WALK
from hvmctx.restore.guest import PVH_DEVICES, Guest
from hvmctx.restore.machine import AMD, Machine
from hvmctx.restore.remedies import REMEDIES
from tests.builders.cases.context_rules import CASES
from tests.builders.cases.context_rules import WALK as WALKS
from tests.builders.contexts import Change, body_of, msrs, nothing, put, xsave
from tests.builders.loads import base, having
from tests.builders.samples import DATA, EXAMPLE, context_bytes

STEPS = {
    "cpu-vcpu": "",
    "cpu-length": "CPU/0.length=0x408",
    "cpu-pad0": "CPU/0.pad0=0x0",
    "cpu-cr0": "",
    "cpu-cr4": "",
    "cpu-efer": "",
    "cpu-dr": "CPU/0.dr6=0x0",
    "cpu-cr3": "",
    "cpu-flags": "CPU/0.flags=0x0",
    "cpu-tsc-aux": "CPU/0.msr_tsc_aux=0x0",
    "cpu-event": "CPU/0.pending_event=0x0",
    "cpu-error-code": "CPU/0.error_code=0x0",
    "pic-instance": "remove PIC/2",
    "pic-length": "PIC/0.length=0x8",
    "pic-int-output": "PIC/0.int_output=0x1",
    "pic-state": "PIC/0.is_master=0x1",
    "ioapic-length": "IOAPIC/0.length=0x190",
    "lapic-vcpu": "remove LAPIC/1",
    "lapic-length": "LAPIC/0.length=0x20",
    "lapic-base": "LAPIC/0.apic_base_msr=0xc00",
    "lapic-regs-vcpu": "remove LAPIC_REGS/1",
    "lapic-regs-length": "LAPIC_REGS/0.length=0x400",
    "pci-irq-length": "PCI_IRQ/0.length=0x10",
    "isa-irq-length": "ISA_IRQ/0.length=0x8",
    "pci-link-length": "PCI_LINK/0.length=0x8",
    "pci-link-pad0": "PCI_LINK/0.pad0=00000000",
    "pci-link-route": "PCI_LINK/0.route[3]=0x0",
    "pit-length": "PIT/0.length=0x38",
    "pit-range": "PIT/0.channels[2].count=0x10000",
    "pit-gate": "PIT/0.channels[1].gate=0x1",
    "rtc-length": "RTC/0.length=0x18",
    "hpet-length": "HPET/0.length=0x418",
    "pmtimer-length": "PMTIMER/0.length=0x8",
    "mtrr-vcpu": "remove MTRR/1",
    "mtrr-length": "MTRR/0.length=0xf0",
    "mtrr-cap": "MTRR/0.msr_mtrr_cap=0x8",
    "viridian-domain-length": "VIRIDIAN_DOMAIN/0.length=0x20",
    "cpu-xsave-vcpu": "remove CPU_XSAVE/1",
    "cpu-xsave-cut": "CPU_XSAVE/0.descriptor.length=0x258; add END/0=",
    "cpu-xsave-length": "CPU_XSAVE/0.length=0x258",
    "cpu-xsave-long": "CPU_XSAVE/0.length=0x258",
    "cpu-xsave-mask": "CPU_XSAVE/0.xfeature_mask=0x0",
    "cpu-xsave-states": "CPU_XSAVE/0.xcr0=0x3",
    "cpu-xsave-compact": "CPU_XSAVE/0.save_area.xsave_hdr.xcomp_bv=0x0",
    "cpu-xsave-reserved": "CPU_XSAVE/0.save_area.xsave_hdr.reserved[1]=0x0",
    "cpu-xsave-excess": "CPU_XSAVE/0.length=0x258",
    "cpu-xsave-short": "CPU_XSAVE/0.length=0x358",
    "viridian-vcpu-vcpu": "remove VIRIDIAN_VCPU/1",
    "viridian-vcpu-length": "VIRIDIAN_VCPU/0.length=0xd8",
    "viridian-vcpu-pad": "VIRIDIAN_VCPU/0._pad=00000000000000",
    "vmce-vcpu-vcpu": "remove VMCE_VCPU/1",
    "vmce-vcpu-length": "VMCE_VCPU/0.length=0x20",
    "vmce-vcpu-caps": "VMCE_VCPU/0.caps=0x0",
    "tsc-adjust-vcpu": "remove TSC_ADJUST/1",
    "tsc-adjust-length": "TSC_ADJUST/0.length=0x8",
    "cpu-msr-vcpu": "remove CPU_MSR/1",
    "cpu-msr-cut": "CPU_MSR/0.descriptor.length=0x18; add END/0=",
    "cpu-msr-length": "remove CPU_MSR/0",
    "cpu-msr-count": "CPU_MSR/0.count=0x1",
    "cpu-msr-reserved": "CPU_MSR/0.msr[0]._rsvd=0x0",
    "cpu-msr-index": "remove CPU_MSR/0",
    "cpu-msr-mask": "remove CPU_MSR/0",
}  # fmt: skip
"""Rule -> what mends its case. A guest cannot do without long mode, LA57 or its vcpus; nobody knows
whether it was in protected mode; and what is cut off is not there."""
OF_WALK = {
    "context-header": "add HEADER/0=8612385401000000ffffffffffffffff0000000000000000",
    "context-magic": "HEADER/0.magic=0x54381286",
    "context-version": "HEADER/0.version=0x1",
    "context-end": "add END/0=",
    "context-type": "remove VMPORT/0",
    "context-bounds": "",
}
BY_OTHERS = {"cpu-cr3-page", "cpu-xsave-host"} | {
    f"{device}-device"
    for device in ("pic", "ioapic", "lapic", "lapic-regs", "pit", "rtc", "hpet", "pmtimer")
}
"""Which have no case of their own."""


def last_with(rule: str) -> str:
    """The newest release that makes a check."""
    return next(
        name for name in reversed(RELEASES)
        if any(each.id == rule and Release(name) in each.releases for each in RULES)
    )  # fmt: skip


def mended(context: HvmContext | bytes, release: str, guest: Guest | None = None) -> Repair:
    data = context if isinstance(context, bytes) else context.to_bytes()
    image = open_image(data, layer="context")
    into = guest or Guest(vcpus=1)
    return repair(image, release, Machine(vendor=AMD), guest_of=lambda _: into)


def steps(found: Repair) -> str:
    return "; ".join(map(str, found))


@pytest.mark.parametrize("rule", STEPS)
def test_what_mends_a_rule(rule: str) -> None:
    release = last_with(rule)
    context = base(Release(release))
    CASES[rule][0](context)
    found = mended(context, release)
    assert steps(found) == STEPS[rule]
    assert found.verdict.accepted == bool(found), found.verdict
    assert found or found.verdict.rule == rule
    assert all(edit.reason and edit.rule for edit in found)


@pytest.mark.parametrize("rule", OF_WALK)
def test_what_mends_the_walk(rule: str) -> None:
    found = mended(WALKS[rule](context_bytes()), "newest")
    assert steps(found) == OF_WALK[rule] and found.verdict.accepted == bool(found)


def test_every_rule_is_in_the_tables() -> None:
    assert {*STEPS, *BY_OTHERS} == {rule.id for rule in RULES}
    assert set(OF_WALK) == {rule.id for rule in WALK}
    known = {rule.id for rule in (*RULES, *WALK, *UNPAUSED)}
    assert set(REMEDIES) <= known, "a remedy of no rule"


def test_devices_that_are_not_there() -> None:
    """Of a context of an HVM guest, for a PVH one, all goes but what it has."""
    found = mended(base(Release("4.20")), "4.20", Guest(vcpus=1, devices=PVH_DEVICES))
    gone = ["PIC/1", "PIC/0", "IOAPIC/0", "PIT/0", "RTC/0", "HPET/0", "PMTIMER/0"]
    assert found.verdict.accepted and {edit.change.path for edit in found} == set(gone)
    assert {edit.change.verb for edit in found} == {"remove"}


def msr_steps(release: str, guest: Guest, *rows: tuple[int, int, int]) -> str:
    context = base(Release(release))
    body_of("CPU_MSR/0", msrs(*rows))(context)
    found = mended(context, release, guest)
    assert found.verdict.accepted
    return steps(found)


def test_msrs_that_a_policy_lacks() -> None:
    """The history of 4.20: a SPEC_CTRL of 0x401 where the policy has no BHI_CTRL. As the sender
    does since 4.17, the bit is cleared; an MSR that is not known at all is left out."""
    guest = having("IBRSB", "SYSCALL", "LM", "NX", "DBEXT", "XSAVE")
    into = Guest(vcpus=1, leaves=[
        *guest.leaves.values(), (0xD, 0, 7, 0, 0, 0), (0xD, 2, 256, 576, 0, 0),
        (0x80000008, 0xFFFFFFFF, 48, 0, 0, 0),
    ])  # fmt: skip
    mask = (0xC0011019, 0, 5)
    assert msr_steps("4.20", into, (0x48, 0, 0x401)) == "CPU_MSR/0.msr[0].val=0x1"
    assert msr_steps("4.20", into, (0x48, 0, 0x401), mask) == "CPU_MSR/0.msr[0].val=0x1"
    assert msr_steps("4.20", into, (0x777, 0, 1)) == "remove CPU_MSR/0"
    assert msr_steps("4.20", into, (0x777, 0, 1), mask) == (
        "CPU_MSR/0.msr[0].index=0xc0011019; CPU_MSR/0.msr[0].val=0x5; CPU_MSR/0.count=0x1; "
        "CPU_MSR/0.length=0x18"
    )
    assert msr_steps("4.20", into, mask, (0x48, 0, 0)) == ""


@pytest.mark.parametrize("release", ["4.9", "4.17", "4.20"])
def test_msrs_longer_than_their_sender_meant(release: str) -> None:
    """Senders before 4.10 wrote the length of all MSRs that there are; the next record, or END, is
    then within the record. Only the descriptor is wrong."""
    context = base(Release(release))
    before = context.to_bytes()
    lie("CPU_MSR", 0, 56)(context)
    found = mended(context, release)
    assert steps(found) == "CPU_MSR/0.descriptor.length=0x18"
    assert found.verdict.accepted and written(found) == before
    several = HvmContext.from_bytes(before)
    for vcpu in (1, 2):
        several.add(Record("CPU_MSR", vcpu, bytes(several["CPU_MSR", 0].body)))
    before = several.to_bytes()
    for vcpu in (0, 1, 2):
        lie("CPU_MSR", vcpu, 56)(several)
    found = mended(several, release, Guest(vcpus=3))
    assert len(found) == 3 and found.verdict.accepted and written(found) == before


def lie(name: str, instance: int, claimed: int) -> Change:
    """The descriptor says another length; all else is as it was."""

    def change(context: HvmContext) -> None:
        record = context[name, instance]
        lying = Record(name, instance, record.body, length=claimed)
        context.entries[context.entries.index(record)] = lying

    return change


def written(found: Repair) -> bytes:
    import io

    out = io.BytesIO()
    found.write(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("release", "body", "expected"),
    [
        ("4.4.0", xsave(3, bytes(256)), "CPU_XSAVE/0.length=0x258"),  # 4.2.3's and 4.3.0's
        ("4.17", xsave(3, bytes(256)), ""),  # zeros are let through since 4.3.4 and 4.5
        ("4.17", xsave(3, b"\1" * 256), "CPU_XSAVE/0.length=0x258"),
        ("4.17", xsave(7, b""), "CPU_XSAVE/0.length=0x358"),  # AVX is in its initial state
        ("4.17", xsave(7, b"", bv=7), None),  # it is not, and its registers are not there
        (
            "4.17",
            xsave(0x13, bytes(512), xcr0=3),
            "CPU_XSAVE/0.xcr0_accum=0x3",
        ),  # half of MPX, not in use
    ],
)
def test_xsave_areas(release: str, body: bytes, expected: str | None) -> None:
    context = base(Release(release))
    body_of("CPU_XSAVE/0", body)(context)
    found = mended(context, release)
    assert found.verdict.accepted == (expected is not None)
    assert expected is None or steps(found) == expected


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [("cr4", 1 << 11 | 1 << 20 | 0x20, 0x20), ("cr4", 1 << 22, None), ("cr4", 1 << 63 | 0x20, 0x20),
     ("msr_efer", 1 << 21 | 1 << 14 | 1, 1), ("msr_efer", 1 << 13, None),
     ("cr3", 1 << 63 | 0x1000, 0x1000), ("cr3", 1 << 50, None)],
)  # fmt: skip
def test_bits_that_may_go(field: str, value: int, kept: int | None) -> None:
    """UMIP, SMEP and AIBRSE only forbid something; protection keys and addresses do not go."""
    guest = having("PAE", "SYSCALL", "LM", "NX", "XSAVE")
    into = Guest(vcpus=1, leaves=[
        *guest.leaves.values(), (0xD, 0, 7, 0, 0, 0), (0xD, 2, 256, 576, 0, 0),
        (0x80000008, 0xFFFFFFFF, 48, 0, 0, 0),
    ])  # fmt: skip
    context = base(Release("4.20"))
    context.entries = [entry for entry in context.entries if entry.name != "CPU_MSR"]
    put(f"CPU/0.{field}", value)(context)
    found = mended(context, "4.20", into)
    assert found.verdict.accepted == (kept is not None)
    assert steps(found) == ("" if kept is None else f"CPU/0.{field}={kept:#x}")


def test_a_record_of_a_newer_release() -> None:
    """The older one takes what it knows of it."""
    assert steps(mended(base(Release("4.22")), "4.6")).split("; ")[:2] == [
        "CPU/0.length=0x400", "LAPIC/0.length=0x18"
    ]  # fmt: skip
    assert mended(base(Release("4.22")), "4.6").verdict.accepted


@pytest.mark.parametrize("name", ["LAPIC", "VMCE_VCPU"])
def test_a_short_record_at_the_end(name: str) -> None:
    """4.4 and older refuse one that it extends with zeros if the context ends before the zeros
    would; with the zeros written out it is taken, and nothing is lost."""
    context = base(Release("4.3.0"))
    context.entries = [
        e for e in context.entries if e.typecode < 18 and e.typecode not in (14, 15, 17)
    ]
    short = (
        Record("VMCE_VCPU", 0, bytes(8)) if name == "VMCE_VCPU" else Record("LAPIC", 0, bytes(16))
    )
    context.entries = [e for e in context.entries if e.name not in (name, "END")]
    context.entries += [short, Record("END", 0)]
    found = mended(context, "4.3.0")
    size = Release("4.3.0").size_of(name)
    assert steps(found) == (f"{name}/0.length={size:#x}" if name == "VMCE_VCPU" else "")


def test_records_that_repeat() -> None:
    """Only the last must be such that it is loaded; the others go."""
    context = base(Release("4.20"))
    good = context["CPU", 0]
    bad = Record("CPU", 0, bytes(good.body))
    bad.struct.cr0 = 0
    at = context.entries.index(good)
    context.entries[at:at] = [bad, bad, Record("CPU", 0, bytes(bad.body))]
    found = mended(context, "4.20")
    assert steps(found) == "remove CPU/0#1; remove CPU/0#1; remove CPU/0#1"
    assert found.verdict.accepted and written(found) == base(Release("4.20")).to_bytes()


@pytest.mark.parametrize(
    "rule", ["pic-length", "pci-link-length", "hpet-length", "isa-irq-length", "mtrr-length"]
)
@pytest.mark.parametrize("said", [0, 2, 4096])
def test_lengths_that_only_the_descriptor_has(rule: str, said: int) -> None:
    record = next(each.record for each in RULES if each.id == rule)
    context = base(Release("4.17"))
    before = context.to_bytes()
    lie(record, 0, said)(context)
    found = mended(context, "4.17")
    assert written(found) == before
    assert steps(found) == f"{record}/0.descriptor.length={Release('4.17').size_of(record):#x}"


@pytest.mark.parametrize("release", ["4.17", "4.20"])
def test_what_follows_a_wrong_length_is_not_taken_for_records(release: str) -> None:
    """A loader that takes the length, or a first pass that has no check, goes on in the middle of
    the body: the type that it does not know there is none, and all that follows is kept."""
    context = base(Release(release))
    before = context.to_bytes()
    for name, said in (("RTC", 0), ("HPET", 16), ("PMTIMER", 4)):
        changed = HvmContext.from_bytes(before)
        lie(name, 0, said)(changed)
        found = mended(changed, release)
        assert written(found) == before and len(found) == 1, (name, found.verdict)
    changed = HvmContext.from_bytes(before)
    changed.entries.insert(3, Record(77, 0, b"what"))
    assert steps(mended(changed, release)) == "remove context:77/0"
    garbage = before[:-8] + bytes(range(70, 90))
    assert not mended(garbage, release)


@settings(max_examples=40)
@given(
    st.sampled_from(sorted(CASES)),
    st.sampled_from(sorted(CASES)),
    st.sampled_from(["4.5", "4.17", "newest"]),
)
def test_repairs_of_two_at_once(one: str, other: str, release: str) -> None:
    """What is accepted in the end is accepted by the loader itself, and needs no more repair; what is
    accepted as it is has no edits."""
    context = base(Release(release))
    names = {entry.name for entry in context.entries}
    for rule in (one, other):
        if next(each.record for each in RULES if each.id == rule) in names:
            with suppress(StopIteration):  # the first has moved its record
                CASES[rule][0](context)
    found = mended(context, release)
    guest, machine = Guest(vcpus=1), Machine(vendor=AMD)
    verdict = load(written(found), Release(release), guest, machine)
    assert str(verdict) == str(found.verdict)
    if verdict.accepted:
        assert not mended(written(found), release)
        assert remedy(written(found), Release(release), guest, machine) is None


def test_nothing_to_mend() -> None:
    context = base(Release("4.20"))
    nothing(context)
    found = mended(context, "4.20")
    assert not found and found.verdict.accepted and written(found) == context.to_bytes()


def genuine() -> Iterator[tuple[str, str, bytes, bytes, dict[str, Any], dict[str, Any]]]:
    """(release, case, context, the same mended, and what the hypervisor said of each)."""
    with tarfile.open(DATA / "remedies.tar.xz") as archive:
        files = {m.name: f.read() for m in archive if (f := archive.extractfile(m)) is not None}
    answers = {}
    for line in files["verdicts.jsonl"].decode().splitlines():
        answer = json.loads(line)
        answers[answer["name"]] = answer
    for name, answer in answers.items():
        release, _, case = name.removesuffix("-before.bin").partition("/")
        if name.endswith("-before.bin"):
            after = f"{release}/{case}-after.bin"
            yield release, case, files[name], files.get(after, b""), answer, answers.get(after, {})


@pytest.mark.parametrize(
    ("release", "image"),
    [("4.17", EXAMPLE), ("4.20", DATA / "images" / "hvm2x420.save")],
)
def test_what_hypervisors_said_before_and_after(release: str, image: Path) -> None:
    """Each remedy, and some more: Xen has refused the context with the errno of the rule, and loaded
    the mended one."""
    with open_image(image) as opened:
        guest = Guest.of_image(opened, 2)
    guest.has_page = None  # the hypervisor's guest had none, and no use for any
    mended_cases = 0
    for which, case, before, after, refused, taken in genuine():
        if which != release:
            continue
        found = repair(open_image(before, layer="context"), release, guest_of=lambda _: guest)
        assert (refused["rc"], refused["errno"]) == (-1, found.before.errno), case
        assert bool(found) == found.verdict.accepted == bool(after), case
        assert not after or (taken["rc"] == 0 and written(found) == after), case
        mended_cases += bool(after)
    assert mended_cases == 84
