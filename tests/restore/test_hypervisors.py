"""The load of a context as hypervisors themselves do it: twelve Xen trees on AMD from 4.5.5 on,
4.17 and 4.20 on Intel. The suite holds a slice of each set; `make fidelity` judges them whole."""

from __future__ import annotations

import json

import pytest

from hvmctx.abi.releases import Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.restore.context import load
from hvmctx.restore.context_rules import RULES, WALK
from hvmctx.restore.machine import AMD, Machine
from tools.fidelity import KNOWN, OWN, SLICES, TAGS, Measured, Set, agrees, held
from tools.fidelity_doc import MEASURED

SETS = {one.name: Measured(one) for archive in (SLICES, OWN) for one in held(archive)}
WHOLE_SETS = {one["name"]: one for one in json.loads(MEASURED.read_text())["sets"]}
RECORDS = {rule.id: rule.record for rule in (*WALK, *RULES)}


@pytest.mark.parametrize("name", SETS)
def test_verdict_and_errno(name: str) -> None:
    differ = {
        (name, answer.name): f"{answer.what}: Xen {answer.errno}, {verdict}"
        for answer, verdict in SETS[name].verdicts
        if not agrees(verdict, answer)
    }
    assert differ.keys() == {known for known in KNOWN if known[0] == name}, differ


def test_every_set_has_a_slice() -> None:
    assert {one.set.release for one in SETS.values() if one.set.line} == set(TAGS.values())
    own = {name for name in WHOLE_SETS if not name.endswith(" images")}
    assert set(SETS) == own and len(own) == 20


@pytest.mark.parametrize("name", SETS)
def test_every_rule_that_the_set_reaches(name: str) -> None:
    """Refused by it, loaded with a record of the same type if any was, and loaded for lack of
    the rule."""
    one, whole = SETS[name], WHOLE_SETS[name]
    assert one.fired.keys() == whole["fired"].keys()
    assert one.lacking.keys() == whole["lacking"].keys()
    held = {RECORDS[rule] for rule in one.fired} & whole["loaded"].keys()
    assert held <= one.loaded().keys()


def test_most_rules_are_reached() -> None:
    """All but those that docs/fidelity.md calls read."""
    reached = {rule for one in SETS.values() for rule in one.fired}
    assert len(reached) == 70
    assert {rule for rule in RECORDS if rule not in reached} == {
        "cpu-cr3-page", "cpu-msr-cut", "cpu-msr-mask", "cpu-xsave-host", "cpu-xsave-long",
        "cpu-xsave-mask", "lapic-device", "lapic-regs-device",
    }  # fmt: skip


def test_the_host_of_4_6_had_more_states_than_were_recorded() -> None:
    """What docs/differences.md says of the only context on which the model differs: the policy
    beside the answers, which stands for the host's, has no BNDREGS and BNDCSR."""
    one: Set = SETS["amd 4.6.6"].set
    (answer,) = (a for a in one.answers if (one.name, a.name) in KNOWN)
    assert answer.errno is None and one.judge(answer).rule == "cpu-xsave-compact"
    assert one.loaded_into.xcr0_max == 7
    record = HvmContext.from_bytes(answer.data, damaged=True).record("CPU_XSAVE")
    assert record.fields()["xcr0_accum"] == 0x1F
    states = [(0xD, 0, 0x1F, 0, 0, 0), (0xD, 3, 64, 960, 0, 0), (0xD, 4, 64, 1024, 0, 0)]
    host = Machine(vendor=AMD, leaves=[*one.loaded_into.leaves.values(), *states])
    assert load(answer.data, Release(one.release), one.loaded_into, host).accepted
