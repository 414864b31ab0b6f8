"""Ratios against a peer in the same run: alternate the two, compare their best times."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence


def best_of(work: Callable[[], object], runs: int, *, loops: int = 1) -> float:
    """Seconds of one call, of the fastest of `runs` rounds of `loops` calls."""
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        for _ in range(loops):
            work()
        best = min(best, (time.perf_counter() - start) / loops)
    return best


def alternating(
    one: Callable[[], object], other: Callable[[], object], runs: int
) -> tuple[float, float]:
    """The best times of two pieces of work, taken in turns, so that both see the same
    machine."""
    best = [float("inf"), float("inf")]
    for _ in range(runs):
        for at, work in enumerate((one, other)):
            start = time.perf_counter()
            work()
            best[at] = min(best[at], time.perf_counter() - start)
    return best[0], best[1]


def command(
    arguments: Sequence[str], environment: dict[str, str] | None = None
) -> Callable[[], object]:
    """Run a command, its output dropped."""
    return lambda: subprocess.run(
        arguments,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        env=environment,
    )
