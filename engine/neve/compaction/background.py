"""Compaction in the background of a server: one index at a time, whatever is due."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

from neve.compaction.build import Means
from neve.compaction.compact import FAILURES, compact
from neve.compaction.executors import processes
from neve.compaction.plan import is_due
from neve.compaction.workspace import workspaces
from neve.errors import IndexNotFound
from neve.index.database import Database
from neve.index.records import IndexRecord
from neve.index.settings import COMPACT
from neve.index.state import State
from neve.runtime import Instant

RETRY_S = 600.0
"""An index whose compaction failed is not tried again sooner."""
_log = logging.getLogger("neve")


def server_means() -> tuple[Means, Callable[[], AbstractContextManager[Executor]]]:
    """What a server compacts with: one process, which lets those that answer requests go first."""
    return Means(workspaces()), partial(processes, 1, blas_threads=1, niceness=10)


class _Closing(Exception):
    """The process is about to end."""


class Background:
    """Compactions of one process. `executor` is opened for each, so that it costs nothing in between."""

    def __init__(
        self, database: Database, means: Means, executor: Callable[[], AbstractContextManager[Executor]]
    ) -> None:
        self._database = database
        self._means = means
        self._executor = executor
        self._lock = threading.Lock()
        self._busy = self._closing = False
        self.compacted = self.failures = 0
        """How many compactions have ended well, and how many have not, those not counted that the end cut short."""
        self._failed: dict[str, Instant] = {}

    @property
    def busy(self) -> bool:
        """Whether a compaction is under way."""
        return self._busy

    def offer(self, state: State) -> None:
        """Compact an index soon if that is due and not switched off, unless another one is under way. No request."""
        record = state.record
        if not is_due(state.base) or not COMPACT.of(state.settings):
            return
        failed = self._failed.get(record.uid)
        if failed is not None and failed.until(self._database.runtime.now()) < RETRY_S:
            return
        with self._lock:
            if self._busy or self._closing:
                return
            self._busy = True
        self._database.runtime.spawn(partial(self._run, record))

    def close(self) -> None:
        """Let what is under way end with its present task; its workspace is gone on with by whoever comes next."""
        self._closing = True

    def _go_on(self, _stage: str, _done: int, _total: int) -> None:
        if self._closing:
            raise _Closing

    def _run(self, record: IndexRecord) -> None:
        try:
            with self._executor() as executor:
                means = replace(self._means, executor=executor, progress=self._go_on)
                compact(self._database, record.bucket, record.name, means)
            self.compacted += 1
            self._failed.pop(record.uid, None)
        except (IndexNotFound, _Closing):
            self._failed.pop(record.uid, None)
        except FAILURES as error:
            self.failures += 1
            if record.uid not in self._failed:
                _log.warning("%s could not be compacted, and will be tried again: %s", record.path, error)
            self._failed[record.uid] = self._database.runtime.now()
        finally:
            with self._lock:
                self._busy = False
