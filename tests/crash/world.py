"""Operations to interrupt, the worlds they start in, and what a fresh process sees afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from neve.compaction.collect import collect
from neve.compaction.verify import verify
from neve.errors import IndexNotFound
from neve.index.database import Database
from neve.index.entry import Write
from neve.index.grace import GRACE
from neve.index.records import Encryption, IndexConfig
from neve.segments.rows import Puts
from neve.store.port import Store
from neve.testing.clock import ManualClock, ManualRuntime
from neve.testing.objects import MemoryStore, Objects
from neve.vectors.metric import Metric
from tests.compacting import compact_in
from tests.importing import Given, import_in
from tests.reading import everything

DIMENSION = 3
NO_DISK = Path(os.devnull)
"""Of worlds in which nothing is compacted."""
CONFIG = IndexConfig(DIMENSION, Metric.EUCLIDEAN, None, Encryption())

Snapshot: TypeAlias = dict[str, tuple[dict[str, str], dict[str, bytes] | None]]
"""By name: tags, and for an index its metadata by key."""


@dataclass(slots=True)
class Process:
    """One process of the engine on manual time, on a machine that keeps workspaces in a folder."""

    database: Database
    runtime: ManualRuntime
    machine: Path

    def put(self, rows: Mapping[str, bytes], deletes: Sequence[str] = ()) -> None:
        vectors = np.array([[len(key), len(value), 1] for key, value in rows.items()], np.float32)
        write = Write(Puts(list(rows), vectors.reshape(-1, DIMENSION), list(rows.values())), deletes)
        self.database.index("library", "books").write(lambda _: write)

    def fold(self) -> None:
        self.database.index("library", "books").fold()

    def compact(self) -> None:
        compact_in(self.database, self.machine, "library", "books")

    def load(self) -> None:
        """Import rows that are there already, in several places, and new ones."""
        keys = ("b", "c", "d", "large-1", "large-3", "new", "newer")
        rows = [(key, (len(key), 5, 1), b'{"import":1}') for key in keys]
        import_in(self.database, self.machine, "library", "books", Given(rows, DIMENSION))

    def create_index(self, name: str) -> None:
        self.database.create_index("library", name, CONFIG, {"made": "here"}, quota=100)


class World:
    """A store and its time, and a folder for machines; `copy` makes another with the same past and new machines."""

    def __init__(self, objects: Objects | None = None, clock: ManualClock | None = None, disks: Path = NO_DISK) -> None:
        self.clock = clock or ManualClock()
        self.objects = objects or Objects(self.clock)
        self.store = MemoryStore(self.objects)
        self.disks = disks
        self._processes = 0
        self._copies = 0

    def copy(self) -> World:
        self._copies += 1
        disks = self.disks if self.disks is NO_DISK else self.disks / f"copy-{self._copies}"
        return World(self.objects.copy(), self.clock, disks)

    def process(self, store: Store | None = None, machine: str = "first") -> Process:
        """A process that knows nothing yet; it reaches the store through `store`."""
        self._processes += 1
        runtime = ManualRuntime(self.clock, f"{id(store) if store else 0}/{self._processes}/{self.clock.now_s}")
        return Process(Database.open(store or self.store, runtime), runtime, self.disks / machine)

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
                rows = everything(database, state)
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


def _large(world: World, process: Process) -> None:
    """Large beside what comes, and compacted; a smaller one beside it that masks some of its rows; a tail."""
    _library(world, process)
    process.put({f"large-{number}": b'{"n":7}' for number in range(40)})
    process.fold()
    process.compact()
    process.put({"c": b'{"n":30}', "d": b'{"n":4}', "large-1": b'{"n":8}'}, ["b"])
    process.fold()
    process.compact()
    process.put({"d": b'{"n":40}', "large-2": b'{"n":9}', "f": b"{}", "g": b"{}"}, ["large-1", "large-3"])
    process.fold()
    process.put({"large-4": b'{"n":10}'}, ["f", "large-5"])


def _settled(world: World, process: Process) -> None:
    """Two compacted segments with masks, and nothing beside them."""
    _large(world, process)
    process.fold()
    process.compact()


def _emptied(world: World, process: Process) -> None:
    """A compacted segment of which nothing is left."""
    _library(world, process)
    process.fold()
    process.compact()
    process.put({}, ["b", "c"])
    process.fold()


def _empty_library(world: World, process: Process) -> None:
    process.database.create_bucket("library", Encryption(), {}, quota=100)


def _opened(world: World, process: Process) -> None:
    _empty_library(world, process)
    process.create_index("books")


def _relabelled(tags: Mapping[str, str]) -> Mapping[str, str]:
    return {**tags, "new": "yes"}


OPERATIONS: dict[str, Operation] = {
    "put": Operation(_library, lambda p: p.put({"b": b'{"n":20}', "new": b"{}"})),
    "put after a fold": Operation(_folded, lambda p: p.put({"b": b'{"n":20}', "new": b"{}"})),
    "delete": Operation(_folded, lambda p: p.put({}, ["c", "d", "absent"])),
    "tag index": Operation(_folded, lambda p: p.database.index("library", "books").tag(_relabelled)),
    "first fold": Operation(_library, lambda p: p.database.index("library", "books").fold()),
    "fold": Operation(_folded, lambda p: p.database.index("library", "books").fold()),
    "first compaction": Operation(_folded, Process.compact),
    "compaction": Operation(_large, Process.compact),
    "compaction of nothing": Operation(_emptied, Process.compact),
    "first import": Operation(_opened, Process.load),
    "import": Operation(_settled, Process.load),
    "collect": Operation(_aged, lambda p: collect(p.database)),
    "create index": Operation(_library, lambda p: p.create_index("maps")),
    "delete index": Operation(_folded, lambda p: p.database.delete_index("library", "books")),
    "create bucket": Operation(_library, lambda p: p.database.create_bucket("other", Encryption(), {}, quota=100)),
    "tag bucket": Operation(_library, lambda p: p.database.tag_bucket("library", _relabelled)),
    "delete bucket": Operation(_empty_library, lambda p: p.database.delete_bucket("library")),
}


def prepared(operation: Operation, disks: Path) -> World:
    world = World(disks=disks)
    operation.prepare(world, world.process())
    return world


def check_whole(world: World, seen: Snapshot, *, compactions: bool = True) -> None:
    """The world goes on: new writes and folds work, verification finds nothing, collection loses nothing."""
    process = world.process()
    if "library" not in seen:
        process.database.create_bucket("library", Encryption(), {}, quota=100)
    if "library/books" not in seen:
        process.create_index("books")
    process.put({"afterwards": b'{"n":6}'}, ["c"])
    process.fold()
    expected = world.snapshot()
    rows = expected["library/books"][1]
    assert rows is not None
    assert rows["afterwards"] == b'{"n":6}'
    assert "c" not in rows
    assert verify(process.database).findings == []
    if compactions and world.disks is not NO_DISK:
        _check_compactions(world, expected)
    world.clock.advance(GRACE.manifests_s + 1)
    for _ in range(2):
        assert collect(world.process().database).left == []
        assert world.snapshot() == expected
    assert verify(world.process().database).findings == []


def check_resumed(world: World, seen: Snapshot) -> None:
    """Whatever a compaction has left on the first machine: the next one there finishes it, and changes no row."""
    process = world.process()
    process.compact()
    assert not any(process.machine.iterdir())
    assert not process.database.index("library", "books").read().segments
    assert world.snapshot() == seen


def check_imported(world: World, before: Snapshot, after: Snapshot, *, abandon: bool) -> None:
    """Whatever an import has left: the next one on the first machine goes on with it, or begins anew."""
    process = world.process()
    if abandon:
        process.database.index("library", "books").abandon_import()
        assert world.snapshot() == before
    process.load()
    assert world.snapshot() == after
    assert not list(process.machine.iterdir())
    assert not process.database.index("library", "books").read().imports


def _check_compactions(world: World, expected: Snapshot) -> None:
    """A machine that knows nothing compacts; then there is nothing to do on the first one."""
    for machine in ("second", "first"):
        process = world.process(machine=machine)
        process.compact()
        assert not process.machine.is_dir() or not any(process.machine.iterdir())
        assert not process.database.index("library", "books").read().segments
        assert world.snapshot() == expected
