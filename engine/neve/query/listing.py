"""Listing in the order of the keys' hashes, which no write, fold or compaction changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neve.index.state import Compacted, Part, State
from neve.query.fetch import Place, Row, read_rows, want_key_block
from neve.query.session import Session
from neve.segments.keyblocks import KeyBlock
from neve.segments.rows import hash_key

_HASHES = 1 << 64

Spot = tuple[int, bytes, "Row | Place"]
"""Hash, key, and the row or where it is."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a listing: the last row that has been seen."""

    hash: int
    key: str

    @classmethod
    def at(cls, key: str) -> Cursor:
        return cls(hash_key(key.encode()), key)


@dataclass(frozen=True, slots=True)
class _Range:
    """Hashes [first, past), and of them what comes after a (hash, key)."""

    first: int
    past: int
    after: tuple[int, bytes] | None

    @property
    def start(self) -> int:
        return max(self.first, 0 if self.after is None else self.after[0])

    def holds(self, hash_: int, key: bytes) -> bool:
        return self.first <= hash_ < self.past and (self.after is None or (hash_, key) > self.after)


@dataclass(frozen=True, slots=True)
class Page:
    """What a listing asks: up to `limit` rows after a cursor, in segment i of n, with vectors and metadata or without.

    Segment i of n holds the hashes from i 2^64 / n on, rounded up: disjoint, and together everything.
    """

    limit: int
    after: Cursor | None = None
    segment: int = 0
    segments: int = 1
    vectors: bool = True
    metadata: bool = True

    @property
    def range(self) -> _Range:
        first, past = (-(-edge * _HASHES // self.segments) for edge in (self.segment, self.segment + 1))
        return _Range(first, past, None if self.after is None else (self.after.hash, self.after.key.encode()))


def list_rows(session: Session, state: State, page: Page) -> tuple[list[Row], Cursor | None]:
    """Live rows in hash order, and the cursor of the last one when more follow.

    No request for recent rows; else blocks of the key index (mostly one wave), and the rows where more than keys is
    asked for (one wave). Raises StoreError.
    """
    asked, more = page.range, page.limit + 1
    found: list[Spot] = [spot for part in state.parts for spot in _recent(part, asked, more)]
    for compacted in state.compacted:
        found += _compacted(session, state, compacted, asked, more)
    found.sort(key=lambda spot: spot[:2])
    shown = found[: page.limit]
    places = {key.decode(): place for _, key, place in shown if isinstance(place, Place)}
    read = read_rows(session, places, vectors=page.vectors, metadata=page.metadata)
    rows = [place if isinstance(place, Row) else read[key.decode()] for _, key, place in shown]
    return rows, Cursor.at(rows[-1].key) if len(found) > page.limit and rows else None


def _recent(part: Part, asked: _Range, limit: int) -> list[Spot]:
    """The first live rows of a part within a range."""
    keys = part.rows.keys
    start = int(np.searchsorted(keys.hashes, np.uint64(asked.start)))
    stop = len(keys) if asked.past >= _HASHES else int(np.searchsorted(keys.hashes, np.uint64(asked.past)))
    while start < stop and not asked.holds(int(keys.hashes[start]), keys.keys[start]):
        start += 1
    live: Sequence[int] = (start + np.flatnonzero(part.live[start:stop])[:limit]).tolist()
    return [
        (
            int(keys.hashes[row]),
            key := keys.keys[row],
            Row(key.decode(), part.rows.vectors[row], part.rows.metadata[row]),
        )
        for row in live
    ]


def _compacted(session: Session, state: State, compacted: Compacted, asked: _Range, limit: int) -> list[Spot]:
    """The first live rows of a compacted segment within a range that no recent key hides."""
    directory, found = compacted.directory, list[Spot]()
    number = max(0, directory.key_block_of(asked.start) or 0)
    last = directory.key_block_of(asked.past - 1)
    stop = 0 if last is None else last + 1
    while number < stop and len(found) < limit:
        rows_a_block = max(1, directory.rows // directory.key_blocks)
        ahead = range(number, min(stop, number + 1 + (limit - len(found)) // rows_a_block))
        for block in session.read([want_key_block(directory, i) for i in ahead]):
            found += _live_spots(state, compacted, block, asked)
        number = ahead.stop
    return found[:limit]


def _live_spots(state: State, compacted: Compacted, block: KeyBlock, asked: _Range) -> list[Spot]:
    entries, directory = block.entries, compacted.directory
    alive = np.ones(len(block), np.bool_) if compacted.masked is None else ~compacted.masked[entries["row"]]
    hashes = np.ascontiguousarray(entries["hash"])
    suspects = state.may_hide(hashes)
    return [
        (hash_, key, Place(directory, entries[row]))
        for row, hash_ in zip(np.flatnonzero(alive).tolist(), hashes[alive].tolist(), strict=True)
        if asked.holds(hash_, key := block.keys[row]) and not (suspects[row] and state.hides(hash_, key))
    ]
