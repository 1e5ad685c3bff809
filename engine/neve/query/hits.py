"""Hits: the nearest rows of an index, their keys and metadata read when they are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from neve.dataclass import dataclass
from neve.query.session import Session
from neve.segments.directory import Directory
from neve.segments.layout import split_record
from neve.store.blocks import Wanted

Named = tuple[bytes, bytes]
"""Key (UTF-8) and metadata (a JSON object as stored) of a row."""


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """Where a compacted row lies: its segment, and its location (see LOCATION)."""

    directory: Directory
    location: np.void


@dataclass(frozen=True, slots=True)
class Hits:
    """The nearest rows: `distances` float32 ascending, equal ones by the hash of their key.

    A source is a recent row's key and metadata, or where a compacted row lies.
    """

    distances: np.ndarray
    sources: Sequence[Named | Located]

    def __len__(self) -> int:
        return len(self.sources)

    def within(self, distance: float | None) -> Hits:
        """Those at most so far away; all if None."""
        if distance is None:
            return self
        stop = int(np.searchsorted(self.distances.astype(np.float64), distance, side="right"))
        return Hits(self.distances[:stop], self.sources[:stop])

    def named(self, session: Session, start: int, stop: int) -> list[Named]:
        """Keys and metadata of the hits [start, stop). At most one wave. Raises StoreError."""
        shown = self.sources[start:stop]
        located = [want_record(source.directory, source.location) for source in shown if isinstance(source, Located)]
        read = iter(session.read(located))
        return [next(read) if isinstance(source, Located) else source for source in shown]


def want_record(directory: Directory, location: np.void) -> Wanted:
    """The record of a compacted row at a location (see LOCATION)."""
    at, size, crc = int(location["record_at"]), int(location["record_bytes"]), int(location["record_crc"])
    return Wanted(directory.record_block(at, size, crc), _decode_record(directory), size)


def _decode_record(directory: Directory) -> Callable[[memoryview], Named]:
    name = directory.folder + directory.rows_object
    return lambda raw: split_record(name, bytes(raw))


def want_vector(directory: Directory, row: int, crc: int) -> Wanted:
    """The vector float32 [d] of a compacted row."""
    return Wanted(directory.vector_block(row, crc), decode_vector, 4 * directory.dimension)


def decode_vector(raw: memoryview) -> np.ndarray:
    return np.frombuffer(raw, "<f4").copy()
