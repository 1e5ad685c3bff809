"""A small store with an object of every kind, and what a process that knows nothing reads from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neve.index.database import Database
from neve.index.entry import Write
from neve.index.records import Encryption, IndexConfig
from neve.segments.rows import Puts
from neve.store.port import Get, Reply, Request, Store
from neve.testing.clock import ManualClock, ManualRuntime
from neve.testing.objects import MemoryStore, Objects
from neve.vectors.metric import Metric
from tests.reading import everything

CONFIG = IndexConfig(3, Metric.EUCLIDEAN, ("text",), Encryption())


def database(store: Store, seed: str = "reader") -> Database:
    """A process that knows nothing yet; it waits in no real time."""
    return Database.open(store, ManualRuntime(ManualClock(), seed))


def small_store() -> Objects:
    """One bucket with a living index (two segments with rows hidden by each other, a tail) and a dropped one."""
    objects = Objects(ManualClock())
    one = database(MemoryStore(objects), "writer")
    one.create_bucket("library", Encryption(), {"owner": "us"}, quota=9)
    for name in ("books", "gone"):
        one.create_index("library", name, CONFIG, {"name": name}, quota=9)
        put(one, [f"k{number}" for number in range(12)], 1.0, name)
    one.delete_index("library", "gone")
    books = one.index("library", "books")
    books.fold()
    put(one, ["k1", "new"], 2.0)
    books.write(lambda _: Write(Puts((), np.empty((0, 3), np.float32), ()), ["k2", "k3"]))
    books.fold()
    put(one, ["k4", "newer"], 3.0)
    books.tag(lambda tags: {**tags, "a": "b"})
    books.write(lambda _: Write(Puts((), np.empty((0, 3), np.float32), ()), ["k5", "k1"]))
    assert [len(segment.deleted) for segment in books.read().segments] == [0, 2]
    return objects


def put(one: Database, keys: Sequence[str], value: float, name: str = "books") -> None:
    metadata = [b'{"n":%d}' % number for number in range(len(keys))]
    one.index("library", name).write(lambda _: Write(Puts(keys, np.full((len(keys), 3), value, np.float32), metadata)))


def content(store: Store) -> tuple[Any, ...]:
    """All that a client could learn."""
    one = database(store)
    state = one.index("library", "books").read()
    rows = everything(one, state)
    return (
        one.identity,
        one.list_buckets("", "", 9),
        one.list_indexes("library", "", "", 9),
        state.record,
        dict(state.tags),
        [(row.key, row.vector.tolist(), row.metadata) for row in rows],
    )


class WatchedStore:
    """Remembers the keys of all whole objects that were read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.read: set[str] = set()

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        self.read |= {request.key for request in requests if isinstance(request, Get)}
        return self._store.wave(requests)
