"""Listing in the order of the keys' hashes, which no write, fold or compaction changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neve.dataclass import dataclass
from neve.index.state import Part, State
from neve.query.fetch import Place, Row, read_rows, want_key_block
from neve.query.selection import BLOCKS_AT_ONCE, EVERYTHING, Selected, Selection, selected_of
from neve.query.session import Session
from neve.segments.directory import Directory
from neve.segments.keyblocks import KeyBlock
from neve.segments.rows import hash_key

BLOCKS_A_PAGE = 4096
"""Blocks of the key index (16 KiB) that a page reads of a segment at most, be there enough rows in them or not."""

_HASHES = 1 << 64

Spot = tuple[int, bytes, "Row | Place"]
"""Hash, key, and the row or where it is."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a listing: all rows up to it, by hash and key, have been seen."""

    hash: int
    key: str

    @classmethod
    def at(cls, key: str) -> Cursor:
        return cls(hash_key(key.encode()), key)

    @property
    def order(self) -> tuple[int, bytes]:
        """What rows are listed by."""
        return self.hash, self.key.encode()


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

    Only those of a selection.

    Segment i of n holds the hashes from i 2^64 / n on, rounded up: disjoint, and together everything.
    """

    limit: int
    after: Cursor | None = None
    segment: int = 0
    segments: int = 1
    vectors: bool = True
    metadata: bool = True
    selection: Selection = EVERYTHING

    @property
    def range(self) -> _Range:
        first, past = (-(-edge * _HASHES // self.segments) for edge in (self.segment, self.segment + 1))
        return _Range(first, past, None if self.after is None else self.after.order)


def list_rows(session: Session, state: State, page: Page) -> tuple[list[Row], Cursor | None]:
    """Live rows in hash order, and the cursor of the last row seen when more may follow: few or none may be shown then.

    No request for recent rows; else blocks of the key index (mostly one wave; with a prefix, until enough rows are
    found, BLOCKS_A_PAGE of each segment at most), and the rows where more than keys is asked for (one wave). With a
    condition first what `selected_of` reads. Raises StoreError.
    """
    asked, more = page.range, page.limit + 1
    found: list[Spot] = [spot for part in state.parts for spot in _recent(part, asked, more, page.selection)]
    edge: Cursor | None = None
    for selected in selected_of(session, state, page.selection):
        spots, seen = _compacted(session, state, selected, asked, more)
        found += spots
        edge = min((cursor for cursor in (edge, seen) if cursor is not None), key=lambda one: one.order, default=None)
    found.sort(key=lambda spot: spot[:2])
    if edge is not None:
        found = [spot for spot in found if spot[:2] <= edge.order]
    shown = found[: page.limit]
    places = {key.decode(): place for _, key, place in shown if isinstance(place, Place)}
    read = read_rows(session, places, vectors=page.vectors, metadata=page.metadata)
    rows = [place if isinstance(place, Row) else read[key.decode()] for _, key, place in shown]
    return rows, Cursor.at(rows[-1].key) if len(found) > page.limit and rows else edge


def _recent(part: Part, asked: _Range, limit: int, selection: Selection) -> list[Spot]:
    """The first live rows of a part within a range that are selected."""
    keys = part.rows.keys
    start = int(np.searchsorted(keys.hashes, np.uint64(asked.start)))
    stop = len(keys) if asked.past >= _HASHES else int(np.searchsorted(keys.hashes, np.uint64(asked.past)))
    while start < stop and not asked.holds(int(keys.hashes[start]), keys.keys[start]):
        start += 1
    live: Sequence[int] = (start + np.flatnonzero(selection.recent(part)[start:stop])[:limit]).tolist()
    return [
        (
            int(keys.hashes[row]),
            key := keys.keys[row],
            Row(key.decode(), part.rows.vectors[row], part.rows.metadata[row]),
        )
        for row in live
    ]


def _compacted(
    session: Session, state: State, selected: Selected, asked: _Range, limit: int
) -> tuple[list[Spot], Cursor | None]:
    """The first rows of a compacted segment within a range that are live and selected, at least `limit` of them.

    Fewer where there are no more, and where BLOCKS_A_PAGE have been read: then with the place up to which all are here.
    """
    directory, found = selected.compacted.directory, list[Spot]()
    numbers, counts = selected.blocks(asked.start, asked.past)
    expected = np.cumsum(counts)
    read, step, last = 0, 8, min(len(numbers), BLOCKS_A_PAGE)
    while read < last and len(found) < limit:
        due = limit - len(found) + (expected[read - 1] if read else 0)
        enough = int(np.searchsorted(expected, due)) + 2  # one more, since the cursor lies within the first
        ahead = numbers[read : min(max(enough, read + step if read else 0), read + BLOCKS_AT_ONCE, last)].tolist()
        for block in session.read([want_key_block(directory, number) for number in ahead]):
            found += _spots(state, directory, selected, block, asked)
        read, step = read + len(ahead), 4 * step  # much more, if so few of what was read was selected and live
    unread = numbers[read:].tolist() if len(found) < limit else []
    return found, Cursor(int(directory.key_heads[unread[0]]), "") if unread else None


def _spots(state: State, directory: Directory, selected: Selected, block: KeyBlock, asked: _Range) -> list[Spot]:
    places = selected.places(state, block)
    rows = zip(places.tolist(), block.entries["hash"][places].tolist(), block.keys.pick(places), strict=True)
    return [
        (hash_, key, Place(directory, block.entries[place])) for place, hash_, key in rows if asked.holds(hash_, key)
    ]
