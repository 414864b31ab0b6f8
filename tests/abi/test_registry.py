from __future__ import annotations

import pytest

from hvmctx.abi import x86
from hvmctx.abi.declare import VMPORT_TYPECODE, declared
from hvmctx.abi.registry import by_name, by_typecode, largest_typecode, record_types
from hvmctx.errors import UsageError


def test_registry() -> None:
    assert by_name("lapic_regs") is x86.LAPIC_REGS
    assert by_typecode(0xFFFF) is None
    codes = [known.typecode for known in record_types()]
    assert codes == sorted(codes)
    assert set(codes) == {*declared, VMPORT_TYPECODE}
    assert largest_typecode() == 34
    with pytest.raises(UsageError, match="unknown record type 'XYZ'; expected END, HEADER"):
        by_name("XYZ")
    assert repr(x86.CPU) == "<record type 2 CPU>"
