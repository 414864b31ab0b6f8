"""The same rows from a Dask cluster; and what is said where there is none."""

from __future__ import annotations

import os
import sys
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hvmctx.errors import InputError, UsageError
from hvmctx.scan import scanning
from hvmctx.scan.cluster import Cluster
from hvmctx.scan.row import Asked, row_of, rows
from hvmctx.scan.scanning import scan
from tests.builders.samples import EXAMPLE

ASKED = Asked(["4.17"])


def deadly(asked: str, names: list[str]) -> list[dict[str, Any]]:
    if any(name.endswith("/3.save") for name in names):
        os._exit(1)
    return rows(asked, names)


@pytest.mark.long
@pytest.mark.parametrize("kills", [False, True])
def test_a_cluster_of_this_machine(
    kills: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    for number in range(12):
        (tmp_path / f"{number}.save").symlink_to(EXAMPLE)
    names = [str(tmp_path / f"{number}.save") for number in range(12)]
    expected = {name: row_of(name, ASKED) for name in names}
    if kills:
        monkeypatch.setattr(scanning, "rows", deadly)
        expected.pop(names[3])
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
    ):
        found = {row["input"]: row for row in scan(names, ASKED, dask=cluster.scheduler_address)}
    assert set(found) == set(names)
    if kills:
        assert found.pop(names[3])["error"].startswith("a worker failed: KilledWorker")
    assert found == expected


class Future:
    def __init__(self, status: str, value: Any) -> None:
        self.status = status
        self._value = value

    def result(self) -> Any:
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


class Client:
    """A cluster whose tasks end as the test says."""

    ends = "finished"

    def __init__(self, address: str, **_: object) -> None:
        if address == "nobody":
            raise OSError("Timed out trying to connect")

    def nthreads(self) -> dict[str, int]:
        return {} if self.ends == "never" else {"one": 2}

    def as_current(self) -> AbstractContextManager[None]:
        return nullcontext()

    def submit(self, call: Any, question: Any, **_: object) -> Future:
        if self.ends == "closed":
            raise RuntimeError("the client is closed")
        return Future(self.ends, call(question) if self.ends == "finished" else ValueError("no"))

    def cancel(self, futures: list[Future]) -> None:
        pass

    def close(self) -> None:
        pass


class Done(NamedTuple):
    done: set[Future]


class Distributed:
    Client = Client
    TimeoutError = TimeoutError

    @staticmethod
    def wait(futures: list[Future], timeout: float, return_when: str) -> Done:
        if Client.ends == "cancelled":
            raise CancelledError
        if Client.ends == "never":
            raise TimeoutError
        return Done({futures[-1]})


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    monkeypatch.setitem(sys.modules, "distributed", Distributed)
    monkeypatch.setattr(Client, "ends", "finished")
    return Client


def test_questions_and_answers(stand_in: type[Client]) -> None:
    names = [str(EXAMPLE)] * 30
    assert list(scan(names, ASKED, dask="somewhere")) == [row_of(names[0], ASKED)] * 30
    with Cluster("somewhere", rows, ASKED.to_text()) as cluster:
        assert cluster.free == 6
        cluster.ask(names[:1])
        assert cluster.free == 5


def test_a_task_that_fails(stand_in: type[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "ends", "error")
    (row,) = scan([str(EXAMPLE)], ASKED, dask="somewhere")
    assert row["error"] == "a worker failed: ValueError: no"


def test_an_answer_that_is_lost(stand_in: type[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the worker that held it: it is asked again."""
    first = Future.result
    lost: list[Future] = []

    def result(self: Future) -> Any:
        if not lost:
            lost.append(self)
            raise RuntimeError("2 workers died")
        return first(self)

    monkeypatch.setattr(Future, "result", result)
    names = [f"{EXAMPLE}{number}" for number in range(20)]
    found = list(scan(names, ASKED, dask="somewhere"))
    assert sorted(row["input"] for row in found) == sorted(names)
    assert not any("died" in row["error"] for row in found)


def test_a_task_that_is_lost(stand_in: type[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "ends", "lost")
    (row,) = scan([str(EXAMPLE)], ASKED, dask="somewhere")
    assert row["error"] == "a worker was lost with its answer"


@pytest.mark.parametrize("ends, said", [
    ("cancelled", "the Dask cluster has gone: a task was cancelled"),
    ("never", "the Dask cluster has no workers left"),
    ("closed", "the Dask cluster takes no more: the client is closed"),
])  # fmt: skip
def test_a_cluster_that_goes(
    ends: str, said: str, stand_in: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in, "ends", ends)
    with pytest.raises(InputError, match=said):
        list(scan([str(EXAMPLE)], ASKED, dask="somewhere"))


def test_no_cluster(stand_in: type[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no Dask scheduler at nobody: Timed out"):
        list(scan([str(EXAMPLE)], ASKED, dask="nobody"))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install hvmctx\[dask\]"):
        list(scan([str(EXAMPLE)], ASKED, dask="somewhere"))
