from __future__ import annotations

from ctypes import sizeof

import pytest

from hvmctx.abi import bodies

SIZES = {"hvm_param": 16, "cpuid_leaf": 24, "policy_msr": 16, "vcpu_msr": 16, "vcpu_xsave": 16}


@pytest.mark.parametrize("name", bodies.__all__)
def test_sizes(name: str) -> None:
    assert sizeof(getattr(bodies, name)) == SIZES[name]
