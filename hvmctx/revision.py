"""Which version and commit of hvmctx this is, for `--version`."""

from __future__ import annotations

import os

__all__ = ["HOME", "__version__", "revision"]

__version__ = "0.1.0"
HOME = "https://github.com/hvmctx/hvmctx"
"""The repository, as pyproject.toml has it."""

_LENGTHS = (40, 64)
"""Digits of a commit's SHA-1 or SHA-256."""
_SHOWN = 12


def revision(root: str = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))) -> str:
    """The commit that the checkout in the folder `root` is at, abbreviated; empty if that is no
    checkout, as where hvmctx is installed, or if git keeps it in a form unknown here. Git itself
    is not asked: a machine may have none."""
    try:
        return _commit(_git_folder(os.path.join(root, ".git")))[:_SHOWN]
    except (OSError, ValueError):
        return ""


def _read(*path: str) -> str:
    with open(os.path.join(*path), encoding="ascii") as file:
        return file.read().rstrip("\n")


def _git_folder(path: str) -> str:
    """A worktree has a file instead, which says where the folder is."""
    if os.path.isdir(path):
        return path
    return os.path.join(os.path.dirname(path), _read(path).removeprefix("gitdir: "))


def _commit(folder: str) -> str:
    head = _read(folder, "HEAD")
    if not head.startswith("ref: "):
        return _checked(head)
    name = head.removeprefix("ref: ")
    try:
        common = os.path.join(folder, _read(folder, "commondir"))
    except FileNotFoundError:
        common = folder
    try:
        return _checked(_read(common, name))
    except FileNotFoundError:
        lines = _read(common, "packed-refs").splitlines()
        line = next((line for line in lines if line.endswith(f" {name}")), "")
        return _checked(line.partition(" ")[0])


def _checked(commit: str) -> str:
    """Raises ValueError for what is no commit: it is going to be shown."""
    if len(commit) not in _LENGTHS or int(commit, 16) < 0:
        raise ValueError
    return commit
