"""Which features of its CPU a saved guest has switched on."""

from __future__ import annotations

import pytest

from hvmctx.abi.cpuid import FEATURES
from hvmctx.abi.releases import Release
from hvmctx.restore.feature_use import uses
from hvmctx.restore.registers import CR4_FEATURES, EFER_FEATURES
from tests.builders.loads import base


def test_states_and_msrs_in_use() -> None:
    """Of a context with all records: the states that XCR0 has, and each MSR of CPU_MSR."""
    context = base(Release("4.20"))
    record = context.record("CPU_XSAVE")
    record.struct.xcr0_accum = 0b1110_0111
    names = ["AVX512F", "AVX", "DBEXT", "PKU"]

    def said(*kept: str) -> dict[str, str]:
        gone = [name for name in names if name not in kept]
        found = uses(context, gone, lambda name: name in kept, Release("4.20"))
        return {name: use.words for name, use in found.items()}

    assert said() == {
        "AVX": "loaded XCR0 has YMM",
        "AVX512F": "loaded XCR0 has OPMASK, ZMM, HI_ZMM",
        "DBEXT": "its CPU_MSR has DR1_ADDRESS_MASK",
    }
    assert set(said("AVX")) == {"AVX512F", "DBEXT"}


@pytest.mark.parametrize(
    ("value", "gone", "words"),
    [
        (0x401, "BHI_CTRL", "SPEC_CTRL has BHI_DIS_S"), (4, "SSBD AMD_SSBD", "SPEC_CTRL has SSBD"),
        (1, "IBRS IBRSB", "SPEC_CTRL has IBRS"), (0x80, "PSFD INTEL_PSFD", "SPEC_CTRL has PSFD"),
        (4, "SSBD", ""), (1, "IBRS", ""),
    ],
)  # fmt: skip
def test_speculation_control_in_use(value: int, gone: str, words: str) -> None:
    """A bit that another feature allows as well is no use."""
    context = base(Release("4.20"))
    body = (1).to_bytes(8, "little") + (0x48).to_bytes(8, "little") + value.to_bytes(8, "little")
    context.record("CPU_MSR").body = body
    kept = {*FEATURES} - {*gone.split()}
    found = uses(context, gone.split(), kept.__contains__, Release("4.20"))
    assert {use.words for use in found.values()} == ({words} if words else set())


@pytest.mark.parametrize(
    ("name", "field", "bits", "since"),
    [*((name, "cr4", bits, since) for name, bits, since in CR4_FEATURES),
     *((name, "msr_efer", bits, since) for name, bits, since in EFER_FEATURES)],
)  # fmt: skip
def test_every_bit_of_a_register(name: str, field: str, bits: int, since: str) -> None:
    """In use if it is set, the feature is gone, and no other feature allows it."""
    context = base(Release("4.22"))
    record = context.record("CPU")
    setattr(record.struct, field, bits)
    others = {*FEATURES} - {name}
    table = CR4_FEATURES if field == "cr4" else EFER_FEATURES
    also = {other for other, same, _ in table if same == bits} - {name}
    found = uses(context, [name], (others - also).__contains__, Release("4.22"))
    assert set(found) == {name} and found[name].record == "CPU"
    if also:
        assert not uses(context, [name], others.__contains__, Release("4.22"))
    assert not uses(context, [], others.__contains__, Release("4.22"))
    assert Release("4.22").since(since)


def test_records_that_are_cut_are_passed_over() -> None:
    context = base(Release("4.22"))
    context.record("CPU").body = bytes(5)
    context.record("CPU_XSAVE").body = bytes(5)
    context.record("CPU_MSR").body = bytes(5)
    assert not uses(context, FEATURES, lambda _: False, Release("4.22"))
