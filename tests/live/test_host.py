"""What this machine offers, asked of the stand-in."""

from __future__ import annotations

import errno

import pytest

from hvmctx.live import xen as module
from hvmctx.live.host import facts
from hvmctx.live.libraries import XenError
from hvmctx.live.xen import Xen
from hvmctx.restore import host as document
from tests.builders.standin import StandIn


def test_the_names_of_policies() -> None:
    assert module.POLICIES == document.POLICIES


def test_facts(stand_in: StandIn) -> None:
    with Xen() as xen:
        found = facts(xen)
    assert list(found["policies"]) == list(module.POLICIES)
    assert (found["hvm"], found["hap"], found["khz"], found["cpus"]) == (True, True, 2596128, 2)
    assert found["xen"]["version"] == "4.17.7"
    assert found["xen"]["command_line"] == "console=com1 dom0_mem=1536M"
    assert (found["xen"]["compiler"], found["xen"]["build_id"]) == ("", "abcdef")
    host = document.Host.from_bytes(**found)
    assert host.vendor == "amd" and host.as_dict()["cpu"]["physical_address_bits"] == 40  # type: ignore[index, call-overload]


def test_an_old_xen(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no policies, and does not tell of HAP."""
    stand_in.state.version = 4 << 16 | 8
    with Xen() as xen:
        found = facts(xen)
    assert found["policies"] == {} and found["hap"] is None


def test_no_privilege(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_FAIL", f"xc_cpu_policy_get_system:{errno.EPERM}")
    with Xen() as xen, pytest.raises(XenError, match="needs root in dom0"):
        facts(xen)
