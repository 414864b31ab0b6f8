"""What the scripts that make pages have in common."""

from __future__ import annotations

__all__ = ["table_row"]


def table_row(*columns: object) -> str:
    """A row of a table."""
    return f"| {' | '.join(map(str, columns))} |\n"
