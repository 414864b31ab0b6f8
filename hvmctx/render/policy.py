"""A CPU policy for people: its features by name, and what else of it decides on a restore."""

from __future__ import annotations

from hvmctx.abi.cpuid import (
    EAX,
    EBX,
    ECX,
    EDX,
    FEATURES,
    MSR_FEATURES,
    NO_SUBLEAF,
    PLATFORM_INFO,
    REPEATED,
    WORDS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from hvmctx.restore.policy import CpuPolicy

__all__ = ["describe_policy", "policy_lines"]

_REGISTERS = {EAX: "eax", EBX: "ebx", ECX: "ecx", EDX: "edx"}
_CPUID_FAULTING = 1 << 31


def describe_policy(policy: CpuPolicy) -> dict[str, Any]:
    """For JSON: vendor, maxima of leaves, address bits, XSTATE, features by name, all rows."""
    vendor = b"".join(policy.register(0, None, at).to_bytes(4, "little") for at in (EBX, EDX, ECX))
    sizes = policy.register(0x80000008, None, EAX)
    return {
        "vendor": vendor.decode("latin-1").rstrip("\0"),
        "max_leaf": policy.register(0, None, EAX),
        "max_subleaf": policy.register(7, 0, EAX),
        "max_extended_leaf": policy.register(0x80000000, None, EAX),
        "physical_address_bits": sizes & 0xFF,
        "linear_address_bits": sizes >> 8 & 0xFF,
        "xcr0": policy.register(0xD, 0, EAX) | policy.register(0xD, 0, EDX) << 32,
        "xstate_bytes": policy.register(0xD, 0, ECX),
        "cpuid_faulting": bool(policy.msrs.get(PLATFORM_INFO, 0) & _CPUID_FAULTING),
        "features": list(_features(policy)),
        "cpuid": [list(row) for row in policy.leaves.values()],
        "msrs": [[index, 0, value] for index, value in policy.msrs.items()],
    }


def _features(policy: CpuPolicy) -> Iterable[str]:
    yield from (name for name in FEATURES if policy.has(name))
    for name, (index, bit) in MSR_FEATURES.items():
        if policy.msrs.get(index, 0) >> bit & 1:
            yield name


def policy_lines(policy: CpuPolicy) -> list[str]:
    """The same as lines of text. Bits without a name are there by number, other leaves by their
    rows."""
    facts = describe_policy(policy)
    lines = [
        f"vendor: {facts['vendor']}",
        f"leaves: up to {facts['max_leaf']:#x}, of leaf 7 up to subleaf {facts['max_subleaf']}, "
        f"extended up to {facts['max_extended_leaf']:#x}",
        f"address bits: {facts['physical_address_bits']} physical, "
        f"{facts['linear_address_bits']} linear",
        f"XSTATE: {facts['xcr0']:#x}, {facts['xstate_bytes']} bytes",
        f"CPUID faulting: {'yes' if facts['cpuid_faulting'] else 'no'}",
    ]
    for (leaf, subleaf, register), names in WORDS.items():
        value = policy.register(leaf, subleaf, register)
        if leaf == 0x80000001 and register == EDX:
            value &= ~(REPEATED & policy.register(1, None, EDX))
        if value:
            place = f"{leaf:x}" if subleaf is None else f"{leaf:x}:{subleaf:x}"
            said = (names.get(bit, f"bit {bit}") for bit in range(32) if value >> bit & 1)
            lines.append(f"CPUID {place}.{_REGISTERS[register]}: {', '.join(said)}")
    in_msr = [name for name in facts["features"] if name in MSR_FEATURES]
    if in_msr:
        lines.append(f"ARCH_CAPABILITIES: {', '.join(in_msr)}")
    shown = {(leaf, NO_SUBLEAF if sub is None else sub) for leaf, sub, _ in WORDS}
    for row in policy.leaves.values():
        if row[:2] not in shown and any(row[2:]):
            lines.append(
                "leaf {:08x}:{:08x} -> {:08x}:{:08x}:{:08x}:{:08x}".format(*row)  # as xen-cpuid
            )
    return lines
