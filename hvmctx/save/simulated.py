"""A guest that only dirties pages, by a script or by rates: to try what a live migration
would do, and to plan one.

Everything is deterministic: the same workload gives the same passes. Time is the time that
the pages take to be sent at a given bandwidth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

from hvmctx.abi import streams
from hvmctx.errors import UsageError
from hvmctx.files.sink import Nowhere
from hvmctx.save.engine import PrecopyStats, Saved, default_policy, save
from hvmctx.save.guests import StillGuest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from hvmctx.buffers import Buffer

__all__ = ["HotSet", "Plan", "Rates", "Script", "SimulatedGuest", "Workload", "plan"]


class Workload(Protocol):
    """What a simulated guest writes."""

    def dirtied(self, fetch: int, seconds: float) -> Iterable[tuple[int, int]]:
        """Ranges (first pfn, one after the last) written in the `seconds` before the
        `fetch`th time that is asked, from 1 on."""
        ...


class Script:
    """The n-th fetch finds these ranges dirty, whatever the time."""

    def __init__(self, ranges: dict[int, list[tuple[int, int]]]) -> None:
        self._ranges = ranges

    def dirtied(self, fetch: int, seconds: float) -> Iterable[tuple[int, int]]:
        return self._ranges.get(fetch, ())


@dataclass
class HotSet:
    """`pages` from `start` on, into which the guest writes `rate` times a second, each time
    into any of them."""

    start: int
    pages: int
    rate: float


class Rates:
    """Hot sets, each written at its own rate. Of a set of n pages, w writes leave
    n * (1 - e^(-w/n)) of them dirty; which ones, follows from the number of the fetch."""

    def __init__(self, sets: Iterable[HotSet]) -> None:
        """Raises UsageError for a rate that is not a number, negative or infinite."""
        self._sets = list(sets)
        for hot in self._sets:
            if not 0 <= hot.rate < math.inf:
                raise UsageError(f"a hot set cannot be written {hot.rate} times a second")

    def dirtied(self, fetch: int, seconds: float) -> Iterable[tuple[int, int]]:
        for hot in self._sets:
            count = round(-hot.pages * math.expm1(-hot.rate * seconds / hot.pages))
            if count >= hot.pages:
                yield hot.start, hot.start + hot.pages
                continue
            step = _coprime(hot.pages)
            for number in range(count):
                pfn = hot.start + (number + fetch) * step % hot.pages
                yield pfn, pfn + 1


def _coprime(count: int) -> int:
    """A step that visits all of `count` places before the first again, far apart."""
    step = max(1, int(count * 0.6180339887))
    while math.gcd(step, count) != 1:
        step += 1
    return step


class SimulatedGuest(StillGuest):
    """`pages` blank pages and a workload. `bandwidth` in bytes a second makes the clock;
    without it sending takes no time. `clock` is the time so far, `fetches` when the dirty
    pages were asked for, and how many there were."""

    def __init__(
        self, pages: int, workload: Workload, *, bandwidth: float | None = None, **state: Any
    ) -> None:
        state.setdefault("context", b"\0")
        super().__init__(**state)
        self.p2m_size = pages
        self.clock = 0.0
        self.paused_at: float | None = None
        self.fetches: list[tuple[float, int]] = []
        self._workload = workload
        self._bandwidth = bandwidth
        self._since = 0.0
        self._blank = memoryview(bytes(streams.PAGE_SIZE << 10))

    def page_types(self, pfns: memoryview) -> bytes:
        return bytes(len(pfns))

    def pages(self, pfns: memoryview, types: bytes) -> Iterable[Buffer]:
        size = streams.PAGE_SIZE * len(pfns)
        if self._bandwidth is not None:
            self.clock += size / self._bandwidth
        return (self._blank[:size],)

    def fetch_dirty(self, bitmap: bytearray) -> int:
        seconds, self._since = self.clock - self._since, self.clock
        count = 0
        for start, end in self._workload.dirtied(len(self.fetches) + 1, seconds):
            for pfn in range(start, min(end, self.p2m_size)):
                bit = 1 << (pfn & 7)
                if not bitmap[pfn >> 3] & bit:
                    bitmap[pfn >> 3] |= bit
                    count += 1
        self.fetches.append((self.clock, count))
        return count

    def pause(self) -> bool:
        if self.paused_at is None:
            self.paused_at = self.clock
        return True

    def resume(self) -> None:
        self.paused_at = None


@dataclass
class Plan:
    """What a migration would do: pages of each pass, the last with the guest stopped;
    `seconds` of each; all in all."""

    passes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    guest_pages: int = 0

    @property
    def downtime(self) -> float:
        """Seconds of the pass with the guest stopped."""
        return self.seconds[-1]

    @property
    def resent(self) -> int:
        """Pages sent again."""
        return sum(self.passes) - self.guest_pages

    def table(self) -> str:
        """One line a pass, and a sum."""
        lines = [f"{'pass':>6} {'pages':>12} {'MiB':>10} {'seconds':>10}"]
        for number, (pages, seconds) in enumerate(zip(self.passes, self.seconds), 1):
            name = "last" if number == len(self.passes) else str(number)
            lines.append(f"{name:>6} {pages:>12} {pages / 256:>10.1f} {seconds:>10.3f}")
        total = sum(self.passes)
        lines.append(f"{'sum':>6} {total:>12} {total / 256:>10.1f} {sum(self.seconds):>10.3f}")
        lines.append(f"{self.resent} pages sent again, {self.downtime:.3f} s of downtime")
        return "\n".join(lines) + "\n"


def plan(
    pages: int,
    workload: Workload,
    bandwidth: float,
    policy: Callable[[PrecopyStats], str] = default_policy,
) -> Plan:
    """Migrate a simulated guest at `bandwidth` bytes a second. Raises UsageError."""
    if not 1 <= bandwidth < math.inf:  # so that no time is too long for a float
        raise UsageError("the bandwidth must be at least one byte a second")
    guest = SimulatedGuest(pages, workload, bandwidth=bandwidth)
    saved: Saved = save(guest, Nowhere(), live=True, policy=policy)
    seconds = [count * streams.PAGE_SIZE / bandwidth for count in saved.passes]
    return Plan(saved.passes, seconds, pages)
