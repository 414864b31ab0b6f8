"""What is written into docs/mutants.md, and what is read from there. Making mutants needs mutmut,
which is no part of the suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.samples import ROOT
from tools import mutants

PAGE = (ROOT / "docs" / "mutants.md").read_text(encoding="utf-8")


def test_modules_and_their_tests_are_there() -> None:
    """Of every room, as new modules come by themselves."""
    assert {"mend/repair", "scan/row", "stream/xapi", "files/xva"} <= set(mutants.MODULES)
    assert mutants.BESIDES.keys() <= set(mutants.MODULES)
    besides = [name for names in mutants.BESIDES.values() for name in names]
    for name in (*mutants.MODULES, *besides):
        room, _, module = name.partition("/")
        assert (ROOT / "tests" / room / f"test_{module}.py").is_file(), name


def test_what_is_mutated() -> None:
    named = mutants._named
    assert named(["scan"]) == [name for name in mutants.MODULES if name.startswith("scan/")]
    assert named(["stream/xapi"]) == ["stream/xapi"]
    assert set(named([])) <= set(mutants.MODULES) and "restore/msrs" in named([])
    with pytest.raises(SystemExit, match="or rooms: abi, commands, context"):
        named(["nothing"])


def test_figures_take_the_place_of_those_of_the_last_run() -> None:
    first, second = "restore/rules", "files/source"
    page = mutants.with_figures(PAGE, first, mutants.row(first, 9, 8, 6, 1, 1), ["a -> b"])
    page = mutants.with_figures(page, second, mutants.row(second, 5, 5, 5, 0, 0), ["c -> d"])
    assert f"| `{first}` | 9 | 8 | 6 | 1 | 1 | 85.7% |" in page
    assert {(first, "a -> b"), (second, "c -> d")} <= set(mutants.left_of(page))
    again = mutants.with_figures(page, first, mutants.row(first, 9, 8, 8, 0, 0), [])
    assert f"| `{first}` | 9 | 8 | 8 | 0 | 0 | 100.0% |" in again and "85.7%" not in again
    assert (first, "a -> b") not in mutants.left_of(again)
    assert (second, "c -> d") in mutants.left_of(again)
    assert mutants.accepted_of(again) == mutants.accepted_of(PAGE), "reasons are written by hand"


def test_accepted_mutants_have_a_reason() -> None:
    page = "- `a/b`: `` x -> y ``\n- `a/b`: `` z -> y ``: never called\n"
    assert mutants.accepted_of(page) == {("a/b", "z -> y")}
    assert {module for module, _ in mutants.accepted_of(PAGE)} <= set(mutants.MODULES)


def test_a_change_in_few_words() -> None:
    before = "a = 1\nif one < 5 and b:\n    pass\n"
    made = mutants.Mutant(before, before.replace("<", "<="))
    assert (made.change, made.line) == ("if one < 5 and b: -> if one <= 5 and b:", 2)
    gone = mutants.Mutant(before, before.replace("one < 5 and b", "b"))
    assert gone.change == "if one < 5 and b: -> if b:"
    long = "x" * 500 + " = 1" + "y" * 500
    assert len(mutants.Mutant(long, long.replace("1", "2")).change) < 200


def test_a_copy_is_without_what_is_hidden(tmp_path: Path) -> None:
    copy = mutants.copied(str(tmp_path))
    assert (copy / "tests" / "conftest.py").is_file() and not (copy / ".git").exists()
