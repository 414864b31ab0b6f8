"""The workers of a Dask cluster that is there, in place of processes of our own. hvmctx is
installed on them, and the inputs have the same paths there. Who is the cluster is trusted: Dask's
protocol runs what it is sent.
"""

from __future__ import annotations

import importlib
from concurrent.futures import CancelledError
from functools import partial

from hvmctx.errors import InputError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Cluster"]

_PATIENCE = 120
"""Seconds that a cluster may be without any worker."""
_EACH = 3
"""Questions for each thread of the cluster, so that none waits for us."""


class Cluster:
    """As `workers.Pool`, but on the cluster whose scheduler has that address."""

    def __init__(self, address: str, function: Callable[..., Any], setting: str) -> None:
        try:
            self._dask = importlib.import_module("distributed")
        except ImportError:
            raise UsageError("scan: --dask needs `pip install hvmctx[dask]`") from None
        self._asked: dict[Any, Any] = {}
        try:
            self._client = self._dask.Client(address, set_as_default=False)
            self._call = partial(function, setting)
        except (OSError, ValueError, self._dask.TimeoutError) as error:
            raise InputError(f"no Dask scheduler at {address}: {error}") from error

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.cancel(list(self._asked))
        self._client.close()

    @property
    def free(self) -> int:
        """How many questions can be asked now."""
        threads: int = sum(self._client.nthreads().values())
        return max(1, threads) * _EACH - len(self._asked)

    def ask(self, question: Any) -> None:
        try:
            future = self._client.submit(self._call, question, pure=False)
        except Exception as error:  # whatever Dask raises when its scheduler has gone
            raise InputError(f"the Dask cluster takes no more: {error}") from error
        self._asked[future] = question

    def next(self) -> tuple[Any, Any, str]:
        """Wait for an answer. Dask itself asks again a few times where a worker dies."""
        future = self._first_done()
        question = self._asked.pop(future)
        if future.status == "lost":
            return question, None, "was lost with its answer"
        try:
            return question, future.result(), ""
        except Exception as error:  # the task's; or it is lost with a worker that died later
            return question, None, f"failed: {type(error).__name__}: {error}"

    def _first_done(self) -> Any:
        """Raises InputError if the cluster has gone, or its workers have, and do not come back."""
        while True:
            alive = self._client.nthreads()
            try:
                with self._client.as_current():
                    done = self._dask.wait(
                        list(self._asked), timeout=_PATIENCE, return_when="FIRST_COMPLETED"
                    ).done
                if done:
                    return done.pop()
            except CancelledError as error:
                raise InputError("the Dask cluster has gone: a task was cancelled") from error
            except (TimeoutError, self._dask.TimeoutError) as error:
                if not alive and not self._client.nthreads():
                    raise InputError("the Dask cluster has no workers left") from error
