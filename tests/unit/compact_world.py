"""An index in a store in memory, beside what it should hold, for compactions to work on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neve.compaction.build import Means
from neve.compaction.compact import Compaction, compact
from neve.compaction.executors import Inline
from neve.compaction.tasks import Stage, Task
from neve.index.database import Database
from neve.index.entry import Write
from neve.index.index import Index
from neve.index.manifest import Manifest
from neve.index.records import Encryption, IndexConfig
from neve.index.state import Compacted, State
from neve.segments.rows import Puts
from neve.segments.stream import row_blocks, row_entries, verify_segment
from neve.store.port import Get, Store
from neve.testing.clock import ManualClock, ManualRuntime
from neve.testing.objects import MemoryStore, Objects
from neve.vectors.metric import Metric

DIMENSION = 4
Row = tuple[bytes, bytes]
"""A vector's bytes and its metadata."""


@dataclass
class World:
    """A store with one index, a process that writes, and what the index must hold."""

    folder: Path
    metric: Metric = Metric.EUCLIDEAN
    clock: ManualClock = field(default_factory=ManualClock)
    rows: dict[str, Row] = field(default_factory=dict)
    versions: int = 0

    def __post_init__(self) -> None:
        self.objects = Objects(self.clock)
        self.database = self.process()
        self.database.create_bucket("b", Encryption(), {}, quota=9)
        config = IndexConfig(DIMENSION, self.metric, None, Encryption())
        self.database.create_index("b", "i", config, {}, quota=9)

    def process(self, store: Store | None = None) -> Database:
        self.versions += 1
        return Database.open(store or self.store, ManualRuntime(self.clock, self.versions))

    @property
    def store(self) -> Store:
        return MemoryStore(self.objects)

    @property
    def index(self) -> Index:
        return self.database.index("b", "i")

    @property
    def state(self) -> State:
        return self.process().index("b", "i").read()

    @property
    def manifest(self) -> Manifest:
        return self.state.base

    def put(self, *keys: str, metadata: Sequence[bytes] = ()) -> None:
        """Rows with the metadata given, JSON objects, else with the number of this version."""
        self.versions += 1
        vectors = np.random.default_rng(self.versions).normal(size=(len(keys), DIMENSION)).astype(np.float32)
        metadata = metadata or [b'{"version":%d}' % self.versions for _ in keys]
        self.index.write(lambda _: Write(Puts(keys, vectors, metadata)))
        self.rows |= {key: (v.tobytes(), m) for key, v, m in zip(keys, vectors, metadata, strict=True)}

    def delete(self, *keys: str) -> None:
        self.index.write(lambda _: Write(Puts((), np.empty((0, DIMENSION), np.float32), ()), keys))
        for key in keys:
            self.rows.pop(key, None)

    def fold(self) -> None:
        self.index.fold()

    def compact(self, machine: str = "here", **options: Any) -> Compaction | None:
        """As a fresh process of a machine does it."""
        store, executor = options.pop("store", None), options.pop("executor", Inline())
        progress = options.pop("progress", lambda _stage, _done, _total: None)
        means = Means(self.folder / machine, executor=executor, progress=progress)
        return compact(self.process(store), "b", "i", means, **{"asked": True, **options})

    def check(self) -> None:
        """What a fresh process reads is what must be there; a manifest without flat segments counts it right."""
        state = self.state
        assert contents(self.store, state) == self.rows
        if not (state.segments or state.tail):
            assert state.base.live_rows == len(self.rows)


def contents(store: Store, state: State) -> dict[str, Row]:
    """All live rows of a state, read without any index; each key once."""
    found: list[tuple[bytes, Row]] = []
    for part in state.parts:
        for row in np.flatnonzero(part.live).tolist():
            vector = np.ascontiguousarray(part.rows.vectors[row], np.float32).tobytes()
            found.append((part.rows.keys.keys[row], (vector, part.rows.metadata[row])))
    for segment in state.compacted:
        found += [(key, row) for hash_, key, row in unmasked(store, segment) if not state.hides(hash_, key)]
    assert len({key for key, _ in found}) == len(found), "a key is live twice"
    return {key.decode(): row for key, row in found}


def unmasked(store: Store, segment: Compacted) -> list[tuple[int, bytes, Row]]:
    """Hash, key and row of each unmasked row of a segment, which is whole."""

    def fetch(key: str, start: int, stop: int) -> bytes:
        reply = store.wave([Get(key, start, stop)])[0]
        body: bytes = getattr(reply, "body", b"")
        return body

    verify_segment(segment.directory, fetch)
    masked = segment.masked if segment.masked is not None else np.zeros(segment.info.rows, np.bool_)
    found, row = [], 0
    for block in row_blocks(segment.directory, fetch, row_entries(segment.directory, fetch)):
        for place in range(len(block)):
            if not masked[row]:
                values = (block.vectors[place].tobytes(), block.metadata[place])
                found.append((int(block.hashes[place]), block.keys[place], values))
            row += 1
    return found


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


class Killed(BaseException):
    """The process ends."""


class Mortal(Executor):
    """Runs tasks until one of a stage comes, which kills the process before or after it; notes what it runs."""

    def __init__(self, stage: str = "", *, after: bool = False) -> None:
        self.ran: list[Stage] = []
        self._stage, self._after = stage, after
        self._inline = Inline()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        task: Task = args[0]
        if task.stage == self._stage and not self._after:
            raise Killed
        self.ran.append(task.stage)
        future = self._inline.submit(fn, *args, **kwargs)
        if task.stage == self._stage:
            raise Killed
        return future
