"""Of the rules about CPU policies: what a host refuses by each, and a policy like it that is set."""

from __future__ import annotations

from hvmctx.abi.cpuid import NO_SUBLEAF
from hvmctx.abi.releases import Release
from hvmctx.restore.clamping import DomainPolicy, HostPolicies
from hvmctx.restore.policy import CpuPolicy
from hvmctx.restore.policy_rules import Outcome, set_policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hvmctx.restore.policy import Leaf, Msr

    Rows = tuple[list[Leaf], list[Msr]]
    Where = tuple[int | None, int | None, int | None]

AMD: list[Leaf] = [
    (0, NO_SUBLEAF, 7, 0x68747541, 0x444D4163, 0x69746E65), (1, NO_SUBLEAF, 0, 0, 1 << 23, 1),
    (7, 0, 1, 0, 0, 0), (0x80000000, NO_SUBLEAF, 0x80000008, 0, 0, 0),
    (0x80000008, NO_SUBLEAF, 0x3028, 0, 0, 0),
]  # fmt: skip
MSRS: list[Msr] = [(0xCE, 0, 1 << 31), (0x10A, 0, 0)]
HOST = HostPolicies(CpuPolicy(AMD, MSRS))
VENDOR = AMD[0][3:]


def setting(leaves: Sequence[Leaf], msrs: Sequence[Msr], release: str) -> Outcome:
    """What a release on that host makes of rows, on a domain that has all that the host has."""
    return set_policy(DomainPolicy.of(Release(release), AMD, MSRS), HOST, leaves, msrs)


def _leaf(leaf: int, subleaf: int = NO_SUBLEAF, eax: int = 0) -> Rows:
    return [(leaf, subleaf, eax, 0, 0, 0)], []


def _basic(last: int) -> Rows:
    return [(0, NO_SUBLEAF, last, *VENDOR)], []


def _msrs(*rows: Msr) -> Rows:
    return [], list(rows)


_MANY = [(1, NO_SUBLEAF, 0, 0, 1, 1)]
# rule -> rows that it refuses, rows like them that are set, what is named, the release
CASES: dict[str, tuple[list[Leaf], list[Msr], Rows, Where, str]] = {
    "cpuid-policy-count": (_MANY * 121, [], (_MANY * 120, []), (None, None, None), "4.20"),
    "cpuid-policy-count#old": (_MANY * 115, [], (_MANY * 114, []), (None, None, None), "4.14.0"),
    "cpuid-policy-place": (*_leaf(7, 3), _leaf(7, 1), (7, 3, None), "4.20"),
    "cpuid-policy-place#cache": (*_leaf(4, 6), _leaf(4, 5), (4, 6, None), "4.20"),
    "cpuid-policy-place#topology": (*_leaf(0xB, 2), _leaf(0xB, 1), (0xB, 2, None), "4.20"),
    "cpuid-policy-place#xstate": (*_leaf(0xD, 63), _leaf(0xD, 62), (0xD, 63, None), "4.20"),
    "cpuid-policy-place#none": (*_leaf(1, 0), _leaf(2), (1, 0, None), "4.20"),
    "cpuid-policy-place#basic": (*_leaf(0xE), _leaf(0xC), (0xE, None, None), "4.20"),
    "cpuid-policy-place#hypervisor": (*_leaf(0x40000001), _leaf(0x40000000, eax=0x105),
                                      (0x40000001, None, None), "4.20"),
    "cpuid-policy-place#extended": (*_leaf(0x80000022), _leaf(0x80000021),
                                    (0x80000022, None, None), "4.20"),
    "cpuid-policy-place#last": (*_leaf(NO_SUBLEAF), _leaf(0x40000100), (None, None, None), "4.20"),
    "msr-policy-count": (*_msrs(*MSRS, MSRS[0]), _msrs(*MSRS), (None, None, None), "4.20"),
    "msr-policy-flags": (*_msrs((0xCE, 1, 0)), _msrs((0xCE, 0, 0)), (None, None, 0xCE), "4.20"),
    "msr-policy-index": (*_msrs((0x140, 0, 0)), _msrs((0x10A, 0, 0)), (None, None, 0x140), "4.20"),
    "msr-policy-value": (*_msrs((0xCE, 0, 1 << 32)), _msrs((0xCE, 0, 1 << 31)), (None, None, 0xCE),
                         "4.20"),
    "msr-policy-value#narrow": (*_msrs((0x10A, 0, 1 << 32)), _msrs((0x10A, 0, 1 << 31)),
                                (None, None, 0x10A), "4.17.1"),
    "cpuid-policy-vendor": ([(0, NO_SUBLEAF, 7, 0, 0, 0)], [], _basic(7), (0, None, None), "4.22"),
    "cpuid-policy-basic": (*_basic(8), _basic(7), (0, None, None), "4.20"),
    "cpuid-policy-subleaf": (*_leaf(7, 0, 2), _leaf(7, 0, 1), (7, 0, None), "4.20"),
    "cpuid-policy-extended": (*_leaf(0x80000000, eax=0x80000009),
                              _leaf(0x80000000, eax=0x80000008), (0x80000000, None, None), "4.20"),
    "cpuid-policy-extended#old": (*_leaf(0x80000000, eax=0x80000009),
                                  _leaf(0x80000000, eax=0x80000008), (0x80000008, None, None),
                                  "4.13.0"),
    "msr-policy-platform": (*_msrs((0xCE, 0, 1)), _msrs((0xCE, 0, 0)), (None, None, 0xCE), "4.20"),
}  # fmt: skip
