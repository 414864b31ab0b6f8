from __future__ import annotations

import pytest

from hvmctx.errors import HvmctxError, RestoreRefused
from hvmctx.restore.verdict import ACCEPT, REFUSE, VIOLATION, Verdict

LOAD = Verdict(
    REFUSE, errno="EINVAL", rule="cpu-cr0", record="CPU", instance=0, offset=0x20, text="odd"
)
STREAM = Verdict(
    REFUSE, rule="tsc-length", record="X86_TSC_INFO", offset=0x30, text="not 24", layer="libxc"
)
WALK = Verdict(REFUSE, errno="ENODATA", rule="context-end", instance=0, text="no END")
OVER = Verdict(VIOLATION, rule="vmport-slots", record="VMPORT", instance=0, text="beyond")


@pytest.mark.parametrize(
    ("verdict", "text", "shown"),
    [
        (Verdict(ACCEPT), "accept", "<accept>"),
        (
            LOAD,
            "refuse: EINVAL: context: offset 0x20: CPU/0: odd [cpu-cr0]",
            "<refuse, EINVAL [cpu-cr0]>",
        ),
        (
            STREAM,
            "refuse: libxc: offset 0x30: X86_TSC_INFO: not 24 [tsc-length]",
            "<refuse [tsc-length]>",
        ),
        (
            WALK,
            "refuse: ENODATA: context: offset 0x0: no END [context-end]",
            "<refuse, ENODATA [context-end]>",
        ),
        (
            OVER,
            "violation: context: offset 0x0: VMPORT/0: beyond [vmport-slots]",
            "<violation [vmport-slots]>",
        ),
    ],
    ids=lambda value: value.rule if isinstance(value, Verdict) else "",
)
def test_in_words(verdict: Verdict, text: str, shown: str) -> None:
    assert str(verdict) == text
    assert repr(verdict) == shown


def test_parts() -> None:
    assert [v.where for v in (LOAD, STREAM, WALK)] == ["CPU/0", "X86_TSC_INFO", ""]
    assert [v.reason for v in (LOAD, STREAM)] == ["EINVAL: odd", "not 24"]
    assert Verdict(REFUSE, offset=8).moved(0x100).offset == 0x108


@pytest.mark.parametrize("verdict", [LOAD, STREAM, OVER], ids=repr)
def test_refusals_can_be_raised(verdict: Verdict) -> None:
    with pytest.raises(RestoreRefused) as caught:
        verdict.raise_for_refusal()
    assert isinstance(caught.value, HvmctxError)
    assert (caught.value.errno, caught.value.rule) == (verdict.errno, verdict.rule)
    assert str(caught.value) == str(verdict)


def test_what_is_accepted_raises_nothing() -> None:
    Verdict(ACCEPT).raise_for_refusal()
