"""MSRs of a CPU_MSR record: since when, on what, with which values."""

from __future__ import annotations

import struct

import pytest

from hvmctx.abi.releases import Release
from hvmctx.abi.x86 import CPU_MSR, CPU_XSAVE, END, HEADER
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.restore.context import load
from hvmctx.restore.guest import Guest
from hvmctx.restore.machine import AMD, INTEL, Machine
from hvmctx.restore.msrs import MSRS
from tests.builders.contexts import msrs, xsave
from tests.builders.loads import having
from tests.builders.samples import context_bytes

HEADER_BODY = bytes(HvmContext.from_bytes(context_bytes()).record(HEADER).body)
EVERYTHING = Guest(vcpus=1)


def loaded(release: str, vendor: str, index: int, value: int, guest: Guest = EVERYTHING) -> bool:
    body = struct.pack("<IIIIQ", 1, 0, index, 0, value)
    entries = [Record(HEADER, 0, HEADER_BODY), Record(CPU_MSR, 0, body), Record(END, 0)]
    data = HvmContext(entries).to_bytes()
    verdict = load(data, Release(release), guest, Machine(vendor=vendor))
    assert verdict.accepted or verdict.rule in ("cpu-msr-index", "cpu-msr-mask")
    return verdict.accepted


def faulting(offered: bool) -> Guest:
    """A guest whose policy has CPUID faulting in PLATFORM_INFO, or not."""
    return having(msrs=[(0xCE, 0, offered << 31)])


# index -> the last release that refuses it, the first that takes it, on AMD; likewise on Intel
SINCE = {
    0x48: (("4.10.0", "4.10.1"), ("4.7.4", "4.7.5")),
    0x140: (("4.9", "4.10.0"), ("4.8.3", "4.8.4")),
    0x6E1: (("4.17", "4.18.0"), ("4.17", "4.18.0")),
    0xD90: (("4.12", "4.13.0"), ("4.5.0", "4.5.0")),
    0xDA0: (("4.12", "4.13.0"), ("4.6", "4.7.0")),
    0xC001011F: (("4.16", "4.17.0"), ("4.16", "4.17.0")),
    0xC0011019: (("4.5.0", "4.5.0"), ("4.11", "4.12.0")),
}


@pytest.mark.parametrize("index", SINCE)
def test_since_when(index: int) -> None:
    for vendor, (before, first) in zip((AMD, INTEL), SINCE[index]):
        assert before == first or not loaded(before, vendor, index, 0)
        assert loaded(first, vendor, index, 0) and loaded("newest", vendor, index, 0)


def test_all_are_tried() -> None:
    assert set(MSRS) == {*SINCE, 0xC001101A, 0xC001101B, 0xC0011027}


def test_a_branch_may_lose_one() -> None:
    """What 4.9.2 has on Intel, 4.10.0 does not."""
    assert loaded("4.9.2", INTEL, 0x48, 0) and not loaded("4.10.0", INTEL, 0x48, 0)
    assert loaded("4.9.2", INTEL, 0x140, 0) and not loaded("4.9.1", INTEL, 0x140, 0)


@pytest.mark.parametrize("index", [0, 0x10, 0x49, 0xC0011020])
@pytest.mark.parametrize("vendor", [AMD, INTEL])
def test_others_are_refused(index: int, vendor: str) -> None:
    assert not any(loaded(name, vendor, index, 0) for name in ("4.5", "4.12", "4.17", "newest"))


@pytest.mark.parametrize(
    ("release", "features", "allowed"),
    [
        ("newest", ("IBRSB",), 3), ("newest", ("IBRS",), 3), ("4.16.0", ("IBRS",), None),
        ("4.16.1", ("IBRS",), 3), ("newest", (), None), ("newest", ("IBRSB", "SSBD"), 7),
        ("4.10.1", ("IBRSB", "SSBD"), 3), ("4.10.2", ("IBRSB", "SSBD"), 7),
        ("4.9.3", ("IBRSB", "SSBD"), 3), ("4.9.4", ("IBRSB", "SSBD"), 7),
        ("4.14.4", ("IBRSB", "AMD_SSBD"), 3), ("4.14.5", ("IBRSB", "AMD_SSBD"), 7),
        ("newest", ("IBRSB", "PSFD"), 0x83), ("newest", ("IBRSB", "INTEL_PSFD"), 0x83),
        ("4.15.2", ("IBRSB", "PSFD"), 3), ("4.15.3", ("IBRSB", "PSFD"), 0x83),
        ("newest", ("IBRSB", "IPRED_CTRL"), 0x1B), ("newest", ("IBRSB", "RRSBA_CTRL"), 0x63),
        ("newest", ("IBRSB", "BHI_CTRL"), 0x403), ("4.17.3", ("IBRSB", "BHI_CTRL"), 3),
        ("4.17.4", ("IBRSB", "BHI_CTRL"), 0x403), ("4.18.1", ("IBRSB", "BHI_CTRL"), 3),
        ("4.18.2", ("IBRSB", "BHI_CTRL"), 0x403),
    ],
)  # fmt: skip
def test_spec_ctrl(release: str, features: tuple[str, ...], allowed: int | None) -> None:
    guest = having(*features)
    for bit in range(64):
        taken = allowed is not None and bool(allowed >> bit & 1)
        assert loaded(release, INTEL, 0x48, 1 << bit, guest) == taken, bit
    assert loaded(release, INTEL, 0x48, 0, guest) == (allowed is not None)


@pytest.mark.parametrize(
    ("release", "index", "value", "taken"),
    [
        ("newest", 0x140, 1, True), ("newest", 0x140, 2, False), ("4.9.2", 0x140, 2, True),
        ("newest", 0x6E1, 0xFFFFFFFF, True), ("newest", 0x6E1, 1 << 40, False),
        ("newest", 0xD90, 0x1000, True), ("newest", 0xD90, 4, False), ("newest", 0xD90, 0x800, False),
        ("newest", 0xD90, 1 << 47, False), ("newest", 0xD90, 0xFFFF800000000000, True),
        ("4.5.3", 0xD90, 4, True), ("4.5.4", 0xD90, 4, False), ("4.7.0", 0xD90, 4, True),
        ("newest", 0xDA0, 1, False), ("4.12", 0xDA0, 1, True), ("4.13.0", 0xDA0, 1, False),
        ("newest", 0xC001011F, (1 << 64) - 1, True),
        ("newest", 0xC0011019, 0xFFFFFFFF, True), ("newest", 0xC0011019, 1 << 32, False),
    ],
)  # fmt: skip
def test_values(release: str, index: int, value: int, taken: bool) -> None:
    assert loaded(release, INTEL, index, value) == taken


@pytest.mark.parametrize(
    ("release", "rule"), [("4.11.4", "cpu-msr-mask"), ("4.12.0", "cpu-msr-index")]
)
def test_the_rule_about_an_address_mask(release: str, rule: str) -> None:
    body = msrs((0xC0011019, 0, 1 << 32))
    entries = [Record(HEADER, 0, HEADER_BODY), Record(CPU_MSR, 0, body), Record(END, 0)]
    data = HvmContext(entries).to_bytes()
    assert load(data, Release(release), EVERYTHING, Machine(vendor=AMD)).rule == rule


@pytest.mark.parametrize(
    ("index", "feature"),
    [(0x6E1, "PKS"), (0xD90, "MPX"), (0xDA0, "XSAVES"), (0xC001011F, "VIRT_SSBD"),
     (0xC0011027, "DBEXT")],
)  # fmt: skip
def test_features(index: int, feature: str) -> None:
    assert loaded("newest", INTEL, index, 0, having(feature))
    assert not loaded("newest", INTEL, index, 0, having("PAE"))


def test_cpuid_faulting_is_offered_by_an_msr() -> None:
    """And then that bit alone is taken."""
    for offered, value, taken in (
        (True, 0, True), (True, 1, True), (True, 2, False), (True, 3, False), (True, 1 << 63, False),
        (False, 0, True), (False, 1, False), (False, 2, False),
    ):  # fmt: skip
        assert loaded("newest", INTEL, 0x140, value, faulting(offered)) == taken, (offered, value)


@pytest.mark.parametrize(
    ("release", "needs"),
    [("4.6.5", False), ("4.6.6", True), ("4.7.2", False), ("4.7.3", True), ("4.8.5", False),
     ("4.12", False), ("4.13.0", True), ("newest", True)],
)  # fmt: skip
def test_enabling_mpx_needs_its_states(release: str, needs: bool) -> None:
    """Which the same vcpu's CPU_XSAVE record must have brought before."""

    def taken(value: int, *states: tuple[int, int]) -> bool:
        entries = [Record(HEADER, 0, HEADER_BODY)]
        for vcpu, accum in states:
            extra = bytes(Guest().xsave_size(accum) - 576)
            entries.append(Record(CPU_XSAVE, vcpu, xsave(accum, extra, xcr0=1)))
        entries.append(Record(CPU_MSR, 0, msrs((0xD90, 0, value))))
        data = HvmContext([*entries, Record(END, 0)]).to_bytes()
        verdict = load(data, Release(release), Guest(vcpus=2), Machine(vendor=INTEL))
        assert verdict.accepted or verdict.rule == "cpu-msr-index", verdict
        return verdict.accepted

    assert taken(0x1001, (0, 0x1F)) and taken(0x1000) and taken(0x1002)
    for states in ([], [(0, 7)], [(1, 0x1F)], [(0, 0x1F), (0, 7)]):
        assert taken(0x1001, *states) == (not needs), states


def test_a_host_without_mpx_takes_nothing_but_zero() -> None:
    """Up to 4.12."""
    for release, zero in (("4.6.5", False), ("4.6.6", True), ("4.9", True), ("newest", False)):
        assert loaded(release, INTEL, 0xD90, 0, having()) == zero
        assert not loaded(release, INTEL, 0xD90, 0x1000, having())
