"""Failures of saved state from Xen's own history, as known answers: a context that shows each, and
what the releases on either side of the fix do with it. The ids are commits of xen.git."""

from __future__ import annotations

import pytest

from hvmctx.abi import x86
from hvmctx.abi.cpuid import FEATURES, NO_SUBLEAF
from hvmctx.abi.releases import Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.restore.context import load
from hvmctx.restore.guest import Guest
from hvmctx.restore.hazards import HAZARDS
from hvmctx.restore.machine import AMD, INTEL, Machine
from tests.builders.contexts import Change, body_of, cpu, msrs, put, xsave
from tests.builders.loads import base

LOADED, DIES = "loaded", "dies"


def policy(*features: str) -> Guest:
    """A guest with a policy of these features alone."""
    rows: dict[tuple[int, int], list[int]] = {(1, NO_SUBLEAF): [1, NO_SUBLEAF, 0, 0, 0, 0]}
    for name in features:
        leaf, subleaf, register, bit = FEATURES[name]
        key = leaf, NO_SUBLEAF if subleaf is None else subleaf
        rows.setdefault(key, [*key, 0, 0, 0, 0])[register] |= 1 << bit
    return Guest(vcpus=1, leaves=[tuple(row) for row in rows.values()])  # type: ignore[misc]


EVERYTHING = Guest(vcpus=1)
NO_MEMORY = Guest(vcpus=1, has_page=lambda pfn: False)
IBRS, IBRS_BHI = policy("IBRSB"), policy("IBRSB", "BHI_CTRL")


def msr(index: int, value: int) -> Change:
    return body_of("CPU_MSR/0", msrs((index, 0, value)))


def states(accum: int, extra: int = 0, **header: int) -> Change:
    """A CPU_XSAVE record that is `extra` bytes longer than the image for its xcr0_accum."""
    return body_of("CPU_XSAVE/0", xsave(accum, bytes(max(extra, 0)), **header)[: 600 + extra])


def sent_by_4_9(context: HvmContext) -> None:
    """The descriptor says room for three MSRs, and the record holds one."""
    record = context.record(x86.CPU_MSR)
    at = context.entries.index(record)
    context.entries[at] = Record(record.typecode, 0, bytes(record.body), length=56)


HISTORY: list[tuple[str, str, Change, dict[str, str], str, Guest]] = [
    # what, record, the change, release -> answer, host, guest
    ("5776a2e9db, XSA-472, CVE-2025-27466: the reference TSC's page is not there", "VIRIDIAN_DOMAIN",
     put("VIRIDIAN_DOMAIN/0.reference_tsc", 0x123 << 12 | 1),
     {"4.12.4": LOADED, "4.13.0": DIES, "4.14.6": DIES, "4.16.7": DIES, "4.20.1": DIES,
      "4.20.2": LOADED, "4.21.0": LOADED}, AMD, NO_MEMORY),
    ("69c89dd787: is_master is not that of the instance", "PIC",
     put("PIC/0.is_master", 0), {"4.18.6": LOADED, "4.19.0": "EINVAL"}, AMD, EVERYTHING),
    ("c53013da6f: a count beyond its range", "PIT",
     put("PIT/0.channels[0].count", 0x10001), {"4.18.6": LOADED, "4.19.0": "EDOM"}, AMD, EVERYTHING),
    ("681aea049c: shorter than the image for xcr0_accum", "CPU_XSAVE",
     states(7, 255), {"4.7.0": LOADED, "4.7.1": "EPERM", "4.8.0": "EPERM", "newest": "EINVAL"},
     AMD, EVERYTHING),
    ("104a409ebc: xcomp_bv in an image that is not compacted", "CPU_XSAVE",
     states(3, comp=3), {"4.6.6": LOADED, "4.7.0": "EPERM", "newest": "ENOTSUP"}, AMD, EVERYTHING),
    ("104a409ebc: reserved bytes of the header", "CPU_XSAVE",
     states(3, reserved=1), {"4.6.6": LOADED, "4.7.0": "EPERM", "4.17.7": "EIO"}, AMD, EVERYTHING),
    ("4cc1344447, d7bb8e88a0: the area of all states of the host, as 4.2.0 and 4.3.0 sent it",
     "CPU_XSAVE", states(3, 256),
     {"4.1.6": LOADED, "4.1.6.1": LOADED, "4.2.3": LOADED, "4.2.4": "EPERM", "4.3.0": LOADED,
      "4.3.1": "EPERM", "4.3.3": "EPERM", "4.3.4": LOADED, "4.4.1": "EPERM", "4.4.2": LOADED,
      "newest": LOADED}, AMD, EVERYTHING),
    ("4cc1344447: no least length", "CPU_XSAVE",
     states(3, -8), {"4.2.3": LOADED, "4.2.4": "EPERM", "newest": "EINVAL"}, AMD, EVERYTHING),
    ("d2f86bf604: the sender's descriptor is longer than its MSRs", "CPU_MSR",
     sent_by_4_9, {"4.9.0": "EPERM", "4.14.3": "ENODATA", "newest": "ENODATA"}, AMD, EVERYTHING),
    ("28301682f4: SPEC_CTRL of a guest whose policy was guessed without BHI", "CPU_MSR",
     msr(0x48, 0x401), {"4.19.0": "ENXIO", "4.20": "ENXIO"}, INTEL, IBRS),
    ("28301682f4: and with it", "CPU_MSR",
     msr(0x48, 0x401), {"4.17.3": "ENXIO", "4.17.4": LOADED, "4.20": LOADED}, INTEL, IBRS_BHI),
    ("969a57f73f: SPEC_CTRL beyond the policy, which the sender takes out since 4.17", "CPU_MSR",
     msr(0x48, 0x80), {"4.16.7": "ENXIO", "4.17.0": "ENXIO"}, INTEL, IBRS),
    ("0d251a1dd1: VIRT_SPEC_CTRL was saved and not loaded", "CPU_MSR",
     msr(0xC001011F, 4), {"4.16.7": "ENXIO", "4.17.0": LOADED}, AMD, EVERYTHING),
    ("b90f86be16: MISC_FEATURES_ENABLES was neither", "CPU_MSR",
     msr(0x140, 1), {"4.9.4": "EPERM", "4.10.0": LOADED, "4.11.0": LOADED}, AMD, EVERYTHING),
    ("66d0c0aa1f: a short record at the very end", "LAPIC",
     body_of("LAPIC/0", bytes(8)),
     {"4.3.3": "EPERM", "4.3.4": LOADED, "4.4.1": "EPERM", "4.4.2": LOADED, "4.5.0": LOADED},
     AMD, EVERYTHING),
    ("76159f10b1: more variable ranges than there are", "MTRR",
     put("MTRR/0.msr_mtrr_cap", 9), {"4.11.4": LOADED, "4.12.0": "EPERM", "newest": "EINVAL"},
     AMD, EVERYTHING),
    ("ef7f5bbf9d: an event of type 5, which AMD does not have", "CPU",
     cpu(pending_event=1 << 31 | 5 << 8), {"4.8.5": LOADED, "4.9.0": "EPERM", "newest": "EINVAL"},
     AMD, EVERYTHING),
    ("ef7f5bbf9d: and Intel has", "CPU",
     cpu(pending_event=1 << 31 | 5 << 8), {"4.8.5": LOADED, "newest": LOADED}, INTEL, EVERYTHING),
    ("105b06fc7e: the record with the offset", "RTC",
     body_of("RTC/0", bytes(24)), {"4.13.5": "EINVAL", "4.14.0": LOADED, "newest": LOADED},
     AMD, EVERYTHING),
    ("105b06fc7e: and without it", "RTC",
     body_of("RTC/0", bytes(16)), {"4.13.5": LOADED, "4.14.0": LOADED, "newest": LOADED},
     AMD, EVERYTHING),
    ("96e5ad4c47: what any refusal looked like", "CPU",
     cpu(cr0=0), {"4.13.3": "EPERM", "4.13.4": "EINVAL", "4.14.2": "EPERM", "4.14.3": "EINVAL",
                  "4.15.0": "EPERM", "4.15.1": "EINVAL", "4.16.0": "EINVAL"}, AMD, EVERYTHING),
    ("guest_wrmsr: SPEC_CTRL with every bit", "CPU_MSR",
     msr(0x48, (1 << 64) - 1), {"newest": "ENXIO"}, AMD, EVERYTHING),
    ("guest_wrmsr: PKRS above 32 bits", "CPU_MSR",
     msr(0x6E1, 1 << 40), {"newest": "ENXIO"}, INTEL, EVERYTHING),
    ("guest_wrmsr: BNDCFGS that is no address", "CPU_MSR",
     msr(0xD90, 0xDEAD000000000001), {"newest": "ENXIO"}, INTEL, EVERYTHING),
    ("guest_wrmsr: CPUID faulting without it", "CPU_MSR",
     msr(0x140, 2), {"newest": "ENXIO"}, INTEL, EVERYTHING),
]  # fmt: skip


def answer(record: str, change: Change, release: str, vendor: str, guest: Guest) -> str:
    """What the release does with a context of this one record: load it, refuse it with an errno,
    or die."""
    context = base(Release(release))
    change(context)
    context.entries = [e for e in context.entries if e.name in ("HEADER", record, "END")]
    verdict = load(context.to_bytes(), Release(release), guest, Machine(vendor=vendor))
    assert verdict.record == ("" if verdict.accepted else record)
    return LOADED if verdict.accepted else verdict.errno or DIES


@pytest.mark.parametrize(("what", "record", "change", "answers", "vendor", "guest"), HISTORY,
                         ids=[row[0] for row in HISTORY])  # fmt: skip
def test_known_answers(
    what: str, record: str, change: Change, answers: dict[str, str], vendor: str, guest: Guest
) -> None:
    assert answers == {
        release: answer(record, change, release, vendor, guest) for release in answers
    }


MENDED = {rule.commit for rule in HAZARDS if rule.commit}


HARMED = [row for row in HISTORY if row[0][:10] in MENDED and row[3].get("newest") != LOADED]


@pytest.mark.parametrize(("what", "record", "change", "answers", "vendor", "guest"), HARMED,
                         ids=[row[0] for row in HARMED])  # fmt: skip
def test_what_was_loaded_before_the_fix_is_a_hazard(
    what: str, record: str, change: Change, answers: dict[str, str], vendor: str, guest: Guest
) -> None:
    for release, said in answers.items():
        context = base(Release(release))
        change(context)
        context.entries = [e for e in context.entries if e.name in ("HEADER", record, "END")]
        verdict = load(context.to_bytes(), Release(release), guest, Machine(vendor=vendor))
        told = {hazard.commit for hazard in verdict.hazards}
        assert (what[:10] in told) == (said == LOADED), release
