"""The way of a virtual address through the page tables, a line for each: `hvmctx x -v`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvmctx.image.paging import Paging, Walk

__all__ = ["walk_lines"]

_UNITS = ((30, "GiB"), (20, "MiB"), (10, "KiB"))


def walk_lines(walk: Walk, paging: Paging) -> Iterator[str]:
    """The address, each entry with its flags by name, and the page; where there is none, the
    last entry is the one that says so."""
    tables = f", tables from {paging.root:#x}" if walk.steps else ""
    yield f"{walk.address:#x}: {paging.mode} paging{tables}"
    for step in walk.steps:
        place = f"{step.table:#x}[{step.index}] at {step.entry_gpa:#x}"
        yield f"  {step.level:<4}  {place:<34}  {step.entry:#018x}  {' '.join(step.flags)}".rstrip()
    if walk.error is None:
        size = next(
            f"{walk.page_size >> bits} {unit}" for bits, unit in _UNITS if walk.page_size >> bits
        )
        yield f"  page of {size}, gpa {walk.gpa:#x}"
