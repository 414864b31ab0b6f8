"""A CPU policy for people."""

from __future__ import annotations

from typing import Any

from hvmctx.abi.cpuid import NO_SUBLEAF
from hvmctx.render.policy import describe_policy, policy_lines

POLICY = (
    [
        (0, NO_SUBLEAF, 0xD, 0x68747541, 0x444D4163, 0x69746E65),
        (1, NO_SUBLEAF, 0x60FB1, 0, 1 << 23 | 1 << 16, 1 << 4 | 1),
        (2, NO_SUBLEAF, 1, 2, 3, 4), (3, NO_SUBLEAF, 0, 0, 0, 0),
        (0xD, 0, 7, 0, 832, 0), (0x80000000, NO_SUBLEAF, 0x80000008, 0, 0, 0),
        (0x80000001, NO_SUBLEAF, 0, 0, 1, 1 << 4 | 1 << 29),
        (0x80000008, NO_SUBLEAF, 0x3028, 0, 0, 0),
    ],
    [(0xCE, 0, 1 << 31), (0x10A, 0, 2)],
)  # fmt: skip
LINES = [
    "vendor: AuthenticAMD",
    "leaves: up to 0xd, of leaf 7 up to subleaf 0, extended up to 0x80000008",
    "address bits: 40 physical, 48 linear",
    "XSTATE: X87, SSE, YMM (0x7), 832 bytes",
    "CPUID faulting: yes",
    "CPUID 1.edx: FPU, TSC",
    "CPUID 1.ecx: bit 16, POPCNT",
    "CPUID 80000001.edx: LM",
    "CPUID 80000001.ecx: LAHF_LM",
    "ARCH_CAPABILITIES: EIBRS",
    "leaf 00000002:ffffffff -> 00000001:00000002:00000003:00000004",
]


def test_text() -> None:
    """What AMD repeats of leaf 1 is there once, what has no name by its number."""
    assert policy_lines(*POLICY) == LINES


def test_json() -> None:
    facts = describe_policy(*POLICY)
    assert facts["features"] == ["FPU", "TSC", "POPCNT", "LM", "LAHF_LM", "EIBRS"]
    assert (
        facts["xcr0"] == 7
        and facts["xstate"] == ["X87", "SSE", "YMM"]
        and facts["cpuid"][2] == [2, NO_SUBLEAF, 1, 2, 3, 4]
    )
    assert facts["msrs"] == [[0xCE, 0, 1 << 31], [0x10A, 0, 2]]


def test_a_vendor_that_is_not_text() -> None:
    policy: Any = ([(0, NO_SUBLEAF, 0, 0x1B1B1B1B, 0, 0)], [])
    assert describe_policy(*policy)["vendor"] == "\x1b" * 4, "as it is: JSON escapes it"
    assert policy_lines(*policy)[0] == "vendor: " + "\x1b" * 4, "and messages.show the lines"
