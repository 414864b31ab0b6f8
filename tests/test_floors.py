"""The house of docs/architecture.md: imports go down the floors, siblings on a floor do not
import each other, nothing goes in a circle, and the core needs the standard library alone."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "hvmctx"
FLOORS = (
    ("errors", "findings", "buffers", "messages", "revision"),
    ("limits", "workers"),
    ("abi", "files"),
    ("context", "stream"),
    ("image",),
    ("restore", "edit", "save", "render", "json_form", "layouts", "live", "volatility"),
    ("verify",),
    ("fuzz", "mend", "scan"),
    ("__init__", "commands"),
    ("parsers",),
    ("cli",),
    ("__main__",),
)
"""From the ground up."""
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
OUTSIDE = {
    "dataclasses_json": {"json_form/models.py"},
    "hypothesis": {"fuzz/strategies.py"},
    "volatility3": {"volatility/xen_save.py"},
    "rich": {"render/progress.py", "render/table.py"},
    "typing_extensions": {
        "render/progress.py",
        "stream/body.py",
    },  # for type checkers, which bring it
}
"""What else is imported, and where: everything else is imported by name when it is used."""
NAMED = re.compile(r"hvmctx(\.\w+)+")


def full_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {full_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> Iterator[str]:
    """Full names of what a module imports: at its top, in a function, for type checkers only,
    or by a name in a string."""
    tree = ast.parse(path.read_text())
    strings = {
        node.value
        for parent in ast.walk(tree)
        if not isinstance(parent, ast.Expr)
        for node in ast.iter_child_nodes(parent)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for text in strings:
        if NAMED.fullmatch(module := text.partition(":")[0]) and module in MODULES:
            yield module
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def room_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


GRAPH = {
    module: sorted({name for name in imports(path) if name.partition(".")[0] == "hvmctx"})
    for module, path in MODULES.items()
}


def test_the_page_shows_the_same_floors() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([^|]*) \|", text, re.MULTILINE)
    shown = {int(number): tuple(re.findall(r"`(\w+)`", rooms)) for number, rooms in rows}
    assert shown == dict(enumerate(FLOORS, 1))


def test_every_room_has_a_floor() -> None:
    there = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES.values()}
    assert there == set(FLOOR_OF)


@pytest.mark.parametrize("module", GRAPH)
def test_imports_go_down(module: str) -> None:
    own = room_of(module)
    for name in GRAPH[module]:
        room = room_of(name)
        assert room == own or FLOOR_OF[room] < FLOOR_OF[own], f"{module} imports {name}"


def test_nothing_goes_in_a_circle() -> None:
    """Within a room too: a module that nothing is left to wait for is done; in the end all
    are."""
    waiting = {module: set(names) & set(GRAPH) for module, names in GRAPH.items()}
    while free := [module for module, names in waiting.items() if not names]:
        for module in free:
            del waiting[module]
        for names in waiting.values():
            names.difference_update(free)
    assert waiting == {}


@pytest.mark.parametrize("module", MODULES)
def test_the_standard_library_is_enough(module: str) -> None:
    where = MODULES[module].relative_to(PACKAGE).as_posix()
    for name in imports(MODULES[module]):
        top = name.partition(".")[0]
        if top != "hvmctx" and top not in sys.stdlib_module_names:
            assert where in OUTSIDE.get(top, ()), f"{where} imports {top}"


TESTS = ROOT / "tests"
TESTED_ELSEWHERE = {
    "__main__.py": "test_module_and_script",
    "volatility/__main__.py": "test_the_folder_is_printed",
}
"""Modules without a test file of their name, as they hold a call only: the test of it."""
OF_NO_MODULE = {
    "commands/test_commands",
    "commands/test_shown",
    "files/test_crashes",
    "fuzz/test_corpora",
    "fuzz/test_engines",
    "restore/test_history",
    "restore/test_hypervisors",
    "test_big",
    "test_browser",
    "test_contributing",
    "test_docs",
    "test_elsewhere",
    "test_floods",
    "test_floors",
    "test_new_record",
    "test_planted",
    "test_security",
    "test_typing",
    "test_wrappers",
    "tools/test_completion",
    "tools/test_console",
    "tools/test_fidelity",
    "tools/test_generate",
    "tools/test_man_pages",
    "tools/test_long_description",
    "tools/test_packages",
    "tools/test_mutants",
    "tools/test_policies",
    "tools/test_site",
    "tools/test_torture",
    "tools/test_vmport_flaws",
}
"""Tests of several rooms together, and of what is outside of them."""


def mirror_of(path: Path) -> str:
    """a/b.py -> a/test_b, a/__init__.py -> a/test_init, __init__.py -> test_hvmctx."""
    where = path.relative_to(PACKAGE)
    if where.parts == ("__init__.py",):
        return "test_hvmctx"
    if where.parts[:2] == ("fuzz", "reference"):
        return "fuzz/test_reference"
    return (where.parent / f"test_{where.stem.strip('_')}").as_posix()


def holds_code(path: Path) -> bool:
    return any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)


def test_tests_mirror_the_rooms() -> None:
    """Each module has a test file of its name, in a folder of its room's name."""
    there = {
        path.relative_to(TESTS).with_suffix("").as_posix() for path in TESTS.rglob("test_*.py")
    }
    mirrors = {mirror_of(path): path for path in MODULES.values()}
    missing = {
        path.relative_to(PACKAGE).as_posix()
        for name, path in mirrors.items()
        if name not in there and holds_code(path)
    }
    assert missing == set(TESTED_ELSEWHERE)
    assert {name for name in there if "stories/" not in name} - set(mirrors) == OF_NO_MODULE
    everything = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    for name in TESTED_ELSEWHERE.values():
        assert f"def {name}(" in everything


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.name)
def test_no_module_takes_from_a_test_module(path: Path) -> None:
    taken = {name for name in imports(path) if re.match(r"tests\.(\w+\.)*test_", name)}
    assert taken == set()
