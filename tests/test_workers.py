"""Workers import nothing of the working directory, and one that dies ends all; in a pool it is
replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hvmctx.errors import HvmctxError, InputError
from hvmctx.workers import Pool, Workers, answered, import_path
from tests.builders.running import ROOT

PATIENCE = 60
"""Seconds after which a test has failed."""


def write_path(place: str, job: int) -> None:
    """What a worker can import from, and its process id."""
    text = "\n".join([str(os.getpid()), *sys.path])
    Path(place, str(job)).write_text(text, "utf-8", "surrogateescape")


def sleep(place: str, job: int) -> None:
    """As long as nobody ends it."""
    write_path(place, job)
    try:
        time.sleep(PATIENCE)
    finally:
        Path(place, f"{job}.ended").touch()


def never_ends(place: str, job: int) -> None:
    write_path(place, job)
    while True:
        try:
            time.sleep(PATIENCE)
        except KeyboardInterrupt:
            continue


def refuse(problem: str) -> None:
    raise HvmctxError(problem)


def break_down(problem: str) -> None:
    raise ValueError(problem)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(*paths: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not all(path.exists() and path.stat().st_size for path in paths):
        assert time.monotonic() < end, "the workers do not start"
        time.sleep(0.02)


def test_all_are_done(tmp_path: Path) -> None:
    with Workers(write_path, [(str(tmp_path), 0), (str(tmp_path), 1)]) as workers:
        assert workers.wait(PATIENCE)
    assert [int((tmp_path / n).read_text().split("\n")[0]) for n in "01"] == workers.pids


def test_what_they_import_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile, lib = tmp_path / "hostile", tmp_path / "lib"
    for place in (hostile, lib):
        place.mkdir()
    monkeypatch.chdir(hostile)
    monkeypatch.setenv("PYTHONPATH", str(hostile))
    monkeypatch.setattr(sys, "path", ["", str(hostile), "relative", str(lib), *sys.path])
    with Workers(write_path, [(str(tmp_path), 0)]) as workers:
        assert workers.wait(PATIENCE)
    found = (tmp_path / "0").read_text().split("\n")[1:]
    assert found == import_path() and found[0] == str(lib)
    assert "" not in found and str(hostile) not in found


def test_a_checkout_may_be_the_working_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """hvmctx itself is imported from there."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    assert import_path()[0] == str(ROOT)
    monkeypatch.setattr(sys, "path", ["", "/lib"])
    assert import_path() == [os.path.realpath("/lib"), str(ROOT)]


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert import_path()


@pytest.mark.parametrize(
    "function, said",
    [(refuse, "failed: one line"), (break_down, "failed: ValueError: one line")],
)
def test_one_that_fails(function: Callable[[str], None], said: str) -> None:
    with (
        pytest.raises(InputError, match=f"^worker . of 2 {said}$"),
        Workers(function, [("one line",), ("one line",)]) as workers,
    ):
        workers.wait(PATIENCE)


def test_one_that_is_killed_ends_all(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"^worker 1 of 2 was killed by signal 9$"),
        Workers(sleep, [(str(tmp_path), 0), (str(tmp_path), 1)]) as workers,
    ):
        wait_for(tmp_path / "0", tmp_path / "1")
        os.kill(workers.pids[1], signal.SIGKILL)
        workers.wait(PATIENCE)
    assert not any(map(is_running, workers.pids))
    assert (tmp_path / "0.ended").exists(), "told to end, it could say goodbye"


def test_an_import_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as of a module that one of the workers lacks."""
    monkeypatch.setattr(refuse, "__module__", "there_is_no_such_module")
    with (
        pytest.raises(InputError, match="ModuleNotFoundError: No module named 'there_is_no"),
        Workers(refuse, [("",)] * 3) as workers,
    ):
        workers.wait(PATIENCE)


def test_one_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvmctx.workers._PATIENCE", 0.2)
    with Workers(never_ends, [(str(tmp_path), 0)]) as workers:
        wait_for(tmp_path / "0")
    assert not is_running(workers.pids[0])


def test_ctrl_c_is_not_theirs(tmp_path: Path) -> None:
    """A terminal sends it to every process; the first one tells the others."""
    with Workers(sleep, [(str(tmp_path), 0)]) as workers:
        wait_for(tmp_path / "0")
        os.kill(workers.pids[0], signal.SIGINT)
        assert not workers.wait(0.3)
        assert is_running(workers.pids[0])
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(InputError, match="cannot start another process: No such file"):
        Workers(refuse, [("",)])


def shout(setting: str, words: list[str]) -> list[str]:
    print("this is no answer")
    return [word.upper() + setting for word in words]


def dies_of(setting: str, words: list[str]) -> list[str]:
    """Some words kill; some only the first worker that is asked."""
    for word in words:
        if word == "kills" or (word == "kills once" and not os.path.exists(setting)):
            Path(setting).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "breaks":
            raise ValueError("one line")
    return [word.upper() for word in words]


def test_a_pool_answers() -> None:
    words = [f"\udc80{number}" for number in range(50)]
    questions = [words[at : at + 4] for at in range(0, 50, 4)]
    with Pool(shout, "!\n", 2) as pool:
        found = list(answered(pool, iter(questions)))
    assert sorted(found) == sorted((word, word.upper() + "!\n", "") for word in words)
    assert not any(map(is_running, pool.pids))


def test_what_a_dead_worker_had_is_asked_again(tmp_path: Path) -> None:
    words = ["a", "kills", "b", "kills once", "breaks", "c"]
    with Pool(dies_of, str(tmp_path / "x"), 2) as pool:
        found = {word: (said, how) for word, said, how in answered(pool, [words, ["d"]])}
    assert found == {
        "kills": (None, "was killed by signal 9"), "breaks": (None, "failed: ValueError: one line"),
        "kills once": ("KILLS ONCE", ""),
        "a": ("A", ""), "b": ("B", ""), "c": ("C", ""), "d": ("D", ""),
    }  # fmt: skip


class OneByOne:
    """Who answers in turn, and notes how many are asked at a time."""

    def __init__(self, deadly: str, room: int) -> None:
        self._deadly = deadly
        self._room = room
        self._asked: list[list[str]] = []
        self.seen: list[tuple[list[str], int]] = []

    @property
    def free(self) -> int:
        return self._room - len(self._asked)

    def ask(self, question: list[str]) -> None:
        self._asked.append(question)

    def next(self) -> tuple[list[str], list[str] | None, str]:
        question = self._asked.pop(0)
        self.seen.append((question, len(self._asked)))
        died = self._deadly in question
        return question, None if died else question, "died" if died else ""


def test_the_second_death_is_alone() -> None:
    """Nobody else is at work then, who might be the one to blame."""
    one = OneByOne("k", 3)
    found = list(answered(one, [["a", "k"], ["b"], ["c"], ["d", "e"], ["f"]]))
    assert sorted(found) == [*((each, each, "") for each in "abcdef"), ("k", None, "died")]
    assert one.seen[-1] == (["k"], 0) and one.seen.count((["k"], 0)) <= 2


def test_one_that_is_killed_while_it_waits() -> None:
    with Pool(shout, "", 1) as pool:
        for _ in range(2):
            (pid,) = pool.pids
            os.kill(pid, signal.SIGKILL)
            assert list(answered(pool, [["a", "b"]])) == [("a", "A", ""), ("b", "B", "")]
            assert pool.pids != [pid]


def test_one_that_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shout, "__module__", "there_is_no_such_module")
    with (
        pytest.raises(InputError, match="a worker failed: ModuleNotFoundError: No module named"),
        Pool(shout, "", 2) as pool,
    ):
        list(answered(pool, [["a"]]))


def test_a_pool_ends_with_the_process(tmp_path: Path) -> None:
    """However that ends: its workers read to the end of their input."""
    code = (
        "import os, signal; from hvmctx.workers import Pool; from tests import test_workers as t; "
        f"p = Pool(t.write_pid, {str(tmp_path / 'pid')!r}, 1); p.ask(['a']); p.next(); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    pid = int((tmp_path / "pid").read_text())
    end = time.monotonic() + PATIENCE
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_running(pid)


def write_pid(place: str, words: list[str]) -> list[str]:
    Path(place).write_text(str(os.getpid()))
    return words
