"""The scan itself: names in, rows out, by processes of our own or on a Dask cluster."""

from __future__ import annotations

import os

from hvmctx.scan.row import Asked, empty_row, row_of, rows
from hvmctx.workers import CAN_START, Pool, answered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hvmctx.scan.cluster import Cluster
    from hvmctx.scan.row import Row

    Workers = Pool | Cluster

__all__ = ["default_jobs", "scan"]

_AT_ONCE = 32
"""Images that a worker is asked about at a time."""
_SHARES = 4
"""Questions for each worker, at least, so that they end at about the same time."""


def default_jobs(count: int) -> int:
    """As many processes as there are processors for this one, and images enough for each."""
    if not CAN_START:
        return 1
    affinity = getattr(os, "sched_getaffinity", None)
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(processors, count // _AT_ONCE))


def scan(
    names: Sequence[str], asked: Asked, *, jobs: int = 1, dask: str | None = None
) -> Iterator[Row]:
    """A row for each input, in no order. One whose worker dies of it, and the next one too, gets
    a row that says so. Raises InputError where workers cannot be had."""
    if dask is None and jobs <= 1:
        for name in names:
            yield row_of(name, asked)
        return
    size = max(1, min(_AT_ONCE, len(names) // (_SHARES * jobs)))
    questions = (names[at : at + size] for at in range(0, len(names), size))
    with _workers(asked, jobs, dask) as workers:
        for name, row, how in answered(workers, questions):
            yield row if row is not None else empty_row(name, f"a worker {how}")


def _workers(asked: Asked, jobs: int, dask: str | None) -> Workers:
    if dask is None:
        return Pool(rows, asked.to_text(), jobs)
    from hvmctx.scan.cluster import Cluster

    return Cluster(dask, rows, asked.to_text())
