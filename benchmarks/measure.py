"""Ratios against a peer in the same run: alternate the two, compare their best times."""

from __future__ import annotations

import os
import subprocess
import sys
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
    """Run a command, its output dropped. What Python compiles it keeps, whatever the environment
    says: else each start would compile all modules anew."""
    kept = dict(os.environ if environment is None else environment)
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return lambda: subprocess.run(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, env=kept
    )


def peak(arguments: list[str]) -> float:
    """MiB of resident memory at the most."""
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1024


def genuine_verifier(stream: str) -> tuple[list[str], dict[str, str]] | None:
    """The command of Xen's own verify-stream-v2 and its environment, None without it."""
    root = os.path.join(os.environ.get("ORACLE_ROOT", "/nonexistent"), "root")
    script = os.path.join(root, "usr/lib/xen-4.17/bin/verify-stream-v2")
    if not os.path.exists(script):
        return None
    environment = dict(os.environ, PYTHONPATH=os.path.join(root, "usr/lib/xen-4.17/lib/python"))
    return ["/usr/bin/python3", script, "-i", stream, "-f", "libxc"], environment
