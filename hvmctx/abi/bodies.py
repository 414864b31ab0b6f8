"""Rows of the bodies of libxc records, and what else lies in them: little-endian. The bodies
themselves are declared in `stream.libxc` and `stream.libxl`.

Source: docs/specs/libxc-migration-stream.pandoc, 4.6 to c447b730.
"""

from __future__ import annotations

from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64

from hvmctx.abi.declare import SaveStructure

__all__ = ["cpuid_leaf", "hvm_param", "policy_msr", "vcpu_msr", "vcpu_xsave"]


class hvm_param(SaveStructure):
    """An HVM parameter; names of indices in `abi.streams`."""

    _fields_ = [("index", u64), ("value", u64)]


class cpuid_leaf(SaveStructure):
    """A leaf of CPUID. A subleaf of all ones means that the leaf has none."""

    _fields_ = [(name, u32) for name in ("leaf", "subleaf", "eax", "ebx", "ecx", "edx")]


class policy_msr(SaveStructure):
    """An MSR as the guest sees it. `flags` are always 0."""

    _fields_ = [("index", u32), ("flags", u32), ("value", u64)]


class vcpu_msr(SaveStructure):
    """An MSR of a PV vcpu."""

    _fields_ = [("index", u32), ("reserved", u32), ("value", u64)]


class vcpu_xsave(SaveStructure):
    """What stands before the xsave image of a PV vcpu."""

    _fields_ = [("xcr0", u64), ("xcr0_accum", u64)]
