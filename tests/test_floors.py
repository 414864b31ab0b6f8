"""Imports go down the floors of the design only, and the core needs the standard library
alone."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hvmctx"
FLOORS = {
    1: ("errors", "findings", "abi"),
    2: ("source", "copying", "output", "compression", "context", "stream"),
    3: ("indexing", "image", "memory_map", "live", "restore", "verify", "save"),
    4: ("render", "edit", "export", "fuzz", "diff"),
    5: ("commands", "cli", "__main__", "__init__"),
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
OUTSIDE = {
    "dataclasses_json": ("context/vmport_json.py", "render/models.py"),
    "hypothesis": ("fuzz/strategies.py",),
    "rich": ("render/table.py",),
}
"""What else is imported, and where: everything else is imported by name when it is used."""
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Full names of what a module imports, for type checkers only or not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "hvmctx":
                found.update(f"hvmctx.{alias.name}" for alias in node.names)
            else:
                found.add(node.module)
    return found


def part_of(name: str) -> str:
    return name.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        if name.startswith("hvmctx."):
            part = part_of(name)
            if part in FLOOR_OF:  # else a name of the package itself, such as __version__
                assert FLOOR_OF[part] <= FLOOR_OF[own], f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_standard_library_is_enough(path: Path) -> None:
    where = path.relative_to(PACKAGE).as_posix()
    for name in imports(path):
        top = name.partition(".")[0]
        if top != "hvmctx" and top not in sys.stdlib_module_names:
            assert where in OUTSIDE.get(top, ()), f"{where} imports {top}"


def test_every_room_has_a_floor() -> None:
    rooms = {
        p.name.removesuffix(".py") for p in PACKAGE.iterdir() if p.suffix == ".py" or p.is_dir()
    }
    assert rooms - {"__pycache__", "data"} == set(FLOOR_OF)
