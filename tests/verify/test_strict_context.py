"""What strict says of contexts: rule by rule, and nothing of genuine ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import x86
from hvmctx.context.hvm_context import HvmContext
from hvmctx.context.record import Record
from hvmctx.context.vmport import Slots, VmportState, to_record
from hvmctx.limits import Limits
from hvmctx.verify.strict_context import findings_of
from tests.builders.cases.strict_context import CASES, LONG, PROTECTED, V86, add
from tests.builders.contexts import Change, any_contexts, cpu
from tests.builders.samples import DATA, context_bytes


def rules_of(*changes: Change) -> list[str]:
    context = HvmContext.from_bytes(context_bytes())
    for change in changes:
        change(context)
    return [finding.rule for finding in findings_of(HvmContext.from_bytes(context.to_bytes()))]


@pytest.mark.parametrize("case", CASES)
def test_every_rule(case: str) -> None:
    fires, misses = CASES[case]
    rule = case.partition("#")[0]
    assert rule in rules_of(*fires)
    assert rule not in rules_of(*misses)


@pytest.mark.parametrize(
    "state", [PROTECTED, LONG, V86, {}], ids=["protected", "long", "v86", "real"]
)
def test_states_that_a_cpu_can_hold(state: dict[str, int]) -> None:
    assert rules_of(cpu(**state)) == []


def test_genuine_contexts() -> None:
    for path in sorted((DATA / "images").glob("*.hvmctx.bin")):
        found = {
            f.rule for f in findings_of(HvmContext.from_bytes(path.read_bytes(), damaged=True))
        }
        assert found <= {"vcpu-offline"}, path


def test_offsets_are_the_inputs() -> None:
    context = HvmContext.from_bytes(context_bytes())
    cpu(rflags=8)(context)
    (finding,) = findings_of(HvmContext.from_bytes(context.to_bytes()), 1000)
    assert (finding.offset, finding.record) == (1032, "CPU/0")
    assert str(finding) == (
        "error: context: offset 0x408: CPU/0: reserved bits of rflags are set: bit 3 [cpu-rflags]"
    )


def test_vmport_is_judged_too() -> None:
    state = VmportState.empty()
    state.guestinfo = Slots({b"%d" % n: b"" for n in range(60)})
    assert "vmport-guestinfo-slot" in rules_of(add(-1, to_record(state)))


def test_old_attributes_are_unfolded_first() -> None:
    """As those of before Xen 3 were: their upper bits at 12 to 15."""
    assert rules_of(cpu(**PROTECTED | {"cs_arbytes": 0xC09B})) == []


@given(st.binary(max_size=300) | any_contexts)
def test_any_bytes(data: bytes) -> None:
    for finding in findings_of(HvmContext.from_bytes(data, damaged=True)):
        assert 0 <= finding.offset <= len(data)


def test_many_records_take_time_in_proportion() -> None:
    lapic = Record(x86.LAPIC_REGS, 5, bytes(1024))
    context = HvmContext([lapic] * 3000)
    assert len(findings_of(HvmContext.from_bytes(context.to_bytes()))) >= 2999


def test_records_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each CPU record that lacks others has findings about the whole context: these must not
    each go through all of it."""
    counted = []

    def size(self: HvmContext) -> int:
        counted.append(1)
        return sum(8 + len(record.body) for record in self.entries)

    monkeypatch.setattr(HvmContext, "size", property(size))
    context = HvmContext([Record(x86.CPU, vcpu, b"") for vcpu in range(20)])
    found = findings_of(context)
    assert sum(finding.rule == "context-incomplete" for finding in found) > 20
    assert len(counted) <= 2


def test_findings_of_a_rule_have_an_end() -> None:
    context = HvmContext([Record(19, 0, bytes(8)) for _ in range(50)])
    again = HvmContext.from_bytes(context.to_bytes())
    found = findings_of(again, limits=Limits(rule_findings=5))
    assert (
        len(findings_of(again, limits=Limits(findings=7))) == 8
    )  # one too many: cut off by who shows them
    twice = [finding.text for finding in found if finding.rule == "context-duplicate"]
    assert len(twice) == 5 and twice[-1].endswith("; further findings suppressed")
