"""The process that undoes what a killed save did."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hvmctx.live.domain import LOGGING, PAUSED
from hvmctx.live.keeper import Keeper
from tests.builders.running import ROOT
from tests.builders.standin import HAP, HVM, SHUTDOWN, StandIn
from tests.builders.standin import PAUSED as IS_PAUSED

KILLED = """
import os
from hvmctx.live.keeper import Keeper
from hvmctx.live.xen import Xen
keeper = Keeper(7)
with Xen() as xen:
    for step in ("suspending", "logging", "paused"):
        keeper.tell(step, True)
    xen.log_dirty(7, True)
    xen.pause(7)
    {more}
    os.kill(os.getpid(), 9)
"""


def killed(more: str = "pass") -> None:
    """A process that is killed in the middle of a save; until its keeper has ended, too."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(more=more)], cwd=ROOT, check=False,
        stderr=subprocess.PIPE,  # the keeper's too, were it to say anything
    )  # fmt: skip
    assert done.returncode == -9 and not done.stderr


def test_killed(stand_in: StandIn) -> None:
    killed()
    wait_until(stand_in, HVM | HAP)
    assert not stand_in.state.logging


def test_what_was_undone_is_left_alone(stand_in: StandIn) -> None:
    killed("keeper.tell('paused', False)")
    wait_until(stand_in, HVM | HAP | IS_PAUSED)
    assert stand_in.state.flags & IS_PAUSED


def wait_until(made: StandIn, flags: int) -> None:
    import time

    for _ in range(500):
        if made.state.flags == flags and not made.state.logging:
            return
        time.sleep(0.02)
    raise AssertionError(made.state.flags)


def test_ended_in_order(stand_in: StandIn) -> None:
    keeper = Keeper(7)
    keeper.tell(LOGGING, True)
    keeper.tell(LOGGING, False)
    keeper.close()
    assert stand_in.state.flags == HVM | HAP


def test_what_is_left_at_the_end(stand_in: StandIn) -> None:
    stand_in.state.flags |= IS_PAUSED
    keeper = Keeper(7)
    keeper.tell(PAUSED, True)
    keeper.close()
    assert stand_in.state.flags == HVM | HAP


ASKED = """
import os
from hvmctx.live import domain
from hvmctx.live.keeper import Keeper
from hvmctx.live.xen import Xen
keeper = Keeper(7)
class Killed(domain.DomainSource):
    def _wait(self, *_):
        os.kill(os.getpid(), 9)
with Xen() as xen:
    Killed(xen, 7, done=keeper.tell).pause()
"""


@pytest.mark.parametrize("late", [False, True])
def test_killed_when_the_guest_has_been_asked(stand_in: StandIn, late: bool) -> None:
    """It suspends although nobody waits for it any more, at once or some moments later."""
    stand_in.state.answers = 2 if late else 1
    done = subprocess.run([sys.executable, "-c", ASKED], cwd=ROOT, check=False)
    assert done.returncode == -9
    if late:
        assert stand_in.state.flags == HVM | HAP and stand_in.state.control == b""
        stand_in.state.reason = 2
        stand_in.state.flags |= SHUTDOWN
    wait_until(stand_in, HVM | HAP)
    assert stand_in.state.resumed == 1
