"""A service with an index that has all kinds of rows: compacted, masked, hidden by recent ones, and recent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from neve.api.limits import LIMITS
from neve.api.service import Identity, Service
from neve.compaction.build import Means
from neve.compaction.compact import compact
from neve.index.database import Database
from neve.index.state import State
from neve.query.session import Session
from neve.store.blocks import Blocks
from neve.store.objects import memory_store
from neve.store.port import Store
from neve.store.tiers import Tiers
from tests.unit.api_calls import Calls, MovableRuntime

ADDRESS = {"vectorBucketName": "library", "indexName": "books"}
DIMENSION = 8
COMPACTED = 1500
"""Rows that are compacted first; of the key of every tenth a second version is compacted next, every 25th is recent."""


@contextmanager
def calls_of(store: Store, tiers: Tiers = Tiers()) -> Iterator[Calls]:  # noqa: B008, immutable
    """Calls of a process of its own, which has read nothing."""
    runtime = MovableRuntime()
    database = Database.open(store, runtime, blocks=tiers.open(runtime))
    yield Calls(Service(database, Identity(), LIMITS["wide"]), runtime)
    database.close()


@contextmanager
def compacted_calls(folder: Path, metric: str = "cosine", store: Store | None = None) -> Iterator[Calls]:
    """Calls on a fresh index, see `fill`."""
    with calls_of(store or memory_store()) as calls:
        calls("CreateVectorBucket", vectorBucketName="library")
        calls("CreateIndex", **ADDRESS, dataType="float32", dimension=DIMENSION, distanceMetric=metric)
        fill(calls, folder)
        yield calls


def fill(calls: Calls, folder: Path) -> None:
    """Put 1,500 rows and compact; overwrite 150 and compact; overwrite 60, delete 20 and put 10 new ones."""
    _put(calls, range(COMPACTED), 0)
    compact_now(calls, folder)
    _put(calls, range(0, COMPACTED, 10), 1)
    compact_now(calls, folder)
    _put(calls, range(0, COMPACTED, 25), 2)
    calls("DeleteVectors", **ADDRESS, keys=[f"key-{number}" for number in range(1, 200, 10)])
    _put(calls, range(COMPACTED, COMPACTED + 10), 2)


def compact_now(calls: Calls, folder: Path) -> None:
    """Fold and compact the index, whether it is due or not."""
    database = calls.service.database
    database.index("library", "books").fold()
    assert compact(database, "library", "books", Means(folder), asked=True) is not None


def state_of(calls: Calls) -> State:
    """The index as it is."""
    return calls.service.database.index("library", "books").read()


def cold(calls: Calls, blocks: Blocks | None = None) -> Session:
    """A session that has nothing at hand."""
    return Session(calls.service.database.store, blocks or Blocks(1 << 30))


def rows_of(calls: Calls) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
    """Vector and metadata of all live rows, by key: read by another path than searches take."""
    listed = calls("ListVectors", **ADDRESS, maxResults=10_000, returnData=True, returnMetadata=True)["vectors"]
    return {row["key"]: (np.array(row["data"]["float32"], np.float32), row["metadata"]) for row in listed}


def _put(calls: Calls, numbers: range, version: int) -> None:
    chance = np.random.default_rng(version)
    centers = np.random.default_rng(99).standard_normal((20, DIMENSION))
    vectors = centers[chance.integers(len(centers), size=len(numbers))]
    vectors = (vectors + 0.4 * chance.standard_normal(vectors.shape)).astype(np.float32)
    records = [
        {
            "key": f"key-{number}",
            "data": {"float32": vector},
            "metadata": {"version": version, "third": number % 3 == 0},
        }
        for number, vector in zip(numbers, vectors.tolist(), strict=True)
    ]
    calls("PutVectors", **ADDRESS, vectors=records)
