"""What runs the tasks of a compaction: the caller itself, or processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

_Result = TypeVar("_Result")
_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class Inline(Executor):
    """Runs each task at once, in the thread that submits it."""

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:
        future: Future[_Result] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def threads() -> Iterator[Executor]:
    """Threads of this process, one a core: what is not BLAS, which uses all cores by itself, goes on side by side."""
    with ThreadPoolExecutor(os.cpu_count() or 1, "neve-compaction") as executor:
        yield executor


@contextmanager
def processes(workers: int, *, blas_threads: int = 0, niceness: int = 0) -> Iterator[Executor]:
    """So many processes, which share the cores unless told how many each may use; `niceness` lets others go first."""
    cores_each = blas_threads or max(1, (os.cpu_count() or 1) // workers)
    for name in _BLAS_THREADS:
        os.environ.setdefault(name, str(cores_each))  # read by processes as they start
    context = get_context("spawn")  # a fork would copy the locks of other threads as they are
    with ProcessPoolExecutor(workers, context, _set_up, (niceness,)) as executor:
        yield executor


def _set_up(niceness: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a terminal sends to all is for the first process to handle
    os.nice(niceness)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Workers wait on a pipe that they hold open themselves: of a parent that was killed they would never learn."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
