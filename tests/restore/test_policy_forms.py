"""The forms of a CPU policy: rows of bytes, JSON, the text of xen-cpuid."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import FormatError, HvmctxError
from hvmctx.restore.policy import CpuPolicy
from hvmctx.restore.policy_forms import from_pol, is_text, policies_of, rows_of, to_pol
from tests.builders.hosts import CPUID

if TYPE_CHECKING:
    from hvmctx.restore.policy import Leaf, Msr

WORD, LONG = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)
LEAVES = st.lists(st.tuples(WORD, WORD, WORD, WORD, WORD, WORD), max_size=8)
MSRS = st.lists(st.tuples(WORD, WORD, LONG), max_size=4)
DOMAIN = b"""Domain 5 policy: 1 leaves, 1 MSRs
  00000000:ffffffff -> 00000001:68747541:444d4163:69746e65
  000000ce -> 0000000080000000
"""


@given(LEAVES, MSRS)
def test_bytes_and_back(leaves: list[Leaf], msrs: list[Msr]) -> None:
    packed = to_pol(leaves, msrs)
    assert from_pol(packed) == rows_of(packed) == (leaves, msrs)
    assert len(packed) == 8 + 24 * len(leaves) + 16 * len(msrs)


@given(LEAVES, MSRS)
def test_json(leaves: list[Leaf], msrs: list[Msr]) -> None:
    assert rows_of(json.dumps({"cpuid": leaves, "msr": msrs}).encode()) == (leaves, msrs)


def test_text_of_one_domain() -> None:
    row = (0, 0xFFFFFFFF, 1, 0x68747541, 0x444D4163, 0x69746E65)
    assert rows_of(DOMAIN) == ([row], [(0xCE, 0, 1 << 31)])
    assert is_text(DOMAIN) and is_text(b" {") and not is_text(to_pol([row], []))
    assert list(policies_of(CPUID, "")) == ["Raw", "Host", "HVM Max", "Domain 5"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no count of leaves"),
        (b"\1\0\0\0" + bytes(23), "leaves that are not there"),
        (b"\0\0\0\0", "no count of MSRs"),
        (b"\0\0\0\0\1\0\0\0", "MSRs that are not there"),
        (b"\xff\xff\xff\xff" + bytes(50), "leaves that are not there"),
        (bytes(9), "bytes after the MSRs"),
        (b"{", "not JSON"),
        (b"[" * 50 + b"{" + b"[" * 100_000, "leaves that are not there"),
        (b"{" + b'"a":{' * 100_000, "not JSON"),
        (b"{}", "not a policy"),
        (b'{"cpuid": 1}', "no leaf of a policy"),
        (b'{"cpuid": [[1, 2]]}', "row 0 is no leaf"),
        (b'{"cpuid": [[0, 0, 0, 0, 0, 4294967296]]}', "row 0 is no leaf"),
        (b'{"msr": [[0, 0, -1]]}', "row 0 is no MSR"),
        (b'{"msr": [[0, 0, true]]}', "row 0 is no MSR"),
        (b'{"msr": [[0, 0, 1.0]]}', "row 0 is no MSR"),
        (json.dumps({"msr": [[0, 0, 0]] * 5000}).encode(), "too many rows"),
        (CPUID, "not the policy of one domain"),
    ],
)
def test_what_is_none(data: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        rows_of(data)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: b'{"cpuid": ' + tail))
def test_any_bytes(data: bytes) -> None:
    try:
        CpuPolicy(*rows_of(data))
    except HvmctxError:
        return
    assert not is_text(data) or data.lstrip().startswith(b"{")
