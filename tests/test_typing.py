"""The front page as type checkers see it: a user's script under both."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

import hvmctx
from tests.builders.samples import EXAMPLE, ROOT
from tests.typing import front_page

SCRIPT = "tests/typing/front_page.py"
CHECKERS = {
    "mypy": ("--strict", "--no-error-summary", "--cache-dir", ".mypy_cache/typing"),
    "basedpyright": ("--level", "error", "--warnings"),
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_types(checker: str) -> None:
    if find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    done = subprocess.run(
        [sys.executable, "-m", checker, *CHECKERS[checker], SCRIPT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_script_runs() -> None:
    front_page.main(str(EXAMPLE))


def test_every_name_is_in_it() -> None:
    text = (ROOT / SCRIPT).read_text()
    assert [name for name in hvmctx.__all__ if name not in text] == []
