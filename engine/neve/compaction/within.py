"""Compaction within the time, the disk and the memory of a function.

It begins no task once its time is nearly up: what has been done is kept, and the next one goes on. What fits is worked
on in a workspace on the function's own disk, which lives as long as its environment; more than that is split into
segments that fit, and kept in the store task by task, so that any environment goes on with it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, TypeVar

from neve.compaction.build import MEMORY_BYTES, Means
from neve.compaction.compact import Compaction, compact, fold_tail, newest
from neve.compaction.compact_elsewhere import compact_elsewhere
from neve.compaction.elsewhere import ROW_BYTES, Elsewhere
from neve.compaction.executors import Inline, threads
from neve.compaction.jobs import begun_jobs
from neve.compaction.plan import is_due, plan_compaction
from neve.compaction.workspace import workspaces
from neve.index import paths
from neve.index.chain import list_all
from neve.index.database import Database
from neve.index.grace import TAIL_BYTES_MAX, TAIL_ENTRIES_MAX
from neve.index.reader import Reader
from neve.index.settings import COMPACT
from neve.store.port import Store

VALUES_PER_CORE_SECOND = 500_000
"""Dimensions of vectors of which one core builds a segment in a second: half of what docs/scale-out.md measured."""
SCRATCH_BYTES_PER_VALUE = 20
"""Of the workspace; measured: 14."""
MARGIN_S = 60.0
"""No task begins later than this before the end: the longest may take as long."""

_Result = TypeVar("_Result")


class OutOfTime(Exception):
    """Work is left for the next one, since the time is nearly up."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a function has. `left_s` tells how many of its `seconds` are left."""

    left_s: Callable[[], float]
    seconds: float
    cores: float
    memory_bytes: int = MEMORY_BYTES
    disk_bytes: int = 0
    margin_s: float = MARGIN_S

    @classmethod
    def here(cls, left_s: Callable[[], float], cores: float, memory_bytes: int) -> Limits:
        """Of an invocation that has just begun; half the memory is for what a compaction plans with."""
        seconds = left_s()
        folder = workspaces()
        folder.mkdir(parents=True, exist_ok=True)
        # of a short time a short margin: a function of one minute does what it can in half of it
        margin_s = min(MARGIN_S, seconds / 2)
        return cls(left_s, seconds, cores, memory_bytes // 2, shutil.disk_usage(folder).free, margin_s)

    def rows(self, dimension: int) -> int:
        """Rows of the largest segment that is built in one invocation. Pure."""
        in_time = self.seconds * self.cores * VALUES_PER_CORE_SECOND / dimension
        on_disk = self.disk_bytes / (SCRATCH_BYTES_PER_VALUE * dimension + ROW_BYTES)
        in_memory = self.memory_bytes / (ROW_BYTES + 4 * dimension)
        return max(1, int(min(in_time, on_disk, in_memory)))

    def check(self, _stage: str = "", done: int = 0, total: int = 1) -> None:
        """Raises OutOfTime when something is to be begun too late. May stand for a Progress."""
        if done < total and self.left_s() <= self.margin_s:
            raise OutOfTime


def compact_within(
    database: Database, bucket: str, name: str, url: str, limits: Limits, *, asked: bool = False
) -> Compaction | None:
    """As `compact`, and folds first where that is due: a function that is frozen after each answer may not get to it.

    `url` is the store's. Whether it fits is told without the newest writes, which are few. 6 LIST and 4 GET where there
    is nothing to do. Raises OutOfTime, and as `compact`.
    """
    limits.check()
    store = database.store
    record, manifest = newest(store, bucket, name)
    if not asked:
        if _tail_is_long(store, record.uid, manifest.folded_to):
            fold_tail(database, record)
            manifest = newest(store, bucket, name)[1]
        if is_due(manifest) and not COMPACT.of(_settings(database, bucket, name)):
            return None
    plan, rows = plan_compaction(manifest, asked=asked), limits.rows(record.config.dimension)
    if begun_jobs(store, record.uid) or (plan is not None and plan.rows > rows):
        means = Means(workspaces(), limits.memory_bytes, _Timely(Inline(), limits), limits.check)
        return compact_elsewhere(database, bucket, name, means, Elsewhere(url, rows), asked=asked)
    with threads() as executor:
        means = Means(workspaces(), limits.memory_bytes, _Timely(executor, limits), limits.check)
        return compact(database, bucket, name, means, asked=asked)


def _tail_is_long(store: Store, uid: str, folded_to: int) -> bool:
    """Whether a fold is due, without reading the tail: 1 LIST."""
    tail = list(list_all(store, paths.log_folder(uid), paths.log_entry(uid, folded_to)))
    return len(tail) >= TAIL_ENTRIES_MAX or sum(entry.size_bytes for entry in tail) >= TAIL_BYTES_MAX


def _settings(database: Database, bucket: str, name: str) -> Mapping[str, float]:
    """The settings of an index, those that are not folded yet included."""
    return Reader(database.store, database.runtime, database.grace).open(bucket, name).state.settings


def cores_and_memory() -> tuple[float, int]:
    """Of this function: Lambda gives a core for each 1,769 MB. Elsewhere the machine's, and MEMORY_BYTES twice."""
    cores, memory_mb = os.cpu_count() or 1, os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    if not memory_mb.isdecimal():
        return cores, 2 * MEMORY_BYTES
    return min(cores, int(memory_mb) / 1769), int(memory_mb) << 20


class _Timely(Executor):
    """Runs tasks by another executor as long as there is time to begin them."""

    def __init__(self, inner: Executor, limits: Limits) -> None:
        self._inner, self._limits = inner, limits

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:
        return self._inner.submit(self._run, fn, *args, **kwargs)

    def _run(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> _Result:
        self._limits.check()
        return fn(*args, **kwargs)
