"""Warming: the blocks of an index read ahead of its queries, as far as memory and disk hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from neve.dataclass import dataclass
from neve.index.state import State
from neve.query.fetch import want_key_block
from neve.query.hits import want_record, want_vector
from neve.query.lists import want_lists
from neve.query.matching import want_term_blocks
from neve.query.session import Session
from neve.segments.directory import Directory
from neve.segments.keyblocks import KeyBlock
from neve.segments.layout import KEY_ENTRY, code_row
from neve.store.blocks import VALUE_OVERHEAD_BYTES, Blocks, Wanted
from neve.store.ranges import Spacing

BATCH_BYTES = 64 << 20
"""What is read in one wave."""
DISK_SHARE = 0.9
"""A fuller disk tier begins to remove what was written to it first, which is what queries need most."""
_SPACING = Spacing(gap_bytes=1 << 20, gap_bytes_max=1 << 20, span_bytes_max=8 << 20)


@dataclass(frozen=True, slots=True)
class WarmedPart:
    """Stored bytes of one kind of blocks: those now in memory, those on disk alone, and those that found no room."""

    name: str
    blocks: int
    size_bytes: int
    memory_bytes: int
    disk_bytes: int

    @property
    def left_bytes(self) -> int:
        return self.size_bytes - self.memory_bytes - self.disk_bytes


@dataclass(frozen=True, slots=True)
class Warmed:
    """The blocks of an index, in the order in which they were loaded."""

    parts: tuple[WarmedPart, ...]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Blocks to load; `take` is handed their values, wherever they are kept."""

    wanted: Sequence[Wanted]
    take: Callable[[Sequence[Any]], None] | None = None


def warm(session: Session, state: State) -> Warmed:
    """Load the compacted segments of an index: codes, key index, filter index, vectors, records, as far as they fit.

    What every query reads comes first. The key index is small, and has the checksums of what follows. Reads what is
    neither in memory nor on disk once, in requests of up to 8 MiB, 8 or more in a wave; 50 bytes of memory a row.
    Raises StoreError.
    """
    loader = _Loader(session)
    segments = [(one.directory, np.zeros(one.directory.rows, KEY_ENTRY)) for one in state.compacted]
    codes = loader.load("codes", (batch for directory, _ in segments for batch in _codes(directory)))
    keys = loader.load("keys", (batch for segment in segments for batch in _keys(*segment)))
    filters = loader.load("filters", (batch for directory, _ in segments for batch in _filters(directory)))
    live = [
        (directory, entries if one.masked is None else entries[~one.masked])
        for one, (directory, entries) in zip(state.compacted, segments, strict=True)
    ]
    vectors = loader.load("vectors", (batch for segment in live for batch in _vectors(*segment)))
    records = loader.load("records", (batch for segment in live for batch in _records(*segment)))
    return Warmed((codes, keys, filters, vectors, records))


class _Loader:
    """Puts blocks where there is room for them, in memory first; what it has put there it does not push out again."""

    def __init__(self, session: Session) -> None:
        self._store = session.store
        self._memory = session.blocks
        self._disk = session.blocks.without_memory()
        self._nowhere = Blocks(0)
        self._memory_left = session.blocks.memory_bytes_max
        self._disk_left = int(DISK_SHARE * session.blocks.disk_bytes_max)

    def load(self, name: str, batches: Iterable[_Batch]) -> WarmedPart:
        """Blocks of one kind."""
        blocks = 0
        total, in_memory, on_disk = 0, 0, 0
        for batch in batches:
            sizes = np.array([one.block.stop - one.block.start for one in batch.wanted], np.int64)
            costs = np.array([one.size_bytes + VALUE_OVERHEAD_BYTES for one in batch.wanted], np.int64)
            first = _fitting(costs, self._memory_left)
            last = first + _fitting(sizes[first:], self._disk_left)
            self._memory_left -= int(costs[:first].sum())
            self._disk_left -= int(sizes[:last].sum())
            values = self._read(self._memory, batch.wanted[:first]) + self._read(self._disk, batch.wanted[first:last])
            if batch.take is not None:
                batch.take(values + self._read(self._nowhere, batch.wanted[last:]))
            blocks += len(sizes)
            total += int(sizes.sum())
            in_memory += int(sizes[:first].sum())
            on_disk += int(sizes[first:last].sum())
        return WarmedPart(name, blocks, total, in_memory, on_disk)

    def _read(self, blocks: Blocks, wanted: Sequence[Wanted]) -> list[Any]:
        reading = blocks.plan(wanted, _SPACING)
        values = reading.values(self._store.wave(reading.requests) if reading.requests else [])
        blocks.close()  # what waits for the disk is written before more is read: the queue drops what is too much
        return values


def _fitting(sizes: np.ndarray, room: int) -> int:
    """How many of the first sizes there is room for."""
    return int(np.searchsorted(np.cumsum(sizes), room, side="right"))


def _codes(directory: Directory) -> Iterator[_Batch]:
    row_bytes = code_row(directory.dimension).itemsize
    for lists in _cut(np.diff(directory.list_starts.astype(np.int64)) * row_bytes):
        yield _Batch(want_lists(directory, lists))


def _keys(directory: Directory, entries: np.ndarray) -> Iterator[_Batch]:
    def take(blocks: Sequence[KeyBlock]) -> None:
        for block in blocks:
            entries[block.entries["row"]] = block.entries

    for numbers in _cut(np.diff(directory.key_starts.astype(np.int64))):
        yield _Batch([want_key_block(directory, number) for number in numbers.tolist()], take)


def _filters(directory: Directory) -> Iterator[_Batch]:
    if directory.filters is not None:
        for numbers in _cut(np.diff(directory.filters.starts.astype(np.int64))):
            yield _Batch(want_term_blocks(directory, numbers.tolist()))


def _vectors(directory: Directory, entries: np.ndarray) -> Iterator[_Batch]:
    for rows in _cut(np.full(len(entries), 4 * directory.dimension)):
        pairs = zip(entries["row"][rows].tolist(), entries["vector_crc"][rows].tolist(), strict=True)
        yield _Batch([want_vector(directory, row, crc) for row, crc in pairs])


def _records(directory: Directory, entries: np.ndarray) -> Iterator[_Batch]:
    for rows in _cut(entries["record_bytes"].astype(np.int64)):
        yield _Batch([want_record(directory, entry) for entry in entries[rows]])


def _cut(sizes: np.ndarray) -> list[np.ndarray]:
    """The numbers of some blocks, cut into batches by their sizes in bytes."""
    ends = np.cumsum(sizes)
    return np.split(np.arange(len(sizes)), np.flatnonzero(np.diff(ends // BATCH_BYTES)) + 1) if len(sizes) else []
