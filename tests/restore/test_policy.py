"""CPU policies, of guests and of hosts."""

from __future__ import annotations

import pytest

from hvmctx.abi.cpuid import NO_SUBLEAF
from hvmctx.restore.policy import CpuPolicy

INTEL = (0, NO_SUBLEAF, 0xD, 0x756E6547, 0x6C65746E, 0x49656E69)


def test_nothing_is_refused_for_a_policy_that_is_not_known() -> None:
    policy = CpuPolicy()
    assert policy.has("LASS") and policy.offers(0xCE, 31) and policy.vendor is None
    assert (policy.maxphysaddr, policy.xcr0_max) == (52, 0x2FF)


def test_leaves_and_msrs() -> None:
    policy = CpuPolicy([INTEL, (7, 0, 0, 0, 0, 1 << 31)], [(0xCE, 0, 1 << 31)])
    assert policy.vendor == "intel" and policy.has("SSBD") and not policy.has("SMEP")
    assert policy.offers(0xCE, 31) and not policy.offers(0xCE, 30) and not policy.offers(0x10A, 0)
    assert policy.register(7, 0, 5) == 1 << 31 and policy.register(9, None, 2) == 0


@pytest.mark.parametrize(
    ("states", "size"),
    [(0, 0), (1, 576), (3, 576), (7, 832), (0xE7, 2688), (1 << 3, 1024), (1 << 4, 1088),
     (1 << 5, 1152), (1 << 6, 1664), (1 << 7, 2688), (1 << 8, 576), (1 << 9, 2696),
     (1 << 62, 576), (1 << 9 | 1 << 5, 2696)],
)  # fmt: skip
def test_sizes_of_the_xsave_image(states: int, size: int) -> None:
    """Up to the end of the last component, of a usual host where there is no policy."""
    assert CpuPolicy().xsave_size(states) == size


@pytest.mark.parametrize(
    ("states", "size"),
    [(0, 0), (3, 576), (4, 1000), (1 << 9, 608), (1 << 9 | 4, 1000), (1 << 62, 1208), (1 << 8, 576),
     (1 << 63, 576)],
)  # fmt: skip
def test_sizes_of_the_xsave_image_by_policy(states: int, size: int) -> None:
    """Leaf 0xD has size and offset of the components 2 to 62; the first two subleaves tell
    other things."""
    rows = [
        (0, 4096, 4096),
        (1, 4096, 4096),
        (2, 200, 800),
        (9, 8, 600),
        (62, 8, 1200),
        (63, 9, 9000),
    ]
    leaves = [(0xD, subleaf, eax, ebx, 0, 0) for subleaf, eax, ebx in rows]
    assert CpuPolicy(leaves).xsave_size(states) == size
