"""The model against the hypervisor, over the stand-in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvmctx.abi.releases import Release
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import InputError, UsageError
from hvmctx.fuzz.differential import Disagreement
from hvmctx.fuzz.hypervisor import Comparison, Hypervisor, Journal, _release_of
from hvmctx.live.libraries import XenError
from hvmctx.live.loading import Answer
from hvmctx.live.xen import Xen
from hvmctx.restore.guest import DEVICES, PVH_DEVICES
from tests.builders.contexts import Change, put
from tests.builders.samples import context_bytes
from tests.builders.standin import HVM, PAGES, PAUSED, StandIn


@pytest.fixture
def hypervisor(stand_in: StandIn) -> Iterator[Hypervisor]:
    stand_in.state.flags |= PAUSED
    stand_in.state.type = b"hvm"
    with Xen() as xen:
        yield Hypervisor(xen, 7)


def test_what_is_loaded_into(hypervisor: Hypervisor, stand_in: StandIn) -> None:
    guest, machine = hypervisor.guest, hypervisor.machine
    assert (guest.vcpus, guest.devices, guest.hap, guest.nested) == (2, DEVICES, True, False)
    assert guest.vendor == machine.vendor == "amd" and not guest.viridian
    assert hypervisor.release == Release("4.17.7")
    assert guest.has_page is not None
    assert guest.has_page(0) and guest.has_page(0) and not guest.has_page(PAGES)
    assert not guest.has_page(1 << 60)
    stand_in.state.type = b"pvh"
    with Xen() as xen:
        assert Hypervisor(xen, 7).guest.devices == PVH_DEVICES


def test_who_is_no_use(stand_in: StandIn) -> None:
    with Xen() as xen:
        with pytest.raises(UsageError, match="domain 7 runs; pause it"):
            Hypervisor(xen, 7)
        stand_in.state.flags = PAUSED
        with pytest.raises(UsageError, match="is a PV guest"):
            Hypervisor(xen, 7)
        with pytest.raises(XenError, match="no such domain"):
            Hypervisor(xen, 6)


def test_answers(hypervisor: Hypervisor, stand_in: StandIn) -> None:
    taken = hypervisor.answer(context_bytes())
    assert (taken.errno, taken.log, taken.record) == (None, [], "CPU/0")
    refused = hypervisor.answer(b"")
    assert (refused.errno, refused.record) == ("EINVAL", "")
    assert refused.log == ["HVM7 restore: no, not this"]
    stand_in.state.flags = HVM
    hypervisor.domid = 8
    with pytest.raises(XenError, match="no such domain"):
        hypervisor.answer(b"")


def test_releases() -> None:
    assert _release_of("4.20.5-pre", "4.20") == Release("4.20.5")
    assert _release_of("4.17.7", "4.17") == Release("4.17.7")
    assert _release_of("", "4.17") == Release("4.17")
    assert _release_of("9.99", "9.99") == Release("newest")


def test_comparison(hypervisor: Hypervisor, tmp_path: Path) -> None:
    """The stand-in takes what begins with a header. Each kind is minimised once."""
    place = tmp_path / "journal"
    journal = Journal(str(place))
    found: list[Disagreement] = []
    comparison = Comparison(hypervisor, journal, found.append)
    whole = context_bytes()
    cut = whole[:-8]  # the model misses its end
    comparison.run(enumerate([whole, cut, cut + b"\0", whole]))
    journal.close(done=True)
    assert (comparison.tried, comparison.taken, comparison.passed) == (4, 4, 0)
    assert comparison.kinds == {("ENODATA [context-end]", "accept"): 2} and comparison.rate > 0
    assert len(found) == 1
    assert len(found[0].data) < 100 and "hypervisor: accept, at CPU/0" in found[0].report
    assert not list(place.iterdir())


def test_what_would_kill_it(
    hypervisor: Hypervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hvmctx.restore.verdict import VIOLATION, Verdict

    monkeypatch.setattr(hypervisor, "model", lambda data: Verdict(VIOLATION, rule="deadly"))
    comparison = Comparison(hypervisor, Journal(str(tmp_path)), print)
    comparison.run([(0, context_bytes())])
    assert (comparison.tried, comparison.passed) == (0, 1)
    found: list[Disagreement] = []
    comparison = Comparison(hypervisor, Journal(str(tmp_path)), found.append, dangerous=True)
    comparison.run([(0, context_bytes())])
    assert comparison.kinds == {("violation [deadly]", "accept"): 1}


@pytest.mark.parametrize(
    ("release", "change", "passed"),
    [("4.18", put("PIC/0.is_master", 0), 1), ("4.18", put("PIC/0.elcr", 3), 0),
     ("4.19", put("PIC/0.is_master", 0), 0), ("4.18", put("PIT/0.channels[0].gate", 0), 0)],
)  # fmt: skip
def test_hazards_of_a_load_are_not_tried(
    hypervisor: Hypervisor, tmp_path: Path, release: str, change: Change, passed: int
) -> None:
    """What is loaded up to 4.18 and then writes where it should not; not what harms the guest
    alone, which never runs, nor what is refused."""
    context = HvmContext.from_bytes(context_bytes())
    change(context)
    hypervisor.release = Release(release)
    comparison = Comparison(hypervisor, Journal(str(tmp_path / "journal")), lambda found: None)
    comparison.run([(0, context.to_bytes())])
    assert (comparison.tried, comparison.passed) == (1 - passed, passed)
    comparison = Comparison(
        hypervisor, Journal(str(tmp_path / "again")), lambda found: None, dangerous=True
    )
    comparison.run([(0, context.to_bytes())])
    assert (comparison.tried, comparison.passed) == (1, 0)


def test_another_record(hypervisor: Hypervisor, tmp_path: Path) -> None:
    """Both refuse, but not the same record."""
    from hvmctx.fuzz.hypervisor import _differ
    from hvmctx.restore.verdict import REFUSE, Verdict

    log = "(XEN) HVM7 restore: CPU 1\n(XEN) HVM7 restore: no\n"
    ours = Verdict(REFUSE, errno="EINVAL", rule="cpu-cr0", record="CPU", instance=1)
    assert _differ(ours, Answer(22, log)) is None
    ours.instance = 0
    assert _differ(ours, Answer(22, log)) == (
        "EINVAL [cpu-cr0] at CPU", "EINVAL at another record"
    )  # fmt: skip
    assert _differ(ours, Answer(22, "")) is None
    ours.rule = "context-bounds"
    assert _differ(ours, Answer(22, log)) is None


def test_journal(tmp_path: Path) -> None:
    place = str(tmp_path / "new")
    journal = Journal(place)
    assert journal.last() is None and not journal.left
    journal.note(1, b"a longer one")
    journal.note(2, b"short")
    assert Journal(place).last() == (2, b"short")
    journal.close(done=False)
    assert Journal(place).left
    path = Path(place) / "trying"
    data = path.read_bytes()
    for other in (data[:10], b"x" + data[1:], data[:-12], data[:30] + b"x" + data[31:]):
        path.write_bytes(other)
        assert Journal(place).last() is None or other[:30] == data[:30]
    path.write_bytes(data[:24] + b"S" + data[25:])
    assert Journal(place).last() is None
    last = Journal(place)
    last.note(3, b"")
    last.close(done=True)
    assert not os.path.exists(path)


def test_no_place_for_a_journal(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError):
        Journal(str(tmp_path / "file"))
    journal = Journal(str(tmp_path))
    (tmp_path / "trying").symlink_to(tmp_path / "file")
    with pytest.raises(InputError, match="trying: Too many levels"):
        journal.note(1, b"")
