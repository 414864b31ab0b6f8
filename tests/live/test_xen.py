"""The calls of a running Xen, over the stand-in."""

from __future__ import annotations

import errno
from array import array
from pathlib import Path

import pytest

from hvmctx.cli import main
from hvmctx.errors import InputError
from hvmctx.image.image import open_image
from hvmctx.live.libraries import LIBRARY_VARIABLE, XenError
from hvmctx.live.xen import Store, Xen, check_domid, domain_context
from tests.builders.running import Run
from tests.builders.samples import DATA, context_bytes
from tests.builders.standin import HVM, P2M, PAGES, PAUSED, SHUTDOWN, SPECIAL, StandIn


@pytest.fixture(params=["new", "old"])
def either(
    request: pytest.FixtureRequest, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> StandIn:
    """The stand-in with today's signatures and with old ones."""
    if request.param == "old":
        monkeypatch.setenv(LIBRARY_VARIABLE, str(request.getfixturevalue("old_libraries")))
        stand_in.state.version = 4 << 16 | 6
    return stand_in


def test_a_domain(either: StandIn) -> None:
    with Xen() as xen:
        state = xen.state(7)
        assert (state.hvm, state.hap, state.paused, state.reason) == (True, True, False, None)
        assert (state.vcpus, state.max_vcpus, state.stopped) == (2, 2, False)
        xen.pause(7)
        assert xen.state(7).stopped
        xen.unpause(7)
        xen.suspend(7)
        assert xen.state(7).reason == 2 and xen.state(7).stopped
        xen.resume(7)
        assert xen.state(7).reason is None
        assert xen.p2m_size(7) == P2M
        pfns = memoryview(array("Q", (0, PAGES - 1, PAGES, SPECIAL)))
        assert xen.page_types(7, pfns) == bytes((0, 0, 15, 0))
        assert xen.param(7, 1) == SPECIAL
        assert xen.tsc_info(7).khz == 2596128
        assert xen.context(7) == context_bytes()
        assert xen.load_context(7, context_bytes()) == 0
        assert xen.load_context(7, b"") == errno.EINVAL
        assert "no, not this" in xen.console() and xen.console() == ""


def test_memory(either: StandIn) -> None:
    either.state.unmappable = 3
    with Xen() as xen:
        mapping = xen.map_pages(7, [1, 2, 3, SPECIAL, PAGES])
        assert [bool(number) for number in mapping.errors] == [False, False, True, False, True]
        wanted = either.memory(1) + either.memory(2) + either.memory(SPECIAL)
        assert b"".join(mapping.copy()) == wanted
        mapping.close()
        mapping.close()
        none = xen.map_pages(7, [3, PAGES])
        assert all(none.errors) and not list(none.copy())
        none.close()


def test_dirty_pages(either: StandIn) -> None:
    with Xen() as xen:
        xen.log_dirty(7, True)
        xen.log_dirty(7, True)  # as if for a screen: off, and on again
        either.state.writes = 1
        xen.map_pages(7, [0]).close()
        bitmap = bytearray(P2M // 8)
        assert xen.fetch_dirty(7, bitmap, P2M) == 8
        assert bitmap == b"\xff" + bytes(P2M // 8 - 1)
        assert xen.fetch_dirty(7, bitmap, P2M) == 0 and not any(bitmap)
        xen.log_dirty(7, False)
        with pytest.raises(XenError, match="fetch its dirty pages: EINVAL"):
            xen.fetch_dirty(7, bitmap, P2M)


def test_policies(stand_in: StandIn, old_libraries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Xen() as xen:
        leaves, msrs = xen.domain_policy(7)
        assert (len(leaves), len(msrs)) == (48, 16)
        assert xen.system_policy(0) == (leaves, msrs)
        assert stand_in.state.released == 2
    monkeypatch.setenv(LIBRARY_VARIABLE, str(old_libraries))
    with Xen() as xen:
        assert xen.domain_policy(7) == (b"", b"")  # 4.6 has none
        xen.libraries.version = (4, 13)
        assert xen.domain_policy(7) == (leaves, msrs)


def test_a_domain_that_is_not_there(stand_in: StandIn) -> None:
    with Xen() as xen:
        for call in (xen.state, xen.pause, xen.context, xen.p2m_size, xen.tsc_info):
            with pytest.raises(XenError, match=r"domain 6: .*no such domain") as caught:
                call(6)
            assert caught.value.reason == "gone"
    with pytest.raises(XenError, match="no domain has an id above"):
        check_domid(0x7FF0)


def test_xenstore(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.state.answers = 0
    path = "/local/domain/7/control/shutdown"
    with Xen() as xen:
        store = Store(xen.libraries)
        assert store.read("/no/such") is None and store.names("/no/such") == []
        store.write(path, b"suspend")
        assert store.read(path) == b"suspend"
        assert store.replace(path, b"suspend", b"") and not store.replace(path, b"suspend", b"")
        assert store.read(path) == b""
        store.close()
        monkeypatch.setenv("STAND_IN_FAIL", f"xs_open:{errno.ECONNREFUSED}")
        with pytest.raises(XenError, match="open xenstore: ECONNREFUSED"):
            Store(xen.libraries)


def test_libraries_of_another_xen(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_FAIL", f"xc_domain_getinfolist:{errno.EACCES}")
    with Xen() as xen, pytest.raises(XenError, match="not those of the Xen that runs") as caught:
        xen.state(7)
    assert caught.value.reason == "version"


def test_flags_of_a_domain(stand_in: StandIn) -> None:
    stand_in.state.flags = HVM | SHUTDOWN | PAUSED | 1
    stand_in.state.reason = 3
    with Xen() as xen:
        state = xen.state(7)
    assert (state.dying, state.hap, state.paused, state.reason) == (True, False, True, 3)


def test_dump(stand_in: StandIn, run: Run) -> None:
    done = run("7", "--release", "4.17")
    ours = done.out.splitlines()
    theirs = (DATA / "images" / "hvm1.hvmctx.txt").read_text().splitlines()
    assert ours[0] == "HVM save record for domain 7"
    clocks = ("            tsc 0x", "    ACPI PM: TMR_VAL 0x")  # text and bytes were taken in turn
    differ = [(mine, other) for mine, other in zip(ours, theirs) if mine != other]
    assert all(mine.startswith(clocks) for mine, _ in differ[1:]) and len(ours) == len(theirs)


def test_extract_and_json(stand_in: StandIn, tmp_path: Path) -> None:
    assert main(["extract", "7", "-o", str(tmp_path / "context")]) == 0
    assert (tmp_path / "context").read_bytes() == context_bytes()
    assert main(["to-json", "7", "-o", str(tmp_path / "json")]) == 0
    assert main(["from-json", str(tmp_path / "json"), "-o", str(tmp_path / "again")]) == 0
    with open_image(tmp_path / "again") as image:
        assert image.context.to_bytes() == context_bytes()


@pytest.mark.parametrize(
    ("domid", "variable", "reason"),
    [
        (8, "", "domain 8: get the length of its context: there is no such domain"),
        (7, f"xc_interface_open:{errno.EACCES}", "Permission denied; this needs root in dom0"),
        (7, f"xc_domain_hvm_getcontext:{errno.ENOSPC}", "get the length of its context: ENOSPC"),
        (0x7FF0, "", "no domain has an id above"),
    ],
)
def test_no_context(
    domid: int, variable: str, reason: str, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FAIL", variable)
    with pytest.raises(InputError, match=reason):
        domain_context(domid)


def test_a_context_that_is_too_large(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_HUGE", "1")
    with pytest.raises(InputError, match="has a context of 2147483647 bytes, which is too large"):
        domain_context(7)


def test_library_is_missing(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, "/no/such/libxenctrl.so")
    done = run("7")
    assert done.status == 1 and done.err.count("\n") == 1
    assert "needs Xen's libxenctrl, which cannot be loaded" in done.err
