#!/usr/bin/env python3
"""Mutation testing: change a module in one place, and see whether its own tests notice.

`mutants.py MODULE ...` (`restore/msrs`, or a room: `restore`; by default those that have figures in
docs/mutants.md) makes the mutants of each module, runs the module's tests on every one in a fresh
process, prints those that survive, and writes the figures into docs/mutants.md. What is listed as
accepted there is no survivor. Nothing in the checkout is changed meanwhile: the tests run in a
copy.

The mutations are mutmut's. Its own runner mutates functions only, which leaves out most of a table
of rules; here every expression of a module is mutated.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import libcst

ROOT = Path(os.path.realpath(__file__)).parent.parent
PAGE = ROOT / "docs" / "mutants.md"
BESIDES: dict[str, tuple[str, ...]] = {
    "context/record": ("context/hvm_context",),
    "context/vmport": ("context/vmport_paths", "context/vmport_slots", "json_form/schema"),
    "abi/vmport": ("context/vmport", "restore/vmport"),
    "restore/context_rules": ("restore/context",),
    "restore/rules": ("restore/context",),
    "restore/policy": ("restore/msrs",),
    "stream/reader": ("stream/grammar",),
    "stream/grammar": ("stream/reader",),
    "edit/editor": ("edit/payloads",),
    "files/source": ("files/compression",),
}
"""What is tried of a module besides the tests of its own name."""
MODULES = sorted(
    path.relative_to(ROOT / "hvmctx").with_suffix("").as_posix()
    for path in (ROOT / "hvmctx").glob("*/*.py")
    if not path.name.startswith("__")
)
"""All that can be mutated: each has tests of its name."""
MOST = 150
"""Mutants tried of a module; of more, a sample that is the same each time."""
MEMORY, SIZE = 4 << 30, 1 << 30
"""Bytes that the tests of a mutant may allocate, and write into a file."""
KILLED, SURVIVED, TOO_SLOW = "killed", "survived", "too slow"
_WIDTH = 40
_BEGIN, _END = "<!-- begin: written by make mutants -->", "<!-- end -->"
_HEAD = "| module | mutants | tried | killed | accepted | left | score |"
_ROW = re.compile(r"^\| `(\S+)` \|.*", re.MULTILINE)
_LEFT = re.compile(r"^- `(\S+)`: `` (.+?) ``$", re.MULTILINE)
_ACCEPTED = re.compile(r"^- `(\S+)`: `` (.+?) ``: .", re.MULTILINE)


class Mutant:
    """One change: the whole `text` of the module with it, and the place in few words."""

    def __init__(self, before: str, text: str) -> None:
        self.text = text
        self.change, self.line = _change(before, text)


def _change(before: str, after: str) -> tuple[str, int]:
    """What is different, with a little of what is around it; and in which line."""
    start = _same(before, after)
    most = min(len(before), len(after)) - start
    end = min(_same(before[::-1], after[::-1]), most)
    head = max(before.rfind("\n", 0, start) + 1, start - _WIDTH)

    def around(text: str) -> str:
        stop = len(text) - end
        tail = text[stop : stop + _WIDTH].partition("\n")[0]
        return " ".join((text[head:stop] + tail).split()).replace("``", "''")

    return f"{around(before)} -> {around(after)}", before.count("\n", 0, start) + 1


def _same(one: str, other: str) -> int:
    """How many characters they start with are the same."""
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def mutants(path: Path, most: int) -> tuple[list[Mutant], int]:
    """The mutants of a module that a test could tell from it, or a sample of as many as are
    wanted; and how many there are."""
    import libcst as cst
    from mutmut.mutation.file_mutation import create_mutations

    source = path.read_text(encoding="utf-8")
    module, mutations, *_ = create_mutations(str(path), source)
    unseen = {id(node) for node in _within(module, False)}
    pairs = [(mutation.original_node, mutation.mutated_node) for mutation in mutations]
    pairs = [(old, new) for old, new in pairs if id(old) not in unseen and not _is_words(old, new)]
    chosen = pairs if len(pairs) <= most else random.Random(path.stem).sample(pairs, most)
    texts = (cst.ensure_type(module.deep_replace(*pair), cst.Module).code for pair in chosen)
    return [Mutant(source, text) for text in texts], len(pairs)


def _within(node: libcst.CSTNode, unseen: bool) -> Iterator[libcst.CSTNode]:
    """What is `unseen`, or within something that is."""
    unseen = unseen or _unseen(node)
    if unseen:
        yield node
    for child in node.children:
        yield from _within(child, unseen)


def _unseen(node: libcst.CSTNode) -> bool:
    """What only type checkers read, and lists of names."""
    import libcst as cst
    import libcst.matchers as m

    if isinstance(node, cst.If):
        return bool(m.matches(node.test, m.Name("TYPE_CHECKING")))
    names = m.Name("TYPE_CHECKING") | m.Name("__all__") | m.Name("__slots__")
    return bool(m.matches(node, m.Assign(targets=[m.AssignTarget(names)])))


def _is_words(old: libcst.CSTNode, new: libcst.CSTNode) -> bool:
    """A change to words for people; or the same string in capitals, one change of it being
    enough."""
    import libcst as cst

    if not (isinstance(old, cst.SimpleString) and isinstance(new, cst.SimpleString)):
        return False
    return " " in old.value or "XX" not in new.value


class Tests:
    """The tests of a module, in a copy of the checkout. Those that have killed before run first,
    and then those that try one thing only."""

    def __init__(self, copy: Path, names: list[str]) -> None:
        self._copy = copy
        self._names = names
        self._killers: Counter[str] = Counter()
        self.seconds = 600.0

    def run(self) -> str:
        """Whether they notice. In a child, which imports what there is in the copy."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.setsid()
                os.close(reading)
                _child(self._copy, self._names, self._killers, writing)
            finally:
                os._exit(99)
        os.close(writing)
        status = self._wait(child)
        with os.fdopen(reading, encoding="utf-8", errors="replace") as said:
            killer = said.readline().strip()
        if killer:
            self._killers[killer] += 1
        if status is None:
            return TOO_SLOW
        return KILLED if status else SURVIVED

    def _wait(self, child: int) -> int | None:
        deadline = time.monotonic() + self.seconds
        done = status = 0
        while not done and time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
            if not done:
                time.sleep(0.02)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if not done or os.WIFSTOPPED(status):
            os.waitpid(child, 0)
        return status if done else None


def _child(copy: Path, names: list[str], killers: Counter[str], said: int) -> None:
    import hypothesis
    import pytest
    from hypothesis import is_hypothesis_test

    class Plugin:
        def pytest_sessionstart(self) -> None:
            """A failure is enough; it need not be shrunk."""
            phases = [phase for phase in hypothesis.Phase if phase.name in ("explicit", "generate")]
            hypothesis.settings.register_profile("mutants", hypothesis.settings(), phases=phases)
            hypothesis.settings.load_profile("mutants")

        def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
            # AddressSanitizer maps more than a mutant may have
            items[:] = [item for item in items if "reference" not in item.fixturenames]
            items.sort(key=lambda item: (-killers[item.nodeid], is_hypothesis_test(item.obj)))

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                os.write(said, f"{report.nodeid}\n".encode("utf-8", "replace"))

    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, SIZE))
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)
    sys.path[:0] = [str(copy)]
    gc.disable()
    without = ("cacheprovider", "xdist", "unraisableexception", "threadexception")
    quick = ["-x", "-q", "--tb=no", *(f"-pno:{plugin}" for plugin in without)]
    os._exit(int(pytest.main([*quick, *names], [Plugin()])))


def copied(folder: str) -> Path:
    """A copy of the checkout, without what is hidden."""
    copy = Path(folder, "hvmctx")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "corpus"))
    return copy


def tried(
    name: str, copy: Path, most: int, only: set[str] | None
) -> tuple[list[Mutant], int, Iterator[str]]:
    """The mutants of a module that are tried, how many there are, and what becomes of each; of
    the changes in `only`, if that is given."""
    room, _, module = name.partition("/")
    own = [f"tests/{room}/test_{module}.py"]
    tests = Tests(
        copy, own + [f"tests/{t.replace('/', '/test_')}.py" for t in BESIDES.get(name, ())]
    )
    path = copy / "hvmctx" / f"{name}.py"
    chosen, made = mutants(path, most)
    if only is not None:
        chosen = [mutant for mutant in chosen if mutant.change in only]
    return chosen, made, _outcomes(tests, path, chosen)


def _outcomes(tests: Tests, path: Path, chosen: list[Mutant]) -> Iterator[str]:
    source, stamp = path.read_text(encoding="utf-8"), int(time.time())
    began = time.monotonic()
    if tests.run() != SURVIVED:
        raise SystemExit(f"{path}: its tests fail without any mutation")
    tests.seconds = 10 + 5 * (time.monotonic() - began)
    for number, mutant in enumerate(chosen, 1):
        path.write_text(mutant.text, encoding="utf-8")
        os.utime(path, (stamp - number, stamp - number))  # bytecode of another does not match
        outcome = tests.run()
        path.write_text(source, encoding="utf-8")
        yield outcome


def row(name: str, made: int, tried: int, killed: int, accepted: int, left: int) -> str:
    """Accepted mutants are none that a test could kill: they do not count."""
    score = 100 * killed / (tried - accepted) if tried > accepted else 100
    return f"| `{name}` | {made} | {tried} | {killed} | {accepted} | {left} | {score:.1f}% |"


def accepted_of(page: str) -> set[tuple[str, str]]:
    """(module, change) of every mutant with a reason."""
    return {(found[1], found[2]) for found in _ACCEPTED.finditer(page)}


def left_of(page: str) -> list[tuple[str, str]]:
    """(module, change) of every mutant that survived."""
    return [(found[1], found[2]) for found in _LEFT.finditer(page)]


def with_figures(page: str, name: str, line: str, left: list[str]) -> str:
    """The page with a module's row and survivors in the place of those of its last run."""
    before, _, rest = page.partition(_BEGIN)
    old, _, after = rest.partition(_END)
    rows = {found[1]: found[0] for found in _ROW.finditer(old)} | {name: line}
    lines = [_HEAD, "|" + " --- |" * 7, *(rows[each] for each in MODULES if each in rows)]
    all_left = [one for one in left_of(old) if one[0] != name] + [(name, one) for one in left]
    if all_left:
        all_left.sort(key=lambda one: MODULES.index(one[0]))
        lines += ["", "Left:", "", *(f"- `{module}`: `` {one} ``" for module, one in all_left)]
    return f"{before}{_BEGIN}\n\n" + "\n".join(lines) + f"\n\n{_END}{after}"


def _named(wanted: list[str]) -> list[str]:
    names = [n for one in wanted for n in MODULES if one in (n, n.partition("/")[0])]
    if wanted and not names:
        rooms = dict.fromkeys(name.partition("/")[0] for name in MODULES)
        raise SystemExit(f"expected modules, such as {MODULES[0]}, or rooms: {', '.join(rooms)}")
    return names or [found[1] for found in _ROW.finditer(PAGE.read_text(encoding="utf-8"))]


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutate modules, and run their tests.")
    parser.add_argument("modules", nargs="*", help="such as restore/msrs, or a room")
    parser.add_argument("--most", type=int, default=MOST, help="mutants tried of a module")
    parser.add_argument(
        "--again", action="store_true", help="only those that survived the last run"
    )
    parser.add_argument("--dry", action="store_true", help="write nothing into docs/")
    arguments: Any = parser.parse_args()
    for module in ("pytest", "hypothesis", "jsonschema", "ctypes", "multiprocessing", "libcst"):
        importlib.import_module(module)  # once, for all children
    gc.freeze()
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(folder)
        for name in _named(arguments.modules):
            began = time.monotonic()
            page = PAGE.read_text(encoding="utf-8")
            accepted = {change for module, change in accepted_of(page) if module == name}
            again = accepted | {change for module, change in left_of(page) if module == name}
            only = again if arguments.again else None
            chosen, made, outcomes = tried(name, copy, arguments.most, only)
            count = min(made, arguments.most)
            counts: Counter[str] = Counter()
            left = []
            for mutant, outcome in zip(chosen, outcomes):
                counts[outcome] += 1
                if outcome == SURVIVED and mutant.change not in accepted:
                    left.append(mutant.change)
                    print(f"{name}.py:{mutant.line}: {mutant.change}", flush=True)
            killed = count - counts[SURVIVED]
            line = row(name, made, count, killed, counts[SURVIVED] - len(left), len(left))
            print(f"{line} {time.monotonic() - began:.0f} s", flush=True)
            survived += len(left)
            if not arguments.dry:
                now = PAGE.read_text(encoding="utf-8")
                PAGE.write_text(with_figures(now, name, line, left), encoding="utf-8")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
