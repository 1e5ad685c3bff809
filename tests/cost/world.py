"""A counted store in memory, and a small index on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neve.index.database import Database
from neve.index.entry import Write
from neve.index.index import Index
from neve.index.records import Encryption, IndexConfig
from neve.runtime import SystemRuntime
from neve.segments.rows import Puts
from neve.store.counting import CountingStore
from neve.store.objects import memory_store
from neve.store.port import Store
from neve.vectors.metric import Metric

DIMENSION = 4


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the engine on a store, with the bill of its own requests."""

    store: CountingStore
    database: Database

    @property
    def index(self) -> Index:
        return self.database.index("library", "books")

    def put(self, keys: Sequence[str]) -> None:
        self.index.write(lambda _: Write(Puts(keys, vectors(keys), [b'{"n":1}'] * len(keys))))

    def waves(self) -> list[tuple[str, ...]]:
        """The waves since the last time that this was asked."""
        return self.store.new_bill().waves

    def settle(self) -> None:
        """Wait for folds in the background."""
        self.database.close()


class World:
    """Processes that share one store in memory."""

    def __init__(self) -> None:
        self.objects: Store = memory_store()
        first = self.process()
        first.database.create_bucket("library", Encryption(), {}, quota=10)
        config = IndexConfig(DIMENSION, Metric.COSINE, None, Encryption())
        first.database.create_index("library", "books", config, {}, quota=10)
        self.first = first

    def process(self) -> Process:
        """A process that knows nothing yet but the store's identity."""
        store = CountingStore(self.objects)
        database = Database.open(store, SystemRuntime())
        store.new_bill()
        return Process(store, database)


def vectors(keys: Sequence[str]) -> np.ndarray:
    """Vectors that depend on their keys alone."""
    return np.array([np.random.default_rng(list(key.encode())).random(DIMENSION) + 0.1 for key in keys], np.float32)
