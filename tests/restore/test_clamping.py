"""What Xen takes out of a CPU policy. That hypervisors do the same is in test_policy_rules.py."""

from __future__ import annotations

import pytest

from hvmctx.abi.cpuid import DEPENDENTS, EAX, EBX, ECX, EDX, FEATURES, MSR_FEATURES, NO_SUBLEAF
from hvmctx.abi.releases import Release
from hvmctx.restore.clamping import DomainPolicy, HostPolicies, Shape
from hvmctx.restore.policy import CpuPolicy
from hvmctx.restore.policy_rules import features_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.restore.policy import Leaf

NEWEST = Release("newest")
ONES = 0xFFFFFFFF
NAMES = {
    "amd": (0x68747541, 0x444D4163, 0x69746E65),
    "intel": (0x756E6547, 0x6C65746E, 0x49656E69),
}
XSTATE = [
    (0xD, bit, size, offset, 2, 0)
    for bit, size, offset in (
        (2, 256, 576), (3, 64, 960), (4, 64, 1024), (5, 64, 1088), (6, 512, 1152), (7, 1024, 1664),
        (9, 8, 2688), (17, 64, 2752), (18, 8192, 2816),
    )
]  # fmt: skip


def everything(vendor: str = "amd") -> list[Leaf]:
    """All features, and all bits of all other leaves that may have any."""
    b, c, d = NAMES[vendor]
    rows: dict[tuple[int, int], Leaf] = {
        place: (*place, ONES, ONES, ONES, ONES)
        for place in (
            *((leaf, NO_SUBLEAF) for leaf in (1, 2, 3, 5, 6, 8, 9, 0xA, 0xC)), (7, 0), (7, 1),
            (7, 2), (0xB, 0), (0xB, 1), (0xD, 0), (0xD, 1),
            *((4, subleaf) for subleaf in range(6)),
            *((0x80000000 + leaf, NO_SUBLEAF) for leaf in range(0x22)),
        )
    }  # fmt: skip
    rows |= {(row[0], row[1]): row for row in XSTATE}
    rows[0, NO_SUBLEAF] = (0, NO_SUBLEAF, 0xD, b, c, d)
    rows[7, 0] = (7, 0, 2, ONES, ONES, ONES)
    rows[0x80000000, NO_SUBLEAF] = (0x80000000, NO_SUBLEAF, 0x80000021, b, c, d)
    rows[0x80000008, NO_SUBLEAF] = (0x80000008, NO_SUBLEAF, 0x3030, ONES, ONES, ONES)
    for subleaf in range(6):
        rows[4, subleaf] = (4, subleaf, 0xFFFFFFE1, ONES, ONES, ONES)
    return list(rows.values())


MSRS = [(0xCE, 0, 1 << 31), (0x10A, 0, sum(1 << bit for _, bit in MSR_FEATURES.values()))]


def host(vendor: str = "amd", without: str = "") -> HostPolicies:
    policy = CpuPolicy(everything(vendor), MSRS)
    for name in without.split():
        leaf, subleaf, register, bit = FEATURES[name]
        place = leaf, NO_SUBLEAF if subleaf is None else subleaf
        row = list(policy.leaves[place])
        row[register] &= ~(1 << bit)
        policy.leaves[place] = tuple(row)  # type: ignore[assignment]
    return HostPolicies(policy)


def clamped(
    release: Release = NEWEST, vendor: str = "amd", without: str = "", nested: bool = True,
    hap: bool = True,
) -> DomainPolicy:  # fmt: skip
    policy = DomainPolicy.of(release, everything(vendor), MSRS)
    policy.trim()
    policy.clamp(host(vendor, without), nested=nested, hap=hap)
    return policy


def features(policy: DomainPolicy) -> set[str]:
    return {name for name in (*FEATURES, *MSR_FEATURES) if policy.has(name)}


def test_features_that_the_host_lacks() -> None:
    assert {*FEATURES, *MSR_FEATURES} - features(clamped()) == set()
    gone = features(clamped()) - features(clamped(without="UMIP"))
    assert gone == {"UMIP"}


@pytest.mark.parametrize(("feature", "dependents", "since"), DEPENDENTS)
def test_what_goes_with_a_feature(feature: str, dependents: str, since: str) -> None:
    if feature == "EIBRS":  # of an MSR
        return
    release = Release(since.partition(" ")[0])
    there = {name for name in dependents.split() if clamped(release).has(name)}
    assert there & features(clamped(release, without=feature)) == set()
    assert release.since(since)


def test_dependents_are_features() -> None:
    for feature, names, _ in DEPENDENTS:
        assert {feature, *names.split()} <= {*FEATURES, *MSR_FEATURES}


def test_what_goes_with_what_goes() -> None:
    gone = features(clamped()) - features(clamped(without="XSAVE"))
    assert {"AVX", "AVX2", "AVX512F", "AVX512_FP16", "PKU", "AMX_INT8", "MPX"} <= gone
    # before a release knew of an edge, what came by it stays
    old = Release("4.14.0")
    assert clamped(old, without="AVX2").has("AVX_VNNI")
    assert not clamped(Release("4.15"), without="AVX2").has("AVX_VNNI")


def test_guests_of_guests_and_shadowed_page_tables() -> None:
    assert features(clamped()) - features(clamped(nested=False)) == {"VMX", "SVM"}
    assert not clamped(nested=False).register(0x8000000A, None, EAX)
    assert clamped().register(0x8000000A, None, EAX)
    gone = features(clamped()) - features(clamped(hap=False))
    assert gone == {"VMX", "SVM", "PCID", "INVPCID", "PAGE1GB", "PKU", "PKS"}
    old = Release("4.14")
    assert "SVM" in features(clamped(old, hap=False))
    assert not clamped(hap=False).register(0x80000019, None, EAX)


def test_bits_that_are_the_toolstacks() -> None:
    missing = "HTT X2APIC CMP_LEGACY"
    assert set(missing.split()) <= features(clamped(Release("4.18.1"), without=missing))
    assert not set(missing.split()) & features(clamped(Release("4.18.2"), without=missing))
    assert not set(missing.split()) & features(clamped(without=missing))


def test_bits_that_are_the_hosts() -> None:
    """How the FPU behaves is not for a toolstack to say."""
    policy = DomainPolicy.of(NEWEST, [row for row in everything() if row[:2] != (7, 0)], [])
    policy.clamp(host())
    assert policy.has("FDP_EXCP_ONLY") and policy.has("NO_FPU_SEL")
    assert not clamped(without="NO_FPU_SEL").has("NO_FPU_SEL")


def test_tsx_of_a_host_that_has_switched_it_off() -> None:
    for name, there in (("4.15.0", True), ("4.15.1", False), ("newest", False)):
        assert clamped(Release(name), without="RTM HLE").has("RTM") == there


@pytest.mark.parametrize(
    ("guest", "most", "paging", "features", "release", "hap", "bits"),
    [
        (40, 48, 0, "PAE", "newest", True, 40), (48, 40, 0, "PAE", "newest", True, 40),
        (52, 52, 0, "PAE", "newest", True, 48), (52, 52, 0, "PAE", "4.15.1", True, 52),
        (52, 52, 0, "PAE", "newest", False, 44), (48, 48, 42, "PAE", "newest", True, 42),
        (48, 48, 42, "PAE", "newest", False, 44), (20, 48, 0, "PAE", "newest", True, 36),
        (20, 48, 0, "PSE PSE36", "newest", True, 36), (20, 48, 0, "PSE", "newest", True, 32),
    ],
)  # fmt: skip
def test_address_bits(
    guest: int, most: int, paging: int, features: str, release: str, hap: bool, bits: int
) -> None:
    edx = sum(1 << FEATURES[name][3] for name in features.split())
    rows: list[Leaf] = [
        (0, NO_SUBLEAF, 0xD, *NAMES["amd"]), (1, NO_SUBLEAF, 0, 0, 0, edx),
        (0x80000000, NO_SUBLEAF, 0x80000008, 0, 0, 0),
    ]  # fmt: skip
    offered = HostPolicies(
        CpuPolicy([*rows, (0x80000008, NO_SUBLEAF, paging << 16 | 0x3000 | most, 0, 0, 0)])
    )
    policy = DomainPolicy.of(
        Release(release), [*rows, (0x80000008, NO_SUBLEAF, 0xFF00 | guest, 0, 0, 0)], []
    )
    policy.clamp(offered, hap=hap)
    assert policy.register(0x80000008, None, EAX) == 32 << 8 | bits  # no LM: 32 linear ones


@pytest.mark.parametrize(
    ("without", "states", "size", "release"),
    [
        ("", 0x602FF, 11008, "newest"), ("", 0x2FF, 2696, "4.19"),
        ("AMX_TILE", 0x2FF, 2696, "newest"), ("PKU", 0x600FF, 11008, "newest"),
        ("AVX512F MPX AMX_TILE", 0x207, 2696, "newest"), ("AVX PKU MPX AMX_TILE", 3, 576, "newest"),
    ],
)  # fmt: skip
def test_xstate(without: str, states: int, size: int, release: str) -> None:
    policy = clamped(Release(release), without=without)
    assert policy.register(0xD, 0, EAX) == states and policy.register(0xD, 0, ECX) == size
    shown = [row for row in policy.leaves() if row[0] == 0xD and row[1] > 1 and any(row[2:])]
    assert shown == [row for row in XSTATE if states >> row[1] & 1]
    assert policy.register(0xD, 1, EAX) & 0xF and not policy.register(0xD, 1, EBX)


def test_xstate_without_its_instructions() -> None:
    assert not any(any(row[2:]) for row in clamped(without="XSAVE").leaves() if row[0] == 0xD)
    # whether a component is aligned is told since 4.19 only where there is XSAVEC
    assert clamped(without="XSAVEC").register(0xD, 2, ECX) == 0
    assert clamped(Release("4.18"), without="XSAVEC").register(0xD, 2, ECX) == 2
    policy = DomainPolicy.of(NEWEST, [(0, NO_SUBLEAF, 0xC, *NAMES["amd"]), *everything()[1:]], [])
    policy._put(0, None, EAX, 0xC)
    policy.clamp(host())
    assert not policy.has("XSAVE"), "a policy that ends before leaf 0xd"


def test_what_no_guest_is_shown() -> None:
    amd, intel = clamped(), clamped(vendor="intel")
    for leaf in (5, 6, 8, 0xA, 0xC):
        shown = leaf == 0xA and any(intel.register(leaf, None, at) for at in (EAX, EDX))
        assert not any(amd.register(leaf, None, at) for at in (EAX, EBX, ECX, EDX))
        assert shown == (leaf == 0xA), "the host's PMU leaf is there: vPMU is on"
    assert not amd.register(2, None, EAX) and intel.register(2, None, EAX) == 0xFFFFFF01
    assert not amd.register(4, 0, EAX) and intel.register(4, 0, EAX) == 0xFFFFC3E1
    assert intel.register(4, 5, EDX) == 7
    assert amd.register(1, None, EAX) == 0x0FFF0FFF == amd.register(0x80000001, None, EAX)
    assert intel.register(0x80000001, None, EAX) == 0
    assert amd.register(0x80000000, None, EBX) == NAMES["amd"][0]
    assert intel.register(0x80000000, None, EBX) == 0
    assert amd.register(0x80000000, None, EAX) == 0x80000021
    assert intel.register(0x80000000, None, EAX) == 0x80000008
    assert not any(row[0] == 0xB and any(row[2:]) for row in amd.leaves())
    assert amd.register(0x80000007, None, EBX) == amd.register(0x80000008, None, EDX) == 0
    assert amd.register(0x80000008, None, ECX) == 0x3F0FF and not intel.register(
        0x80000008, None, ECX
    )
    # AMD's second leaf of features repeats those of the first
    assert amd.register(0x80000001, None, EDX) & 1 and not intel.register(0x80000001, None, EDX) & 1


def test_leaves_that_later_releases_hide() -> None:
    assert clamped(Release("4.16.0")).register(0x8000001D, None, EAX)
    assert not clamped(Release("4.16.1")).register(0x8000001D, None, EAX)
    assert clamped(Release("4.20.0")).register(0x80000021, None, EBX)
    assert not clamped(Release("4.20.1")).register(0x80000021, None, EBX)


def test_words_that_a_release_does_not_know_pass() -> None:
    old = clamped(Release("4.16.0"), without="INTEL_PPIN SHA512")
    assert old.has("INTEL_PPIN") and not old.has("SHA512")
    assert not clamped(Release("4.17"), without="INTEL_PPIN").has("INTEL_PPIN")
    assert clamped(Release("4.17.1"), without="ARCH_CAPS").msr(0x10A)
    assert not clamped(Release("4.17.2"), without="ARCH_CAPS").msr(0x10A)


@pytest.mark.parametrize(
    ("release", "subleaves", "last", "leaves", "msrs"),
    [
        ("4.13.0", 2, 0x1C, 114, {0xCE: 32}), ("4.13.2", 2, 0x1C, 114, {0xCE: 32, 0x10A: 32}),
        ("4.14.0", 2, 0x1C, 114, {0xCE: 32}), ("4.16.0", 2, 0x21, 119, {0xCE: 32, 0x10A: 32}),
        ("4.16.1", 3, 0x21, 120, {0xCE: 32, 0x10A: 32}),
        ("4.17", 3, 0x21, 120, {0xCE: 32, 0x10A: 64}),
        ("newest", 3, 0x21, 120, {0xCE: 32, 0x10A: 64}),
    ],
)  # fmt: skip
def test_shapes(release: str, subleaves: int, last: int, leaves: int, msrs: dict[int, int]) -> None:
    shape = Shape(Release(release))
    assert (shape.subleaves[7], shape.last_extended) == (subleaves, last)
    assert shape.most_leaves == leaves and shape.msrs == msrs
    assert shape.has(7, subleaves - 1) and not shape.has(7, subleaves)
    assert shape.has(0x80000000 + last, NO_SUBLEAF)
    assert not shape.has(0x80000001 + last, NO_SUBLEAF) and not shape.has(1, 0)


def test_trimming() -> None:
    policy = DomainPolicy.of(NEWEST, everything("intel"), MSRS)
    policy._put(0, None, EAX, 6)
    policy._put(0x80000000, None, EAX, 0x80000001)
    policy.trim()
    assert {row[0] for row in policy.leaves()} == {
        *range(7), 0x40000000, 0x40000100, 0x80000000, 0x80000001
    }  # fmt: skip
    assert not policy.has("SMEP") and not policy.has("ITSC") and policy.register(4, 5, EAX)
    policy._put(4, 2, EAX, 0)
    policy.trim()
    assert not policy.register(4, 3, EAX)


def test_a_maximum_that_wraps_around_clears_all() -> None:
    policy = DomainPolicy.of(NEWEST, everything(), MSRS)
    policy._put(0, None, EAX, ONES)
    policy.trim()
    assert policy.register(0, None, EBX) == 0 and not policy.has("FPU") and not policy.has("SMEP")
    policy = DomainPolicy.of(NEWEST, everything(), MSRS)
    policy._put(7, 0, EAX, ONES)
    policy.trim()
    assert not policy.has("SMEP") and policy.has("FPU")


def test_rows_that_a_release_has_no_place_for_are_left_out() -> None:
    old = DomainPolicy.of(Release("4.14.0"), everything(), MSRS)
    assert not old.register(7, 2, EDX) and old.msrs() == [(0xCE, 0, 1 << 31)]
    assert features_of(old.leaves(), old.msrs())
