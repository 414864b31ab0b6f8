"""A CPU policy for people: its features by name, and what else of it decides on a restore."""

from __future__ import annotations

from hvmctx.abi.cpuid import (
    EAX,
    EBX,
    ECX,
    EDX,
    FEATURES,
    LEAF_TEXT,
    MSR_FEATURES,
    NO_SUBLEAF,
    PLATFORM_INFO,
    REPEATED,
    WORDS,
)
from hvmctx.abi.x86_bits import XCR0, short_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Rows = Iterable[tuple[int, ...]]

__all__ = ["describe_policy", "policy_lines"]

_REGISTERS = {EAX: "eax", EBX: "ebx", ECX: "ecx", EDX: "edx"}
_CPUID_FAULTING = 1 << 31
_SUMMED_UP = {(0, NO_SUBLEAF), (0x80000000, NO_SUBLEAF), (0xD, 0)}


class _Policy:
    """Rows of (leaf, subleaf, eax, ebx, ecx, edx) and of (index, flags, value)."""

    def __init__(self, leaves: Rows, msrs: Rows) -> None:
        self.leaves = {(row[0], row[1]): row for row in leaves}
        self.msrs = {row[0]: row[2] for row in msrs}

    def register(self, leaf: int, subleaf: int | None, register: int) -> int:
        row = self.leaves.get((leaf, NO_SUBLEAF if subleaf is None else subleaf))
        return 0 if row is None else row[register]

    def features(self) -> Iterable[str]:
        for name, (leaf, subleaf, register, bit) in FEATURES.items():
            if self.register(leaf, subleaf, register) >> bit & 1:
                yield name
        for name, (index, bit) in MSR_FEATURES.items():
            if self.msrs.get(index, 0) >> bit & 1:
                yield name


def describe_policy(leaves: Rows, msrs: Rows) -> dict[str, Any]:
    """For JSON: vendor, maxima of leaves, address bits, XSTATE, features by name, and the rows:
    (leaf, subleaf, eax, ebx, ecx, edx) of CPUID, (index, flags, value) of MSRs."""
    policy = _Policy(leaves, msrs)
    vendor = b"".join(policy.register(0, None, at).to_bytes(4, "little") for at in (EBX, EDX, ECX))
    sizes = policy.register(0x80000008, None, EAX)
    xcr0 = policy.register(0xD, 0, EAX) | policy.register(0xD, 0, EDX) << 32
    return {
        "vendor": vendor.decode("latin-1").rstrip("\0"),
        "max_leaf": policy.register(0, None, EAX),
        "max_subleaf": policy.register(7, 0, EAX),
        "max_extended_leaf": policy.register(0x80000000, None, EAX),
        "physical_address_bits": sizes & 0xFF,
        "linear_address_bits": sizes >> 8 & 0xFF,
        "xcr0": xcr0,
        "xstate": short_names(XCR0, xcr0),
        "xstate_bytes": policy.register(0xD, 0, ECX),
        "cpuid_faulting": bool(policy.msrs.get(PLATFORM_INFO, 0) & _CPUID_FAULTING),
        "features": list(policy.features()),
        "cpuid": [list(row) for row in policy.leaves.values()],
        "msrs": [[index, 0, value] for index, value in policy.msrs.items()],
    }


def policy_lines(leaves: Rows, msrs: Rows) -> list[str]:
    """The same as lines of text. Bits without a name are there by number, other leaves by their
    rows."""
    leaves, msrs = list(leaves), list(msrs)
    facts, policy = describe_policy(leaves, msrs), _Policy(leaves, msrs)
    lines = [
        f"vendor: {facts['vendor']}",
        f"leaves: up to {facts['max_leaf']:#x}, of leaf 7 up to subleaf {facts['max_subleaf']}, "
        f"extended up to {facts['max_extended_leaf']:#x}",
        f"address bits: {facts['physical_address_bits']} physical, "
        f"{facts['linear_address_bits']} linear",
        f"XSTATE: {', '.join(facts['xstate']) or 'none'} ({facts['xcr0']:#x}), "
        f"{facts['xstate_bytes']} bytes",
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
    shown = {(leaf, NO_SUBLEAF if sub is None else sub) for leaf, sub, _ in WORDS} | _SUMMED_UP
    for row in policy.leaves.values():
        if row[:2] not in shown and any(row[2:]):
            lines.append(f"leaf {LEAF_TEXT.format(*row)}")
    return lines
