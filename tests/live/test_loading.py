"""Loading a context, and what the hypervisor logs of it."""

from __future__ import annotations

import pytest

from hvmctx.live.libraries import XenError
from hvmctx.live.loading import Answer, load_into
from hvmctx.live.xen import Xen
from tests.builders.samples import context_bytes
from tests.builders.standin import StandIn


def test_answers(stand_in: StandIn) -> None:
    with Xen() as xen:
        assert load_into(xen, 7, context_bytes()).errno is None
        answer = load_into(xen, 7, b"")
        assert (answer.errno, answer.log) == ("EINVAL", ["HVM7 restore: no, not this"])
        with pytest.raises(XenError, match="no such domain"):
            load_into(xen, 6, b"")


@pytest.mark.parametrize(
    ("log", "record", "rest"),
    [
        ("", "", []),
        ("(XEN) HVM7 restore: CPU 0\n(XEN) HVM7 restore: LAPIC_REGS 1\n", "LAPIC_REGS/1", []),
        ("(XEN) HVM7 restore: CPU 0\n(XEN) HVM7 restore: bad CR4 0x1\n", "CPU/0",
         ["HVM7 restore: bad CR4 0x1"]),
        ("e: PIC 0\n(XEN) d7: 12 bytes left\n\n", "", ["e: PIC 0", "d7: 12 bytes left"]),
    ],
)  # fmt: skip
def test_logs(log: str, record: str, rest: list[str]) -> None:
    answer = Answer(22, log)
    assert (answer.record, answer.log) == (record, rest)
    assert Answer(9999, "").errno == "9999"
