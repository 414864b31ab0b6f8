"""Bits of registers that are refused: which, and what would allow them, in words."""

from __future__ import annotations

import pytest

from hvmctx.abi.releases import Release
from hvmctx.abi.x86_bits import EFER, XCR0
from hvmctx.context.hvm_context import HvmContext
from hvmctx.restore.context import load
from hvmctx.restore.guest import Guest
from hvmctx.restore.machine import AMD, INTEL, Machine
from hvmctx.restore.registers import cr4_allowed, place_of
from hvmctx.restore.rules import Seen
from tests.builders.contexts import Change, body_of, msrs, put, xsave
from tests.builders.loads import base, having


class Asked(Seen):
    """As much of a CPU record as a policy is asked for."""

    def __init__(self, release: str, guest: Guest) -> None:
        self.release = Release(release)
        self.guest = guest
        self.machine = Machine()


_CR4 = {
    "VME": 0x3, "TSC": 0x4, "DE": 0x8, "PSE": 0x10, "PAE": 0x20, "MCE": 0x40, "MCA": 0x40,
    "PGE": 0x80, "FXSR": 0x200, "SSE": 0x400, "UMIP": 0x800, "VMX": 0x2000, "FSGSBASE": 1 << 16,
    "PCID": 1 << 17, "XSAVE": 1 << 18, "SMEP": 1 << 20, "SMAP": 1 << 21, "PKU": 1 << 22,
    "CET_SS": 1 << 23, "CET_IBT": 1 << 23, "PKS": 1 << 24, "LASS": 1 << 27,
}  # fmt: skip
_ALWAYS = 0x100


@pytest.mark.parametrize("feature", _CR4)
def test_what_a_feature_allows_in_cr4(feature: str) -> None:
    """Its own bits, besides PCE. VMX only where guests nest; before 4.5 most need no feature."""
    bits, of_all = _CR4[feature], 0x6FF
    assert cr4_allowed(Asked("newest", having(feature, nested=True))) == bits | _ALWAYS
    plain = bits if feature != "VMX" else 0
    assert cr4_allowed(Asked("newest", having(feature))) == plain | _ALWAYS
    old = bits if feature in ("XSAVE", "FSGSBASE", "SMEP", "PCID", "VMX") else 0
    assert cr4_allowed(Asked("4.4.4", having(feature, nested=True))) == old | of_all | _ALWAYS


def test_where_a_feature_is() -> None:
    assert place_of("UMIP") == "CPUID 7,0:ecx[2]" and place_of("PGE") == "CPUID 1:edx[13]"
    assert place_of("XSAVES") == "CPUID 0xd,1:eax[3]"
    assert place_of("LM") == "CPUID 0x80000001:edx[29]"


def refusal(
    record: str, change: Change, release: str, guest: Guest, machine: Machine | None = None
) -> str:
    """What a load says of a record that is alone with HEADER and END; nothing if it takes it."""
    context = base(Release(release))
    change(context)
    only = [e for e in context.entries if e.name in ("HEADER", record, "END")]
    data = HvmContext(only).to_bytes()
    verdict = load(data, Release(release), guest, machine or Machine(vendor=INTEL))
    return verdict.text


NONE = having()
ALL = Guest(vcpus=1)
NEEDS = "which needs CPUID"
LACKS = "; the guest's policy lacks it"


@pytest.mark.parametrize(
    ("release", "guest", "cr4", "text"),
    [
        ("newest", NONE, 1 << 11, f"UMIP (bit 11), {NEEDS} 7,0:ecx[2]{LACKS}"),
        ("newest", NONE, 0x3, f"VME (bit 0) and PVI (bit 1), {NEEDS} 1:edx[1] (VME){LACKS}"),
        ("newest", NONE, 0x40, f"MCE (bit 6), {NEEDS} 1:edx[7] or CPUID 1:edx[14] (MCA){LACKS}"),
        ("newest", NONE, 1 << 22, f"PKE (bit 22), {NEEDS} 7,0:ecx[3] (PKU){LACKS}"),
        ("newest", ALL, 1 << 12, "LA57 (bit 12), which no guest may set"),
        ("newest", ALL, 1 << 40, "bit 40, which no guest may set"),
        ("4.9", ALL, 1 << 11, "UMIP (bit 11), which guests may set in Xen 4.10 and later"),
        ("newest", ALL, 1 << 13, "VMXE (bit 13), which needs nested virtualisation; the guest has none"),
        ("4.1", ALL, 1 << 13, "VMXE (bit 13), which guests may set in Xen 4.2 and later"),
        ("newest", NONE, 1 << 13,
         f"VMXE (bit 13), {NEEDS} 1:ecx[5] (VMX) and nested virtualisation; the guest's policy lacks the first"),
        ("newest", NONE, 1 << 7 | 1 << 12,
         f"PGE (bit 7), {NEEDS} 1:edx[13]{LACKS}; LA57 (bit 12), which no guest may set"),
    ],
)  # fmt: skip
def test_cr4(release: str, guest: Guest, cr4: int, text: str) -> None:
    assert refusal("CPU", put("CPU/0.cr4", cr4), release, guest) == f"cr4 has {text}"


def test_the_host_may_be_what_lacks_it() -> None:
    host = Machine(vendor=INTEL, leaves=[(1, 0xFFFFFFFF, 0, 0, 0, 0)])
    said = refusal("CPU", put("CPU/0.cr4", 1 << 7), "4.9.3", ALL, host)
    assert said == "cr4 has PGE (bit 7), which needs CPUID 1:edx[13]; the host lacks it"


@pytest.mark.parametrize(
    ("cr0", "text"),
    [(0, "no ET (bit 4)"), (0x10 | 1 << 31, "PG (bit 31), but not PE (bit 0), which it needs"),
     (0x50, "unknown bit 6"), (1 << 40, "unknown bit 40, no ET (bit 4)")],
)  # fmt: skip
def test_cr0(cr0: int, text: str) -> None:
    assert refusal("CPU", put("CPU/0.cr0", cr0), "newest", ALL) == f"cr0 has {text}"


@pytest.mark.parametrize(
    ("release", "guest", "efer", "text"),
    [
        ("newest", NONE, EFER.SCE, f"SCE (bit 0), {NEEDS} 0x80000001:edx[11] (SYSCALL){LACKS}"),
        ("newest", ALL, EFER.LMA, "LMA (bit 10), but not LME and CR0.PG, which it needs"),
        ("newest", NONE, EFER.NXE, f"NXE (bit 11), {NEEDS} 0x80000001:edx[20] (NX){LACKS}"),
        ("newest", ALL, EFER.SVME, "SVME (bit 12), which needs nested virtualisation; the guest has none"),
        ("newest", ALL, EFER.LMSLE, "LMSLE (bit 13), which guests may set up to Xen 4.11 only"),
        ("4.11", ALL, EFER.LMSLE,
         "LMSLE (bit 13), which needs a CPU with segment limits in long mode; the host lacks it"),
        ("4.17", ALL, EFER.AIBRSE, "AIBRSE (bit 21), which guests may set in Xen 4.18 and later"),
        ("4.1", ALL, EFER.SVME, "SVME (bit 12), which guests may set in Xen 4.2 and later"),
        ("newest", ALL, EFER.TCE, "TCE (bit 15), which no guest may set"),
    ],
)  # fmt: skip
def test_efer(release: str, guest: Guest, efer: int, text: str) -> None:
    assert refusal("CPU", put("CPU/0.msr_efer", efer), release, guest) == f"EFER has {text}"


_STATES = (0xD, 0, 7, 0, 0, 0)


@pytest.mark.parametrize(
    ("release", "body", "text"),
    [
        ("newest", xsave(3, bv=7), "xstate_bv has YMM (bit 2), which xcr0_accum lacks"),
        ("newest", xsave(3, xcr0=7), "xcr0 has YMM (bit 2), which xcr0_accum lacks"),
        ("newest", xsave(0x203, xcr0=3),
         "xcr0_accum has PKRU (bit 9), which must be in CPUID 0xd,0; the guest's policy lacks it"),
        ("newest", xsave(3, xcr0=2), "xcr0 lacks X87 (bit 0)"),
        ("newest", xsave(5), "xcr0 has YMM (bit 2), but not SSE (bit 1), which it needs; "
         "xcr0_accum has YMM (bit 2), but not SSE (bit 1), which it needs"),
        ("4.5", xsave(0x27, xcr0=3), "xcr0_accum has OPMASK (bit 5), but not ZMM (bit 6) and "
         "HI_ZMM (bit 7), which go together"),
        ("4.5", xsave(0xE3, xcr0=3), "xcr0_accum has OPMASK (bit 5), ZMM (bit 6) and HI_ZMM (bit 7), "
         "but not YMM (bit 2), which they need"),
        ("4.5", xsave(0xB, xcr0=3), "xcr0_accum has BNDREGS (bit 3), but not BNDCSR (bit 4), which go together"),
        ("4.5", xsave(1 << 20 | 3, xcr0=3), "xcr0_accum has bit 20, which Xen does not know"),
        ("newest", xsave(3, comp=1 << 63), "xcomp_bv is 0x8000000000000000: the image is compacted"),
    ],
)  # fmt: skip
def test_states(release: str, body: bytes, text: str) -> None:
    guest = having(rows=[_STATES])
    assert refusal("CPU_XSAVE", body_of("CPU_XSAVE/0", body), release, guest) == text


def test_states_that_the_host_lacks() -> None:
    host = Machine(vendor=INTEL, leaves=[(0xD, 0, 3, 0, 0, 0)])
    said = refusal("CPU_XSAVE", body_of("CPU_XSAVE/0", xsave(7)), "newest", ALL, host)
    assert said == "xcr0_accum has YMM (bit 2), which the host lacks"
    said = refusal("CPU_XSAVE", put("CPU_XSAVE/0.xfeature_mask", 7), "4.2.3", ALL, host)
    assert said == "xfeature_mask has YMM (bit 2), which the host lacks"
    said = refusal("CPU_XSAVE", body_of("CPU_XSAVE/0", xsave(XCR0.AVX512)), "4.3.1",
                   having(rows=[_STATES]))  # fmt: skip
    assert said.startswith("xcr0 lacks X87 (bit 0); xcr0_accum lacks")


@pytest.mark.parametrize(
    ("release", "vendor", "guest", "index", "value", "text"),
    [
        ("newest", INTEL, having("IBRSB"), 0x48, 0x401,
         f"SPEC_CTRL (0x48): 0x401 has BHI_DIS_S (bit 10), {NEEDS} 7,2:edx[4] (BHI_CTRL){LACKS}"),
        ("4.18.1", INTEL, having("IBRSB", "BHI_CTRL"), 0x48, 0x401,
         "SPEC_CTRL (0x48): 0x401 has BHI_DIS_S (bit 10), which guests may set in Xen 4.19 and later "
         "(also 4.18.2, 4.17.4, 4.16.6, 4.15.6 and later of their branches)"),
        ("newest", INTEL, having("IBRSB"), 0x48, 1 << 20,
         "SPEC_CTRL (0x48): 0x100000 has bit 20, which no guest may set"),
        ("newest", INTEL, NONE, 0x48, 0, f"SPEC_CTRL (0x48), {NEEDS} 7,0:edx[26] (IBRSB) or "
         f"CPUID 0x80000008:ebx[14] (IBRS){LACKS}"),
        ("newest", INTEL, having(msrs=[(0xCE, 0, 0)]), 0x140, 1, "MISC_FEATURES_ENABLES (0x140): "
         f"CPUID_FAULTING (bit 0) needs bit 31 of PLATFORM_INFO (0xce){LACKS}"),
        ("newest", INTEL, ALL, 0x140, 2, "MISC_FEATURES_ENABLES (0x140): 0x2 has bits outside of 0x1"),
        ("newest", INTEL, ALL, 0x6E1, 1 << 40,
         "PKRS (0x6e1): 0x10000000000 has bits outside of 0xffffffff"),
        ("newest", INTEL, NONE, 0x6E1, 0, f"PKRS (0x6e1), {NEEDS} 7,0:ecx[31] (PKS){LACKS}"),
        ("newest", INTEL, ALL, 0xD90, 4, "BNDCFGS (0xd90): 0x4 has reserved bits, which are 2 to 11"),
        ("newest", INTEL, ALL, 0xD90, 1 << 47, "BNDCFGS (0xd90): 0x800000000000 is not a canonical address"),
        ("newest", INTEL, ALL, 0xD90, 0x1001, "BNDCFGS (0xd90): 0x1001 enables MPX, which needs "
         "BNDREGS (bit 3) or BNDCSR (bit 4) in xcr0_accum of the vcpu's CPU_XSAVE record, loaded before"),
        ("newest", INTEL, ALL, 0xDA0, 1,
         "XSS (0xda0): it is 0x1, and Xen lets no guest enable a state in it"),
        ("4.16", AMD, ALL, 0xC001011F, 0,
         "VIRT_SPEC_CTRL (0xc001011f), which Xen loads in 4.17 and later, on AMD CPUs"),
        ("newest", AMD, ALL, 0x10, 0, "TSC (0x10), which Xen does not load"),
        ("newest", AMD, ALL, 0x99, 0, "MSR 0x99, which Xen does not load"),
    ],
)  # fmt: skip
def test_msrs(release: str, vendor: str, guest: Guest, index: int, value: int, text: str) -> None:
    change = body_of("CPU_MSR/0", msrs((index, 0, value)))
    assert refusal("CPU_MSR", change, release, guest, Machine(vendor=vendor)) == text


@pytest.mark.parametrize(
    ("record", "change", "text"),
    [
        ("CPU", put("CPU/0.pending_event", 1 << 31 | 5 << 8),
         "the pending event is of type 5 (PRIV_SW_EXCEPTION), which AMD's CPUs do not have"),
        ("CPU", put("CPU/0.pending_event", 1 << 31 | 1 << 8),
         "the pending event is of type 1, which AMD's CPUs do not have"),
        ("CPU", put("CPU/0.pending_event", 1 << 31 | 1 << 12),
         "the pending event has reserved bits: 0x1"),
        ("PIC", put("PIC/0.is_master", 0), "is_master is 0 in PIC/0; the master is PIC/0"),
        ("PIC", put("PIC/0.elcr", 3), "elcr is 0x3: pins 0x3 are always edge-triggered"),
        ("PIC", put("PIC/0.int_output", 1, "PIC/0.init_state", 2),
         "int_output is 1 while init_state is 2"),
        ("PIT", put("PIT/0.channels[1].rw_mode", 4),
         "a field is beyond its range, or pad0 is not zero: channels[1].rw_mode is 0x4"),
        ("PIT", put("PIT/0.channels[1].gate", 0),
         "the gate of channel 0 or 1 is closed: channels[1].gate is 0"),
        ("PCI_LINK", put("PCI_LINK/0.route[3]", 16),
         "a link is routed to an IRQ above 15: route[3] is 16"),
        ("VMCE_VCPU", put("VMCE_VCPU/0.caps", 0x400),
         "caps has CMCI_P (bit 10), which Xen gives no guest on AMD CPUs"),
        ("CPU", put("CPU/0.cr3", 1 << 52), "cr3 is beyond the guest's physical addresses: "
         "cr3 is 0x10000000000000, the guest has 52 address bits"),
    ],
)  # fmt: skip
def test_other_refusals_name_what_is_wrong(record: str, change: Change, text: str) -> None:
    assert refusal(record, change, "newest", ALL, Machine(vendor=AMD)) == text
