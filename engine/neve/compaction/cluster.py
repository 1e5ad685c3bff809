"""A Dask cluster as an executor: tasks go to its workers, wherever they are, with names and ranges alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

from neve.errors import ClusterLost

CONNECT_S = 10.0
WORKERS_S = 60.0
"""How long a scheduler may be without any worker when work is about to begin."""
_GO_ON = "what has been done is kept, and the next run goes on from there"
_Result = TypeVar("_Result")


@contextmanager
def dask_cluster(address: str) -> Iterator[Executor]:
    """The cluster of a scheduler such as tcp://scheduler:8786, or tls:// as Dask's own configuration says.

    A task whose worker dies is done again by another. Raises ClusterLost, here and from tasks.
    """
    dask: Any = import_module("distributed")  # takes a second, and only clusters need it
    try:
        client = dask.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterLost(f"no Dask scheduler answers at {address}: {error}") from error
    try:
        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError as error:
            raise ClusterLost(f"the scheduler at {address} has no worker") from error
        yield _Dask(client, address, dask.KilledWorker)
    finally:
        client.close(timeout=CONNECT_S)


class _Dask(Executor):
    def __init__(self, client: Any, address: str, killed: type[Exception]) -> None:
        self._client, self._tasks = client, client.get_executor(pure=False)
        self._address = address
        self._killed = killed

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:
        if self._client.status == "closed":
            raise ClusterLost(f"the scheduler at {self._address} was lost; {_GO_ON}")
        inner, outer = self._tasks.submit(fn, *args, **kwargs), Future[_Result]()

        def end(_: Future[_Result]) -> None:
            if not outer.set_running_or_notify_cancel():
                return
            try:
                outer.set_result(inner.result())
            except CancelledError:
                outer.set_exception(ClusterLost(f"the scheduler at {self._address} was lost; {_GO_ON}"))
            except self._killed as error:
                outer.set_exception(ClusterLost(f"worker after worker died over one task; {_GO_ON}: {error}"))
            except Exception as error:
                outer.set_exception(error)

        outer.add_done_callback(lambda _: inner.cancel() if outer.cancelled() else None)
        inner.add_done_callback(end)
        return outer
