"""A domain as the source of a save, over the stand-in."""

from __future__ import annotations

import errno
import io
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvmctx.errors import UsageError
from hvmctx.files.sink import Sink
from hvmctx.image.image import open_image
from hvmctx.live import qmp
from hvmctx.live.domain import DEFERRED, PAUSE, DomainSource, NotSuspended, configuration
from hvmctx.live.libraries import LIBRARY_VARIABLE, XenError
from hvmctx.live.xen import Xen
from hvmctx.save import engine
from tests.builders.samples import context_bytes
from tests.builders.standin import HAP, HVM, PAGES, PAUSED, SHUTDOWN, SPECIAL, FakeQemu, StandIn


@pytest.fixture
def xen(stand_in: StandIn) -> Iterator[Xen]:
    with Xen() as opened:
        yield opened


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeQemu]:
    monkeypatch.setattr(qmp, "_PLACES", (str(tmp_path),))
    made = FakeQemu(tmp_path / "qmp-libxl-7")
    made.start()
    yield made
    made.close()


def saved(source: DomainSource, **options: object) -> bytes:
    out = io.BytesIO()
    engine.save(source, Sink(out), **options)  # type: ignore[arg-type]
    return out.getvalue()


def assert_memory(stream: bytes, made: StandIn) -> None:
    """The stream has the guest's memory as it now is."""
    with open_image(stream) as image:
        for pfn in range(PAGES):
            assert image.memory.read(pfn << 12, 4096) == made.memory(pfn), pfn
        assert image.context_bytes() == context_bytes()
        assert dict(image.params) == {1: SPECIAL, 17: SPECIAL + 1}


def test_deferred_is_that_of_the_engine() -> None:
    assert DEFERRED == engine.DEFERRED


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_a_save(
    stand_in: StandIn, live: bool, old: bool, old_libraries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if old:
        monkeypatch.setenv(LIBRARY_VARIABLE, str(old_libraries))
        stand_in.state.version = 4 << 16 | 6
    stand_in.state.writes = 1
    with Xen() as xen:
        source = DomainSource(xen, 7)
        stream = saved(source, live=live)
        assert stand_in.state.flags & SHUTDOWN and not stand_in.state.logging
        assert_memory(stream, stand_in)
        source.close()
    assert stand_in.state.flags == HVM | HAP and stand_in.state.resumed == 1


def test_it_stays_paused_where_that_is_wanted(xen: Xen, stand_in: StandIn) -> None:
    source = DomainSource(xen, 7)
    source.pause()
    source.close(leave_paused=True)
    assert stand_in.state.flags == HVM | HAP | PAUSED  # and no longer suspended
    assert stand_in.state.resumed == 1


@pytest.mark.parametrize("flags", [PAUSED, SHUTDOWN])
def test_what_stood_still_before_does_so_afterwards(
    xen: Xen, stand_in: StandIn, flags: int
) -> None:
    stand_in.state.flags |= flags
    source = DomainSource(xen, 7)
    assert_memory(saved(source, live=True), stand_in)
    source.close()
    assert stand_in.state.flags == HVM | HAP | flags and not stand_in.state.resumed


def test_pause_does_not_ask(xen: Xen, stand_in: StandIn) -> None:
    stand_in.state.answers = 0
    source = DomainSource(xen, 7, stop=PAUSE)
    source.pause()
    assert stand_in.state.flags == HVM | HAP | PAUSED
    source.resume()
    assert stand_in.state.flags == HVM | HAP
    source.pause()
    source.close()
    source.close()
    assert stand_in.state.flags == HVM | HAP


@pytest.mark.parametrize("answers", [0, 2])  # none at all; it takes notice, and does not stop
def test_it_does_not_suspend(xen: Xen, stand_in: StandIn, answers: int) -> None:
    stand_in.state.answers = answers
    source = DomainSource(xen, 7, timeout=0.05)
    with pytest.raises(NotSuspended, match="was asked to suspend and has not"):
        source.pause()
    assert stand_in.state.control == b"" and stand_in.state.flags == HVM | HAP
    source.close()
    assert stand_in.state.flags == HVM | HAP
    source = DomainSource(xen, 7, timeout=0.05, otherwise=PAUSE)
    source.pause()
    assert stand_in.state.flags == HVM | HAP | PAUSED
    source.close()
    assert stand_in.state.flags == HVM | HAP


def test_it_crashes_instead(xen: Xen, stand_in: StandIn) -> None:
    stand_in.state.answers = 3
    source = DomainSource(xen, 7)
    with pytest.raises(XenError, match="has shut down while it was asked to suspend"):
        source.pause()
    source.close()


def test_a_guest_without_drivers_is_not_asked(xen: Xen, stand_in: StandIn) -> None:
    stand_in.state.type, stand_in.state.answers = b"hvm", 0
    source = DomainSource(xen, 7)
    source.pause()
    assert stand_in.state.reason == 2
    source.close()
    stand_in.state.callback = 1
    with pytest.raises(NotSuspended):
        DomainSource(xen, 7, timeout=0).pause()


def test_its_device_model(xen: Xen, stand_in: StandIn, qemu: FakeQemu) -> None:
    source = DomainSource(xen, 7, live=True)
    path = Path(source.device_model_file or "")
    source.log_dirty(True)
    assert stand_in.state.logging and qemu.logging
    source.pause()
    assert not qemu.running and path.read_bytes() == qemu.state
    source.resume()
    assert qemu.running
    source.pause()  # the next checkpoint
    source.close()
    assert qemu.running and not qemu.logging and not stand_in.state.logging
    assert not path.parent.exists()


def test_a_device_model_that_stood_still(xen: Xen, stand_in: StandIn, qemu: FakeQemu) -> None:
    qemu.running = False
    source = DomainSource(xen, 7)
    source.pause()
    source.close()
    assert not qemu.running and "cont" not in qemu.heard


def test_a_device_model_that_fails(xen: Xen, stand_in: StandIn, qemu: FakeQemu) -> None:
    qemu.refuses = "xen-save-devices-state"
    source = DomainSource(xen, 7)
    with pytest.raises(XenError, match="not today"):
        saved(source, live=True)
    source.close()
    assert qemu.running and not qemu.logging
    assert stand_in.state.flags == HVM | HAP and not stand_in.state.logging


def test_pages_that_cannot_be_mapped(xen: Xen, stand_in: StandIn) -> None:
    """While it runs they are sent again later; once it has stopped that is an error."""
    stand_in.state.unmappable = 5
    source = DomainSource(xen, 7)
    pfns = memoryview(array("Q", range(4, 8)))
    types = source.page_types(pfns)
    assert types == bytes((0, DEFERRED, 0, 0))
    assert b"".join(source.pages(pfns, types)) == b"".join(map(stand_in.memory, (4, 6, 7)))
    with pytest.raises(XenError, match="cannot map 1 pages, such as 0x5"):
        saved(source, live=True)
    source.close()
    assert stand_in.state.flags == HVM | HAP


@pytest.mark.parametrize(
    "function",
    ["xc_get_pfn_type_batch", "xc_domain_hvm_getcontext", "xc_domain_get_tsc_info",
     "xc_logdirty_control", "xc_shadow_control", "xc_hvm_param_get", "xenforeignmemory_map"],
)  # fmt: skip
def test_a_call_that_fails(
    xen: Xen, stand_in: StandIn, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = DomainSource(xen, 7)
    monkeypatch.setenv("STAND_IN_FAIL", f"{function}:{errno.ENOMEM}")
    with pytest.raises(XenError, match=r"domain 7: .*(ENOMEM|Cannot allocate)"):
        saved(source, live=True)
    monkeypatch.delenv("STAND_IN_FAIL")
    source.close()
    assert stand_in.state.flags == HVM | HAP and not stand_in.state.logging


def test_who_cannot_be_saved(xen: Xen, stand_in: StandIn) -> None:
    stand_in.state.flags = 0
    with pytest.raises(UsageError, match="domain 7 is a PV guest"):
        DomainSource(xen, 7)
    stand_in.state.flags = HVM | 1
    with pytest.raises(XenError, match="is being destroyed"):
        DomainSource(xen, 7)
    with pytest.raises(XenError, match="no such domain"):
        DomainSource(xen, 6)


def test_keys_of_xenstore(xen: Xen, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    source = DomainSource(xen, 7)
    assert source.xenstore() == []
    monkeypatch.setenv("STAND_IN_PHYSMAP", "1")
    assert source.xenstore() == [
        (b"physmap/f000/start_addr", b"start_addr"), (b"physmap/f000/size", b"size"),
        (b"physmap/f000/name", b"name"),
    ]  # fmt: skip
    source.close()


LISTING = """[
    {
        "domid": 1,
        "config": {
            "c_info": {
                "type": "pvh",
                "domid": 4294967295,
                "name": "{"
            },
            "disks": [

            ]
        }
    }
]
"""


def test_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "xl"
    (tmp_path / "listing").write_text(LISTING)
    program.write_text(f'#!/bin/sh\n[ "$*" = "list -l 7" ] && exec cat {tmp_path}/listing\n')
    program.write_text(program.read_text() + "echo no such domain >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f".:{tmp_path}:/usr/bin:/bin")
    text = b'{\n    "c_info": {\n        "type": "pvh",\n        "name": "{"\n    },\n'
    assert configuration(7) == text + b'    "disks": [\n\n    ]\n}\n'
    with pytest.raises(XenError, match="xl list -l 8: no such domain"):
        configuration(8)
    for other in ("", "[\n]\n", LISTING[:120], '        "config": {\n'):
        (tmp_path / "listing").write_text(other)
        with pytest.raises(XenError, match="not the list that was expected"):
            configuration(7)
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(XenError, match="not in the PATH"):
        configuration(7)
