from __future__ import annotations

import pytest

from hvmctx.abi.vmport import XEN_4_5_V6
from hvmctx.errors import UsageError
from hvmctx.restore.machine import AMD, Machine


def test_a_machine() -> None:
    usual = Machine()
    assert (usual.vendor, usual.xsave, usual.vmport) == (None, True, None)
    assert repr(usual) == "<machine, any vendor>"
    old = Machine(vendor=AMD, xsave=False, vmport=XEN_4_5_V6)
    assert repr(old) == "<machine, amd, no XSAVE, VMPORT XEN_4_5_V6>"


def test_a_vendor_that_no_rule_knows_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown vendor 'AMD'; expected amd or intel"):
        Machine(vendor="AMD")
