from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hvmctx.image.runs import Run, Runs

PAGE = 4096
some = st.builds(
    Run, st.integers(0, 40), st.integers(0, 6), st.sampled_from((0, 9, 14)),
    st.none() | st.integers(0, 9).map(lambda n: n * PAGE),
)  # fmt: skip


@st.composite
def batches(draw: st.DrawFn) -> list[Run]:
    """Runs that follow each other, as a stream has them."""
    runs = []
    pfn, offset = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    for count, gap, kind in draw(
        st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2), st.sampled_from((0, 14))))
    ):
        runs.append(Run(pfn, count, kind, None if kind else offset))
        pfn += count + draw(st.sampled_from((0, 0, 0, 1)))
        offset += count * PAGE + 8 * gap
    return runs


def pages(runs: list[Run]) -> list[tuple[int, int, int | None]]:
    """Page by page."""
    found = []
    for run in runs:
        for pfn in range(run.pfn, run.end):
            one = run.part(pfn, pfn + 1)
            found.append((pfn, one.type, one.offset))
    return found


@given(st.lists(some) | batches())
def test_runs_are_what_was_added(added: list[Run]) -> None:
    runs = Runs(added)
    assert pages(list(runs)) == pages(added)
    assert len(runs) == len(list(runs)) and runs.rows <= len(added)
    assert runs.disjoint() == all(
        one.stop <= other.start for one, other in zip(rows(runs), rows(runs)[1:])
    )
    order = list(runs.by_pfn())
    assert order == sorted(range(runs.rows), key=lambda row: (runs.start(row), row))


def rows(runs: Runs) -> list[range]:
    return [range(runs.start(row), runs.end(row)) for row in range(runs.rows)]


@given(batches(), st.integers(0, 50), st.integers(1, 50))
def test_parts(added: list[Run], start: int, size: int) -> None:
    runs = Runs(added)
    found: list[Run] = []
    joined = Runs()
    for row in range(runs.at_or_after(start), runs.rows):
        first, end = max(start, runs.start(row)), min(start + size, runs.end(row))
        if first < end:
            found += runs.part(row, first, end)
            joined.add_part(runs, row, first, end)
    expected = [page for page in pages(added) if start <= page[0] < start + size]
    assert pages(found) == pages(list(joined)) == expected


def test_what_is_one_row() -> None:
    for added, rows_of, length in (
        ([Run(0, 2, 0, 0), Run(2, 2, 0, 2 * PAGE)], 1, 1),  # merely goes on
        ([Run(0, 2, 14, None), Run(2, 5, 14, None)], 1, 1),
        ([Run(0, 2, 0, 0), Run(2, 2, 0, 9 * PAGE), Run(4, 2, 0, 18 * PAGE)], 1, 3),
        ([Run(0, 2, 0, 0), Run(2, 2, 0, 9 * PAGE), Run(4, 2, 0, 19 * PAGE)], 2, 3),
        ([Run(0, 2, 0, 0), Run(2, 1, 0, 9 * PAGE)], 2, 2),
        ([Run(0, 2, 0, 9 * PAGE), Run(2, 2, 0, 0)], 2, 2),
        ([Run(0, 2, 0, 0), Run(2, 2, 9, 9 * PAGE)], 2, 2),
        ([Run(0, 2, 0, 0), Run(2, 2, 0, None)], 2, 2),
        ([Run(0, 2, 0, 0), Run(3, 2, 0, 9 * PAGE)], 2, 2),
        ([Run(5, 0, 0, 0)], 0, 0),
    ):
        runs = Runs(added)
        assert (runs.rows, len(runs)) == (rows_of, length), added
