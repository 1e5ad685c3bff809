"""Listing in the order of the keys' hashes, which no write, fold or compaction changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neve.index.state import Part, State
from neve.query.fetch import Row
from neve.segments.rows import hash_key

_HASHES = 1 << 64


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a listing: the last row that has been seen."""

    hash: int
    key: str

    @classmethod
    def at(cls, key: str) -> Cursor:
        return cls(hash_key(key.encode()), key)


def list_rows(
    state: State, after: Cursor | None, limit: int, segment: int, segments: int
) -> tuple[list[Row], Cursor | None]:
    """Up to `limit` live rows after a cursor, and the cursor of the last one when more follow. No request.

    Segment i of n holds the hashes from i 2^64 / n on, rounded up: disjoint, and together everything.
    """
    first, past = -(-segment * _HASHES // segments), -(-(segment + 1) * _HASHES // segments)
    found = []
    for part in state.parts:
        rows = _next_rows(part, after, limit + 1, first, past)
        keys = part.rows.keys
        found += [(int(keys.hashes[row]), keys.keys[row], part, row) for row in rows]
    found.sort(key=lambda spot: spot[:2])
    page = [Row(key.decode(), part.rows.vectors[row], part.rows.metadata[row]) for _, key, part, row in found[:limit]]
    return page, Cursor.at(page[-1].key) if len(found) > limit and page else None


def _next_rows(part: Part, after: Cursor | None, limit: int, first: int, past: int) -> list[int]:
    """Live rows of a part after a cursor and within [first, past) of hashes."""
    keys = part.rows.keys
    start = int(np.searchsorted(keys.hashes, np.uint64(first)))
    stop = len(keys) if past >= _HASHES else int(np.searchsorted(keys.hashes, np.uint64(past)))
    if after is not None:
        start = max(start, int(np.searchsorted(keys.hashes, np.uint64(after.hash))))
        last = (after.hash, after.key.encode())
        while start < stop and (int(keys.hashes[start]), keys.keys[start]) <= last:
            start += 1
    live: list[int] = (start + np.flatnonzero(part.live[start:stop])[:limit]).tolist()
    return live
