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


@pytest.mark.parametrize(("states", "size"), [(0, 0), (1, 576), (3, 576), (7, 832), (0xE7, 2688)])
def test_sizes_of_the_xsave_image(states: int, size: int) -> None:
    assert CpuPolicy().xsave_size(states) == size
