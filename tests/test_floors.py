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


TESTS = Path(__file__).parent
TESTED_ELSEWHERE = {"hvmctx/__main__.py": "test_module_and_script"}
"""Modules without a test file of their name, as they hold a call only: the test of it."""
OF_NO_MODULE = {
    "test_big",  # streams of gigabytes, through several modules
    "test_docs",
    "test_floors",
    "test_vmport_flaws",  # tools/vmport_flaws.py
}


def file_name_of(path: Path) -> str:
    """hvmctx/a/b.py -> test_a_b, hvmctx/a/__init__.py -> test_a, hvmctx/__init__.py ->
    test_hvmctx."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    named = [part for part in parts if part != "__init__"]
    return "_".join(["test", *(named or ["hvmctx"])])


def holds_code(path: Path) -> bool:
    return any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)


def test_every_module_has_a_test_file_of_its_name() -> None:
    there = {path.stem for path in TESTS.glob("test_*.py")}
    names = {file_name_of(path): path for path in MODULES}
    missing = {
        path.relative_to(PACKAGE.parent).as_posix()
        for name, path in names.items()
        if name not in there and holds_code(path)
    }
    assert missing == set(TESTED_ELSEWHERE)
    assert there - set(names) == OF_NO_MODULE
    everything = "".join(path.read_text() for path in TESTS.glob("test_*.py"))
    for name in TESTED_ELSEWHERE.values():
        assert f"def {name}(" in everything


@pytest.mark.parametrize("path", sorted(TESTS.glob("*.py")), ids=lambda path: path.name)
def test_no_module_takes_from_a_test_module(path: Path) -> None:
    assert {name for name in imports(path) if name.startswith("tests.test_")} == set()
