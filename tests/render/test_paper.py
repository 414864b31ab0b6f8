"""What fits on a page."""

from __future__ import annotations

from hvmctx.render.paper import MOST_ROWS, Paper, cut


def test_rows_of_a_table() -> None:
    rows = Paper().rows((n,) for n in range(MOST_ROWS + 5))
    assert len(rows) == MOST_ROWS and rows.left == 5
    assert Paper().rows(()).left == 0


def test_characters_of_a_page() -> None:
    """Of any number of tables together, however long their cells are."""
    paper, shown, left = Paper(), 0, 0
    for _ in range(20):
        rows = paper.rows(("x" * 10_000, None, "y" * 10_000) for _ in range(MOST_ROWS))
        shown, left = shown + sum(len(str(row)) for row in rows), left + rows.left
    assert paper.is_full and shown < 4_000_000 and left > 0
    assert paper.rows([("z",)]) == [] and paper.rows([("z",)]).left == 1


def test_cells() -> None:
    assert cut("x" * 600) == "x" * 600
    assert cut("x" * 601) == "x" * 600 + "... (601 characters)"
