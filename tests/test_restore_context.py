"""The load of a context: against the hypervisor's own verdicts, and rule by rule."""

from __future__ import annotations

import errno
import io
import json
import struct
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import x86
from hvmctx.abi.declare import by_name
from hvmctx.abi.releases import RELEASES, Release
from hvmctx.abi.vmport import XEN_4_5_V6
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import VmportState, to_record
from hvmctx.image import open_image
from hvmctx.restore.context import TWO_PASSES_SINCE, WALK, load, rules, unfolded
from hvmctx.restore.context_rules import CHECKED_SINCE, RULES
from hvmctx.restore.host import PVH_DEVICES, Host
from hvmctx.restore.verdict import Verdict
from tests.samples import DATA, EXAMPLE, context_bytes

POLICY = {"4.17": EXAMPLE, "4.20": DATA / "images" / "hvm2x420.save"}


def host_of(release: str, vcpus: int = 2) -> Host:
    with open_image(POLICY["4.17" if release != "4.20" else "4.20"]) as image:
        return Host.of_image(image, release, vcpus)


def genuine() -> list[tuple[str, str, bytes, dict[str, Any]]]:
    """(name, what was changed, context, verdicts) of the 300 that Xen itself has judged."""
    with tarfile.open(DATA / "real-contexts.tar.xz") as archive:
        files = {
            member.name.rpartition("/")[2]: file.read()
            for member in archive.getmembers()
            if (file := archive.extractfile(member)) is not None
        }
    lines = io.StringIO(files["verdicts.jsonl"].decode())
    verdicts = [json.loads(line) for line in lines]
    return [(v["name"], v["what"], files[v["name"]], v) for v in verdicts]


GENUINE = genuine()


@pytest.mark.parametrize("release", ["4.17", "4.20"])
def test_the_hypervisors_own_word(release: str) -> None:
    host = host_of(release)
    assert len(GENUINE) == 300
    for name, what, context, verdicts in GENUINE:
        verdict = load(context, host)
        assert verdict.errno == verdicts[release]["errno"], (name, what, verdict)
        assert verdict.accepted == (verdicts[release]["rc"] == 0)


@given(st.binary(max_size=300), st.sampled_from(list(RELEASES)), st.booleans())
def test_any_bytes(data: bytes, release: str, framed: bool) -> None:
    if framed:
        data = context_bytes()[:32] + data
    verdict = load(data, Host(release, vmport=XEN_4_5_V6 if len(data) % 2 else None))
    assert verdict.verdict in ("accept", "refuse", "violation")
    assert verdict.errno is None or hasattr(errno, verdict.errno)
    assert 0 <= verdict.offset <= len(data)


@given(st.data())
def test_mutated_contexts(data: st.DataObject) -> None:
    context = bytearray(context_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        context[data.draw(st.integers(0, len(context) - 1))] = data.draw(st.integers(0, 255))
    known = {rule.id for rule in rules()} | set(WALK)
    for release in ("4.0", "4.5", "4.10", "4.17", "4.18", "4.19", "newest"):
        verdict = load(context, Host(release))
        assert verdict.accepted or verdict.rule in known
        assert 0 <= verdict.offset <= len(context)


def base(release: Release) -> HvmContext:
    """A context that this release accepts, with one record of every type that it knows."""
    host_context = HvmContext.from_bytes(context_bytes())
    header = host_context.records(x86.HEADER)[0]
    sizes = release.sizes()
    entries = [header]
    for typecode in range(2, 21):
        known = next((k for k in map(by_name, sizes) if k.typecode == typecode), None)
        if known is None:
            continue
        found = host_context.records(known)
        body = bytes(found[0].body) if found else bytes(sizes[known.name])
        if known is x86.CPU_XSAVE:
            body = struct.pack("<QQQ", 3, 3, 3) + bytes(576)
        elif known is x86.CPU_MSR:
            body = struct.pack("<IIIIQ", 1, 0, 0xC0011019, 0, 5)
        else:
            body = body.ljust(sizes[known.name], b"\0")[: sizes[known.name]]
        entries.append(Record(known, 0, body))
        if known is x86.PIC:
            entries.append(Record(known, 1, bytes(found[1].body)))
    return HvmContext([*entries, Record(x86.END, 0)])


def full_host(release: str, **changes: Any) -> Host:
    """An AMD host whose guest has every feature."""
    return Host(release, vcpus=1, vendor="amd", **changes)


Case = tuple[str, Callable[[HvmContext], None], Callable[[HvmContext], None]]


def put(path: str, value: Any, *more: Any) -> Callable[[HvmContext], None]:
    """Sets `NAME.field` of the first record of that name; pairs may follow."""
    pairs = [(path, value), *zip(more[::2], more[1::2])]

    def change(context: HvmContext) -> None:
        for where, number in pairs:
            name, _, field = where.partition(".")
            number_of, _, name = name.rpartition("/")
            record = context.records(by_name(name))[int(number_of or 0)]
            body = bytearray(record.body)
            by_name(name).layout.locate(field).put(body, number)
            record.body = bytes(body)

    return change


def instance(name: str, number: int) -> Callable[[HvmContext], None]:
    def change(context: HvmContext) -> None:
        context.records(by_name(name))[-1].instance = number

    return change


def length(name: str, delta: int) -> Callable[[HvmContext], None]:
    def change(context: HvmContext) -> None:
        record = context.records(by_name(name))[0]
        size = len(record.body) + delta
        record.body = bytes(record.body[:size]).ljust(size, b"\0")

    return change


def body_of(name: str, body: bytes) -> Callable[[HvmContext], None]:
    def change(context: HvmContext) -> None:
        context.records(by_name(name))[0].body = body

    return change


def says(name: str, claimed: int) -> Callable[[HvmContext], None]:
    """The last record of that type claims a length, and nothing follows it."""

    def change(context: HvmContext) -> None:
        record = context.records(by_name(name))[-1]
        at = context.entries.index(record)
        body = bytes(record.body)
        lying = Record(record.typecode, record.instance, body, length=claimed)
        context.entries = [*context.entries[:at], lying]

    return change


def nothing(context: HvmContext) -> None:
    pass


def msrs(*entries: tuple[int, int, int], count: int | None = None) -> bytes:
    body = struct.pack("<II", len(entries) if count is None else count, 0)
    return body + b"".join(struct.pack("<IIQ", *entry) for entry in entries)


def xsave(states: int, extra: bytes = b"", **header: int) -> bytes:
    body = bytearray(struct.pack("<QQQ", states, header.get("xcr0", states), states) + bytes(576))
    for name, at in (("bv", 536), ("comp", 544), ("reserved", 560)):
        struct.pack_into("<Q", body, at, header.get(name, 0))
    return bytes(body) + extra


_REST = 832 - 576
# rule -> what fires it, and what just misses it
CASES: dict[str, tuple[Callable[[HvmContext], None], Callable[[HvmContext], None]]] = {
    "cpu-vcpu": (instance("CPU", 1), nothing),
    "cpu-length": (length("CPU", 1), nothing),
    "cpu-pad0": (put("CPU.pad0", 1), put("CPU.pad0", 0)),
    "cpu-cr0": (put("CPU.cr0", 0x80000010), put("CPU.cr0", 0x80000011)),
    "cpu-cr4": (put("CPU.cr4", 1 << 12), put("CPU.cr4", 1 << 8)),
    "cpu-efer": (put("CPU.msr_efer", 1 << 9), put("CPU.msr_efer", 1 << 8)),
    "cpu-dr": (put("CPU.dr6", 1 << 32), put("CPU.dr6", 0xFFFFFFFF)),
    "cpu-cr3": (put("CPU.cr3", 1 << 52), put("CPU.cr3", (1 << 52) - 1)),
    "cpu-flags": (put("CPU.flags", 2), put("CPU.flags", 1)),
    "cpu-tsc-aux": (put("CPU.msr_tsc_aux", 1 << 32), put("CPU.msr_tsc_aux", 0xFFFFFFFF)),
    "cpu-event": (put("CPU.pending_event", 1 << 31 | 1 << 8), put("CPU.pending_event", 1 << 31 | 2 << 8)),
    "cpu-error-code": (put("CPU.pending_event", 1 << 31 | 3 << 8 | 1 << 11, "CPU.error_code", 1 << 16), put("CPU.pending_event", 1 << 31 | 3 << 8 | 1 << 11, "CPU.error_code", 0xFFFF)),
    "pic-instance": (instance("PIC", 2), instance("PIC", 1)),
    "pic-length": (length("PIC", 1), nothing),
    "pic-int-output": (put("PIC.int_output", 2), put("PIC.int_output", 1)),
    "pic-state": (put("PIC.is_master", 0), put("PIC.is_master", 1)),
    "ioapic-length": (length("IOAPIC", -8), nothing),
    "lapic-vcpu": (instance("LAPIC", 1), nothing),
    "lapic-length": (length("LAPIC", 1), nothing),
    "lapic-base": (put("LAPIC.apic_base_msr", 0x400), put("LAPIC.apic_base_msr", 0xC00)),
    "lapic-regs-vcpu": (instance("LAPIC_REGS", 1), nothing),
    "lapic-regs-length": (length("LAPIC_REGS", -1), nothing),
    "pci-irq-length": (length("PCI_IRQ", -1), nothing),
    "isa-irq-length": (length("ISA_IRQ", 1), nothing),
    "pci-link-length": (length("PCI_LINK", 1), nothing),
    "pci-link-pad0": (put("PCI_LINK.pad0", b"\0\0\0\1"), nothing),
    "pci-link-route": (put("PCI_LINK.route[3]", 16), put("PCI_LINK.route[3]", 15)),
    "pit-length": (length("PIT", -4), nothing),
    "pit-range": (put("PIT.channels[2].count", 0x10001), put("PIT.channels[2].count", 0x10000)),
    "pit-gate": (put("PIT.channels[1].gate", 0), put("PIT.channels[2].gate", 0)),
    "rtc-length": (length("RTC", 1), nothing),
    "hpet-length": (length("HPET", -8), nothing),
    "pmtimer-length": (length("PMTIMER", 8), nothing),
    "mtrr-vcpu": (instance("MTRR", 1), nothing),
    "mtrr-length": (length("MTRR", 8), nothing),
    "mtrr-cap": (put("MTRR.msr_mtrr_cap", 9), put("MTRR.msr_mtrr_cap", 8)),
    "viridian-domain-length": (length("VIRIDIAN_DOMAIN", 1), nothing),
    "cpu-xsave-vcpu": (instance("CPU_XSAVE", 1), nothing),
    "cpu-xsave-cut": (says("CPU_XSAVE", 601), nothing),
    "cpu-xsave-length": (length("CPU_XSAVE", -1), nothing),
    "cpu-xsave-states": (body_of("CPU_XSAVE", xsave(3, xcr0=2)), body_of("CPU_XSAVE", xsave(3, xcr0=1))),
    "cpu-xsave-compact": (body_of("CPU_XSAVE", xsave(3, comp=1 << 63)), body_of("CPU_XSAVE", xsave(3))),
    "cpu-xsave-reserved": (body_of("CPU_XSAVE", xsave(3, reserved=1)), body_of("CPU_XSAVE", xsave(3))),
    "cpu-xsave-excess": (body_of("CPU_XSAVE", xsave(3, b"\0\1")), body_of("CPU_XSAVE", xsave(3, b"\0\0"))),
    "cpu-xsave-short": (body_of("CPU_XSAVE", xsave(7, bytes(_REST - 1))), body_of("CPU_XSAVE", xsave(7, bytes(_REST)))),
    "viridian-vcpu-vcpu": (instance("VIRIDIAN_VCPU", 1), nothing),
    "viridian-vcpu-length": (length("VIRIDIAN_VCPU", 1), nothing),
    "viridian-vcpu-pad": (put("VIRIDIAN_VCPU._pad", b"\0\0\0\0\0\0\1"), nothing),
    "vmce-vcpu-vcpu": (instance("VMCE_VCPU", 1), nothing),
    "vmce-vcpu-length": (length("VMCE_VCPU", 1), nothing),
    "vmce-vcpu-caps": (put("VMCE_VCPU.caps", 0x200), put("VMCE_VCPU.caps", 0x1FF)),
    "tsc-adjust-vcpu": (instance("TSC_ADJUST", 1), nothing),
    "tsc-adjust-length": (length("TSC_ADJUST", 1), nothing),
    "cpu-msr-vcpu": (instance("CPU_MSR", 1), nothing),
    "cpu-msr-cut": (says("CPU_MSR", 40), nothing),
    "cpu-msr-length": (body_of("CPU_MSR", bytes(23)), nothing),
    "cpu-msr-count": (body_of("CPU_MSR", msrs((0xC0011019, 0, 5), count=2)), nothing),
    "cpu-msr-reserved": (body_of("CPU_MSR", msrs((0xC0011019, 1, 5))), nothing),
    "cpu-msr-index": (body_of("CPU_MSR", msrs((0x10, 0, 5))), nothing),
    "cpu-msr-mask": (body_of("CPU_MSR", msrs((0xC0011019, 0, 1 << 32))), body_of("CPU_MSR", msrs((0xC0011019, 0, 0xFFFFFFFF)))),
}  # fmt: skip
DEVICE_RULES = {rule.id for rule in rules() if rule.id.endswith("-device")}
TRIED = ["4.5", "4.7", "4.10", "4.14", "4.16", "4.17", "4.18", "4.19", "4.20", "newest"]


def judged(release: str, change: Callable[[HvmContext], None], **host: Any) -> Verdict:
    context = base(Release(release))
    change(context)
    return load(context.to_bytes(), full_host(release, **host))


@pytest.mark.parametrize("release", TRIED)
def test_the_base_is_accepted(release: str) -> None:
    verdict = judged(release, nothing)
    assert verdict.accepted, verdict.text


RULES_OF = {rule.id: rule.record for rule in rules()}
FIELDS_SINCE_4_7 = ("cpu-pad0", "cpu-flags", "viridian-vcpu-pad")
TO_TRY = [
    (case, release)
    for case in CASES
    for release in TRIED
    if RULES_OF[case] in Release(release).sizes()
    and (case not in FIELDS_SINCE_4_7 or Release(release).since("4.7"))
]
"""Cases, with the releases that have the record, and the field in it."""


@pytest.mark.parametrize(("case", "release"), TO_TRY)
def test_every_rule(case: str, release: str) -> None:
    standing = [r for r in rules() if r.id == case and Release(release) in r.releases]
    fires, misses = CASES[case]
    verdict = judged(release, fires)
    if not standing:
        assert verdict.accepted, (verdict.rule, verdict.text)
        return
    (rule,) = standing
    since = CHECKED_SINCE.get(rule.record)
    two = Release(release).since(TWO_PASSES_SINCE)
    cut = case in ("cpu-xsave-cut", "cpu-msr-cut") and two and since is None
    assert verdict.rule == ("context-bounds" if cut else case)
    expected = rule.errno if Release(release).since("4.17") else "EPERM"
    assert verdict.errno == expected
    assert verdict.record == rule.record
    assert judged(release, misses).accepted


def test_every_rule_has_a_case() -> None:
    ids = {rule.id for rule in rules()} - DEVICE_RULES - {"cpu-xsave-host"}
    assert ids == set(CASES) == {case for case, _ in TO_TRY}
    assert all(hasattr(errno, rule.errno) for rule in rules())
    assert {rule.record for rule in rules()} == set(RULES)


@pytest.mark.parametrize("rule", [r for r in rules() if r.id in DEVICE_RULES], ids=lambda r: r.id)
def test_devices_that_are_not_there(rule: Any) -> None:
    verdict = judged("newest", nothing, devices=())
    assert verdict.errno == "ENODEV"
    only = HvmContext(
        [e for e in base(Release("newest")).entries if e.name in ("HEADER", rule.record, "END")]
    )
    verdict = load(only.to_bytes(), full_host("newest", devices=()))
    assert (verdict.rule, verdict.errno) == (rule.id, "ENODEV")
    assert load(only.to_bytes(), full_host("newest")).accepted


def test_host_without_xsave() -> None:
    verdict = judged("newest", nothing, xsave=False)
    assert (verdict.rule, verdict.errno) == ("cpu-xsave-host", "ENOTSUP")


def without(name: str) -> Callable[[bytes], bytes]:
    def change(context: bytes) -> bytes:
        parsed = HvmContext.from_bytes(context)
        parsed.entries = [e for e in parsed.entries if e.name != name]
        return parsed.to_bytes()

    return change


WALK_CASES: dict[str, Callable[[bytes], bytes]] = {
    "context-header": without("HEADER"),
    "context-magic": lambda context: context[:8] + b"\0" + context[9:],
    "context-version": lambda context: context[:12] + b"\2" + context[13:],
    "context-end": without("END"),
    "context-type": lambda context: context[:-8] + struct.pack("<HHI", 21, 0, 0) + context[-8:],
    "context-bounds": lambda context: context[:-8] + struct.pack("<HHI", 19, 0, 0xFFFFFFFF),
}


@pytest.mark.parametrize("case", WALK)
def test_the_walk(case: str) -> None:
    context = WALK_CASES[case](base(Release("newest")).to_bytes())
    verdict = load(context, full_host("newest"))
    assert (verdict.rule, verdict.errno) == (case, WALK[case][0])
    verdict = load(WALK_CASES[case](base(Release("4.5")).to_bytes()), full_host("4.5"))
    assert verdict.errno == "EPERM"


def test_bytes_behind_end_and_a_body_of_end_do_not_count() -> None:
    context = base(Release("newest")).to_bytes()
    assert load(context + b"more", full_host("newest")).accepted
    assert load(context[:-8] + struct.pack("<HHI", 0, 5, 999), full_host("newest")).accepted


def test_the_second_header_is_an_unknown_type() -> None:
    context = base(Release("newest")).to_bytes()
    verdict = load(context[:32] + context, full_host("newest"))
    assert (verdict.rule, verdict.offset) == ("context-type", 32)


def test_cpu_lengths() -> None:
    """Strict but for the 1016 bytes of old in 4.6, anything up to 1032 since 4.7."""
    for release, taken in (("4.6", {1016, 1024}), ("4.0.0", {1024}), ("4.7", set(range(1033)))):
        for size in range(0, 1041, 1 if release == "4.7" else 4):
            body = bytes(context_bytes()[40 : 40 + size]).ljust(size, b"\0")[:size]
            context = base(Release(release))
            context.records(x86.CPU)[0].body = body
            verdict = load(context.to_bytes(), full_host(release))
            assert (verdict.rule != "cpu-length") == (size in taken), (release, size)


CPU_LENGTHS = [
    (release, line.split())
    for release, mode, name in (("4.6", "strict", "4.5"), ("newest", "zeroext", "HEAD"))
    for line in (
        DATA / "cpu_lengths" / f"cpu_record_length_behaviour_{name}.txt"
    ).read_text().splitlines()
    if line.startswith(mode)
]  # fmt: skip


@pytest.mark.parametrize(("release", "line"), CPU_LENGTHS, ids=lambda value: " ".join(value[:3]))
def test_cpu_lengths_as_xens_own_code_takes_them(release: str, line: list[str]) -> None:
    """Transcripts of the routines of 4.5 and HEAD, compiled: result, cursor, fields. The
    strict mode is that of releases up to 4.6, the other that of 4.7 and later."""
    size = int(line[2])
    body = bytes((3 * at + 1) & 0xFF for at in range(size))
    context = base(Release(release))
    context.records(x86.CPU)[0].body = body
    verdict = load(context.to_bytes(), full_host(release))
    assert (verdict.rule != "cpu-length") == (line[4] == "0")
    if line[4] == "0":
        assert int(line[6]) == 8 + size, "the cursor goes by the descriptor"
        fields = Record(x86.CPU, 0, body).fields()
        names = {"aux": "msr_tsc_aux", "ev": "pending_event", "err": "error_code"}
        for name, value in zip(line[7::2], line[8::2]):
            assert fields[names.get(name, name)] == int(value, 16), name


def test_policy_decides() -> None:
    with open_image(EXAMPLE) as image:
        host = Host.of_image(image, "4.17")
    assert host.vendor == "amd" and host.vcpus == 1 and host.maxphysaddr == 40
    assert not host.has("VMX") and host.has("SMEP") and host.xcr0_max == 0x207
    assert host.xsave_size(7) == 832 and host.xsave_size(3) == 576 and host.xsave_size(0) == 0
    context = base(Release("4.17"))
    put("CPU.cr4", 1 << 17)(context)  # PCID, which that CPU has not
    assert load(context.to_bytes(), host).rule == "cpu-cr4"
    assert load(context.to_bytes(), full_host("4.17")).accepted
    with open_image(DATA / "images" / "pvhx.save") as image:
        assert Host.of_image(image, "4.17").devices == PVH_DEVICES


def test_changes_of_an_accepted_load() -> None:
    context = base(Release("newest"))
    put("CPU.cs_arbytes", 0xA09B, "CPU.rflags", 0, "PIT.channels[1].mode", 0xFF, "PIC.elcr", 0)(
        context
    )
    verdict = load(context.to_bytes(), full_host("newest"))
    assert verdict.applied == [
        "PIC/0: elcr gets the cascade's bit 2",
        "PIT/0: channels[1].mode 0xff -> 3",
        "PIT/0: channels[2].mode 0xff -> 3",
        "CPU/0: cs_arbytes 0xa09b -> 0xa9b",
        "CPU/0: rflags gets bit 1",
    ]
    length("CPU", -8)(context)
    length("LAPIC", -8)(context)
    applied = load(context.to_bytes(), full_host("newest")).applied
    assert "CPU/0: read from 1024 bytes, flags forced to 1" in applied
    assert "LAPIC/0: 24 bytes, the rest zero" in applied
    assert unfolded(0xA9B) == 0xA9B


def test_vmport_in_a_patched_xen() -> None:
    state = VmportState.empty()
    context = base(Release("4.5"))
    context.entries.insert(-1, to_record(state))
    assert load(context.to_bytes(), full_host("4.5")).rule == "context-type"
    patched = full_host("4.5", vmport=XEN_4_5_V6)
    assert load(context.to_bytes(), patched).accepted
    state.guestinfo = {b"%d" % n: b"" for n in range(60)}
    context.entries[-2] = to_record(state)
    verdict = load(context.to_bytes(), patched)
    assert (verdict.verdict, verdict.rule, verdict.errno) == (
        "violation",
        "vmport-guestinfo-slot",
        None,
    )
    body = bytearray(to_record(state).body)
    body[0] ^= 1
    context.entries[-2] = Record(21, 0, bytes(body))
    assert load(context.to_bytes(), patched).rule == "vmport-save-version"
