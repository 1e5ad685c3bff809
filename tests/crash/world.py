"""Operations to interrupt, the worlds they start in, and what a fresh process sees afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from neve.compaction.collect import collect
from neve.compaction.verify import verify
from neve.errors import IndexNotFound
from neve.index.database import Database
from neve.index.entry import Write
from neve.index.grace import GRACE
from neve.index.records import Encryption, IndexConfig
from neve.query.listing import list_rows
from neve.segments.rows import Puts
from neve.store.port import Store
from neve.testing.clock import ManualClock, ManualRuntime
from neve.testing.objects import MemoryStore, Objects
from neve.vectors.metric import Metric

DIMENSION = 3
CONFIG = IndexConfig(DIMENSION, Metric.EUCLIDEAN, None, Encryption())

Snapshot: TypeAlias = dict[str, tuple[dict[str, str], dict[str, bytes] | None]]
"""By name: tags, and for an index its metadata by key."""


@dataclass(slots=True)
class Process:
    """One process of the engine on manual time."""

    database: Database
    runtime: ManualRuntime

    def put(self, rows: Mapping[str, bytes], deletes: Sequence[str] = ()) -> None:
        vectors = np.array([[len(key), len(value), 1] for key, value in rows.items()], np.float32)
        write = Write(Puts(list(rows), vectors.reshape(-1, DIMENSION), list(rows.values())), deletes)
        self.database.index("library", "books").write(lambda _: write)

    def create_index(self, name: str) -> None:
        self.database.create_index("library", name, CONFIG, {"made": "here"}, quota=100)


class World:
    """A store and its time; `copy` makes another with the same past."""

    def __init__(self, objects: Objects | None = None, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.objects = objects or Objects(self.clock)
        self.store = MemoryStore(self.objects)
        self._processes = 0

    def copy(self) -> World:
        return World(self.objects.copy(), self.clock)

    def process(self, store: Store | None = None) -> Process:
        """A process that knows nothing yet; it reaches the store through `store`."""
        self._processes += 1
        runtime = ManualRuntime(self.clock, f"{id(store) if store else 0}/{self._processes}/{self.clock.now_s}")
        return Process(Database.open(store or self.store, runtime), runtime)

    def snapshot(self) -> Snapshot:
        """Everything that a client can see, read by a fresh process."""
        database = self.process().database
        seen: Snapshot = {}
        for bucket in database.list_buckets("", "", 100)[0]:
            seen[bucket.name] = (dict(bucket.tags), None)
            for record in database.list_indexes(bucket.name, "", "", 100)[0]:
                try:
                    state = database.index(bucket.name, record.name).read()
                except IndexNotFound:
                    continue  # dropped in its log; the catalog learns of it now
                rows, _ = list_rows(state, None, 10_000, 0, 1)
                seen[record.path] = (dict(state.tags), {row.key: row.metadata for row in rows})
        return seen


@dataclass(frozen=True, slots=True)
class Operation:
    """Something to interrupt: how the world is made for it, and what is done then."""

    prepare: Callable[[World, Process], None]
    act: Callable[[Process], object]


def _library(world: World, process: Process) -> None:
    process.database.create_bucket("library", Encryption(), {"kind": "old"}, quota=100)
    process.create_index("books")
    process.put({"a": b'{"n":1}', "b": b'{"n":2}'})
    process.put({"c": b'{"n":3}'}, ["a"])


def _folded(world: World, process: Process) -> None:
    _library(world, process)
    process.database.index("library", "books").fold()
    process.put({"d": b'{"n":4}'}, ["b"])
    process.database.index("library", "books").tag(lambda _: {"folded": "once"})


def _aged(world: World, process: Process) -> None:
    """Superseded objects of every kind, old enough to be collected."""
    _folded(world, process)
    process.create_index("gone")
    process.database.delete_index("library", "gone")
    process.database.index("library", "books").fold()
    process.database.create_bucket("lost", Encryption(), {}, quota=100)
    process.database.delete_bucket("lost")
    world.clock.advance(GRACE.records_s + 1)
    process.put({"e": b'{"n":5}'})
    process.database.index("library", "books").fold()
    world.clock.advance(GRACE.manifests_s + 1)


def _empty_library(world: World, process: Process) -> None:
    process.database.create_bucket("library", Encryption(), {}, quota=100)


def _relabelled(tags: Mapping[str, str]) -> Mapping[str, str]:
    return {**tags, "new": "yes"}


OPERATIONS: dict[str, Operation] = {
    "put": Operation(_library, lambda p: p.put({"b": b'{"n":20}', "new": b"{}"})),
    "put after a fold": Operation(_folded, lambda p: p.put({"b": b'{"n":20}', "new": b"{}"})),
    "delete": Operation(_folded, lambda p: p.put({}, ["c", "d", "absent"])),
    "tag index": Operation(_folded, lambda p: p.database.index("library", "books").tag(_relabelled)),
    "first fold": Operation(_library, lambda p: p.database.index("library", "books").fold()),
    "fold": Operation(_folded, lambda p: p.database.index("library", "books").fold()),
    "collect": Operation(_aged, lambda p: collect(p.database)),
    "create index": Operation(_library, lambda p: p.create_index("maps")),
    "delete index": Operation(_folded, lambda p: p.database.delete_index("library", "books")),
    "create bucket": Operation(_library, lambda p: p.database.create_bucket("other", Encryption(), {}, quota=100)),
    "tag bucket": Operation(_library, lambda p: p.database.tag_bucket("library", _relabelled)),
    "delete bucket": Operation(_empty_library, lambda p: p.database.delete_bucket("library")),
}


def prepared(operation: Operation) -> World:
    world = World()
    operation.prepare(world, world.process())
    return world


def check_whole(world: World, seen: Snapshot) -> None:
    """The world goes on: new writes and folds work, verification finds nothing, collection loses nothing."""
    process = world.process()
    if "library" not in seen:
        process.database.create_bucket("library", Encryption(), {}, quota=100)
    if "library/books" not in seen:
        process.create_index("books")
    process.put({"afterwards": b'{"n":6}'}, ["c"])
    process.database.index("library", "books").fold()
    expected = world.snapshot()
    rows = expected["library/books"][1]
    assert rows is not None
    assert rows["afterwards"] == b'{"n":6}'
    assert "c" not in rows
    assert verify(process.database).findings == []
    world.clock.advance(GRACE.manifests_s + 1)
    for _ in range(2):
        assert collect(world.process().database).left == []
        assert world.snapshot() == expected
    assert verify(world.process().database).findings == []
