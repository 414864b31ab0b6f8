from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import UsageError
from hvmctx.save.engine import Policy2014
from hvmctx.save.simulated import HotSet, Rates, Script, SimulatedGuest, plan

GIB = 1 << 18
GIGABIT = 125_000_000


def test_a_plan() -> None:
    found = plan(GIB, Rates([HotSet(1000, 20000, 50000)]), GIGABIT)
    assert found.passes[0] == GIB and len(found.passes) == 6
    assert all(one > 50 for one in found.passes[1:])
    assert found.resent == sum(found.passes[1:])
    assert found.downtime == found.passes[-1] * 4096 / GIGABIT
    # each pass is as long as its pages take, and so dirties what that time gives
    seconds = found.passes[1] * 4096 / GIGABIT
    assert found.passes[2] == round(20000 * (1 - math.exp(-50000 * seconds / 20000)))


def test_more_bandwidth_less_downtime() -> None:
    workload = Rates([HotSet(0, 50000, 30000)])
    slow, fast = (plan(GIB, workload, bandwidth) for bandwidth in (GIGABIT, 10 * GIGABIT))
    assert fast.downtime < slow.downtime / 10
    assert plan(GIB, workload, GIGABIT).passes == slow.passes, "the same again"


def test_table() -> None:
    found = plan(51200, Script({1: [(0, 256)], 2: [(0, 1)], 3: [(5, 6)]}), 4096 * 51200)
    assert found.table() == (
        "  pass        pages        MiB    seconds\n"
        "     1        51200      200.0      1.000\n"
        "     2          256        1.0      0.005\n"
        "     3            1        0.0      0.000\n"
        "  last            1        0.0      0.000\n"
        "   sum        51458      201.0      1.005\n"
        "258 pages sent again, 0.000 s of downtime\n"
    )


def test_policy() -> None:
    found = plan(200, Script({1: [(0, 51)], 2: [(0, 50)]}), GIGABIT, Policy2014())
    assert found.passes == [200, 51, 50, 0]


@given(st.integers(1, 500), st.integers(1, 9), st.floats(0, 10), st.floats(0, 500))
def test_rates(pages: int, fetch: int, seconds: float, rate: float) -> None:
    ranges = list(Rates([HotSet(7, pages, rate)]).dirtied(fetch, seconds))
    found = [pfn for start, end in ranges for pfn in range(start, end)]
    assert len(found) == len(set(found)) <= pages
    assert all(7 <= pfn < 7 + pages for pfn in found)
    assert len(found) == round(-pages * math.expm1(-rate * seconds / pages))


def test_pages_beyond_the_guest_are_none_of_its() -> None:
    guest = SimulatedGuest(10, Script({1: [(8, 12), (9, 10)]}))
    bitmap = bytearray(2)
    assert guest.fetch_dirty(bitmap) == 2 and bitmap == b"\0\3"


def test_no_bandwidth() -> None:
    with pytest.raises(UsageError, match="at least one byte a second"):
        plan(10, Script({}), 0)
