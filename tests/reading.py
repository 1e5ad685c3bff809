"""What tests read of an index, past the API."""

from __future__ import annotations

import numpy as np

from neve.index.database import Database
from neve.index.state import State
from neve.query.fetch import Row
from neve.query.listing import Page, list_rows
from neve.query.search import Query, search
from neve.query.session import Session


def session(database: Database) -> Session:
    """A session of its own, as each call of an operation has."""
    return Session(database.store, database.blocks)


def everything(database: Database, state: State) -> list[Row]:
    """All live rows of an index, in hash order of their keys."""
    rows, cursor = list_rows(session(database), state, Page(1_000_000))
    assert cursor is None
    return rows


def nearest(database: Database, state: State, query: Query) -> list[tuple[str, float, bytes]]:
    """Key, distance and metadata of the hits of a search."""
    reading = session(database)
    hits = search(reading, state, query)
    named = hits.named(reading, 0, len(hits))
    return [(key.decode(), distance, raw) for (key, raw), distance in zip(named, hits.distances.tolist(), strict=True)]


def nearest_keys(database: Database, state: State, vector: np.ndarray, k: int) -> list[str]:
    return [key for key, _, _ in nearest(database, state, Query(vector, k))]
