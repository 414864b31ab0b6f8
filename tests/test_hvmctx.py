"""The names that the package gives by itself."""

from __future__ import annotations

import ast
import copy
import doctest
import importlib
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import hvmctx
from hvmctx.image.image import Image
from tests.builders.samples import ROOT


def test_api_names() -> None:
    for name in hvmctx.__all__:
        assert getattr(hvmctx, name) is not None
        assert name in dir(hvmctx)
    assert hvmctx.Image is Image
    with pytest.raises(AttributeError):
        _ = hvmctx.nothing  # type: ignore[attr-defined]


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(hvmctx.__file__).read_text())
    seen = {
        alias.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hvmctx")
        for alias in node.names
        if alias.name == alias.asname
    }
    assert seen == {name: f"hvmctx.{module}" for name, module in hvmctx._WHERE.items()}
    assert sorted(hvmctx.__all__) == hvmctx.__all__ == list(hvmctx._WHERE)


@pytest.mark.parametrize("name", hvmctx.__all__)
def test_every_name_says_what_it_is_with_an_example(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(f"hvmctx.{hvmctx._WHERE[name]}")
    thing = getattr(module, name)
    assert inspect.getdoc(thing)
    if isinstance(thing, type) and issubclass(thing, Exception):
        return
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (test,) = (
        test
        for test in doctest.DocTestFinder(recurse=False).find(thing, name, module=module)
        if test.examples
    )
    test.globs.update({name: getattr(hvmctx, name) for name in hvmctx.__all__})
    result = doctest.DocTestRunner().run(test)
    assert (result.failed, result.attempted > 0) == (0, True)


@pytest.mark.parametrize("first", ["hvmctx", "hvmctx.verify.views", "hvmctx.edit.diff"])
def test_rooms_of_the_name_of_a_function_can_be_called(first: str) -> None:
    """Whatever is imported first."""
    script = (
        f"import inspect, {first}, hvmctx\n"
        "from hvmctx import edit, open_image, verify\n"
        "from hvmctx.verify import views\n"
        "import hvmctx.edit.editor as editor\n"
        "assert hvmctx.verify.views is views and hvmctx.edit.editor is editor\n"
        "assert inspect.signature(verify) == inspect.signature(views.verify)\n"
        "with open_image('examples/hvm1.save') as image:\n"
        "    assert verify('examples/hvm1.save', 'verifier') == []\n"
        "    print(edit(image).get('CPU/0.rip'), hvmctx.edit(image).get('CPU/0.rip'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["47033"] * 2, done.stderr


def test_importing_it_imports_nothing() -> None:
    script = (
        "import sys; before = set(sys.modules); import hvmctx; "
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['__future__', 'hvmctx']"


def test_what_is_a_room_too_can_be_given_to_a_pool_of_processes() -> None:
    for function in (hvmctx.verify, hvmctx.edit):
        assert pickle.loads(pickle.dumps(function)) is copy.copy(function) is function
        assert function.__name__ in (inspect.getdoc(function) or "")  # `help` shows where to look
    assert len(dir(hvmctx)) == len(set(dir(hvmctx)))
