"""Reading a segment whole, in row order and in bounded memory: for compaction, and to verify it.

Every byte that is handed out has been held against its checksum.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from neve.dataclass import dataclass
from neve.errors import ObjectCorrupt
from neve.segments.columns import Column
from neve.segments.directory import Directory
from neve.segments.keyblocks import KeyBlock
from neve.segments.layout import KEY_ENTRY, LOCATION, code_row, split_record
from neve.segments.rows import hash_key
from neve.store.blocks import Block

if TYPE_CHECKING:
    from neve.segments.term_writer import TermRows

RANGE_BYTES = 8 * 1024 * 1024
"""What one request reads: long enough that its wait is small beside its transfer, short enough to hold several."""
GAP_BYTES_MAX = 1024 * 1024
"""Unwanted bytes that are read over rather than asked around: a chunk of keys between two chunks of records."""

Fetch = Callable[[str, int, int], bytes]
"""Bytes [start, stop) of an object by its key: one request. Raises StoreError."""


@dataclass(frozen=True, slots=True, eq=False)
class RowBlock:
    """Consecutive rows of a segment; `hashes`, `positions` uint64 [n], `vectors` float32 [n, d], as they were put."""

    hashes: np.ndarray
    positions: np.ndarray
    keys: Column
    metadata: Column
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.hashes)


def key_blocks(directory: Directory, fetch: Fetch, blocks: Sequence[int] | None = None) -> Iterator[KeyBlock]:
    """Blocks of the key index by their ascending numbers, all if None. Raises StoreError, ObjectCorrupt.

    One request per 8 MiB of blocks that follow one another.
    """
    ranges = [directory.key_block(block) for block in (range(directory.key_blocks) if blocks is None else blocks)]
    for raw in _read(fetch, ranges):
        yield KeyBlock.decode(directory.folder + directory.keys_object, raw)


def row_entries(directory: Directory, fetch: Fetch, entries: np.ndarray | None = None) -> np.ndarray:
    """The key entries in row order, KEY_ENTRY [rows]; into `entries` if given, which may be a file in memory.

    Reads the key index once. Raises StoreError, and ObjectCorrupt unless every row is there once.
    """
    entries = np.zeros(directory.rows, KEY_ENTRY) if entries is None else entries
    seen = np.zeros(directory.rows, np.bool_)
    count = 0
    for block in key_blocks(directory, fetch):
        rows = block.entries["row"]
        if np.any(rows >= directory.rows):
            raise ObjectCorrupt(f"{directory.folder}{directory.keys_object} has a row beyond {directory.rows}")
        entries[rows], seen[rows] = block.entries, True
        count += len(block)
    if count != directory.rows or not seen.all():
        raise ObjectCorrupt(f"{directory.folder}{directory.keys_object} does not name every row once")
    if np.any(entries["record_at"][1:] < entries["record_at"][:-1] + entries["record_bytes"][:-1]):
        raise ObjectCorrupt(f"{directory.folder}{directory.keys_object} has records that overlap")
    return entries


def row_blocks(
    directory: Directory, fetch: Fetch, entries: np.ndarray, start: int = 0, stop: int | None = None
) -> Iterator[RowBlock]:
    """Rows [start, stop) in row order, in blocks of at most 8 MiB of vectors and of records each.

    `entries` as from `row_entries`. Two requests a block. Raises StoreError, ObjectCorrupt.
    """
    stop = directory.rows if stop is None else stop
    rows_max = max(1, RANGE_BYTES // (4 * directory.dimension))
    while start < stop:
        some = entries[start : min(stop, start + rows_max)]
        ends = (some["record_at"] + some["record_bytes"]).astype(np.int64) - int(some["record_at"][0])
        some = some[: max(1, int(np.searchsorted(ends, RANGE_BYTES, side="right")))]
        yield _row_block(directory, fetch, start, some)
        start += len(some)


def _row_block(directory: Directory, fetch: Fetch, start: int, entries: np.ndarray) -> RowBlock:
    rows, width = len(entries), 4 * directory.dimension
    vectors_at = directory.vectors_offset + width * start + np.arange(rows + 1) * width
    key = directory.folder + directory.vectors_object
    raw = b"".join(_checked(fetch, key, vectors_at[:-1], vectors_at[1:], entries["vector_crc"]))
    vectors = np.frombuffer(raw, "<f4").reshape(rows, directory.dimension)
    key, records_at = directory.folder + directory.rows_object, entries["record_at"]
    records = _checked(fetch, key, records_at, records_at + entries["record_bytes"], entries["record_crc"])
    split = [split_record(key, record) for record in records]
    keys, metadata = (Column.of(values) for values in zip(*split, strict=True))
    hashes, positions = (np.ascontiguousarray(entries[name]) for name in ("hash", "position"))
    return RowBlock(hashes, positions, keys, metadata, vectors)


def verify_segment(
    directory: Directory, fetch: Fetch, entries: np.ndarray | None = None, terms: TermRows | None = None
) -> None:
    """Read a segment whole and hold everything that the directory leads to against everything else.

    `entries` as in `row_entries`. `terms` are those of its records, or none yet: they are entered; without them nobody
    asks whether the filter index says what the records say. Raises StoreError, and ObjectCorrupt with the object at
    fault. Memory: 43 bytes a row, of these 42 in `entries`, and what `terms` takes. Requests: one per 8 MiB of each
    object, and the key index twice.
    """
    entries = row_entries(directory, fetch, entries)
    _verify_keys(directory, fetch)
    first = 0
    for block in row_blocks(directory, fetch, entries):
        if terms is not None and terms.rows <= first:
            terms.add(first, block.metadata)
        first += len(block)
        if not _are_hashes(block.hashes, block.keys):
            raise ObjectCorrupt(f"{directory.folder}{directory.rows_object} and the key index differ in a key")
    _verify_codes(directory, fetch, entries)
    if directory.filters is not None:
        from neve.segments.termcheck import verify_terms  # for those who verify alone

        raws = _read(fetch, directory.filter_blocks(range(len(directory.filters))))
        verify_terms(directory, raws, None if terms is None else terms.postings())


def _are_hashes(hashes: np.ndarray, keys: Column) -> bool:
    return np.array_equal(np.fromiter(map(hash_key, keys), np.uint64, len(keys)), hashes)


def _verify_keys(directory: Directory, fetch: Fetch) -> None:
    heads = [*directory.key_heads.tolist(), 1 << 64]
    for (head, next_head), block in zip(pairwise(heads), key_blocks(directory, fetch), strict=True):
        hashes = block.entries["hash"]
        if hashes[0] != head or int(hashes[-1]) >= next_head or not _are_hashes(hashes, block.keys):
            raise ObjectCorrupt(f"{directory.folder}{directory.keys_object} has a key where none looks for it")


def _verify_codes(directory: Directory, fetch: Fetch, entries: np.ndarray) -> None:
    key, dtype = directory.folder + directory.codes_object, code_row(directory.dimension)
    lists = np.flatnonzero(directory.list_starts[1:] > directory.list_starts[:-1])
    edges = zip(directory.primary_starts[lists].tolist(), directory.primary_starts[lists + 1].tolist(), strict=True)
    for (first, last), raw in zip(edges, _read(fetch, directory.list_blocks(lists)), strict=True):
        codes = np.frombuffer(raw, dtype)
        rows = codes["row"]
        if np.any(rows >= directory.rows) or np.any(rows[: last - first] != np.arange(first, last)):
            raise ObjectCorrupt(f"{key} has other rows in the list that begins with row {first} than it should")
        if any(np.any(codes[name] != entries[name][rows]) for name in LOCATION):
            raise ObjectCorrupt(f"{key} and the key index differ about a row")


def _read(fetch: Fetch, blocks: Sequence[Block]) -> Iterator[bytes]:
    """The bytes of ascending blocks of one object; neighbours, and the few bytes between them, in one request."""
    first = 0
    while first < len(blocks):
        last, end = first + 1, blocks[first].start + RANGE_BYTES
        while last < len(blocks) and blocks[last].stop <= min(end, blocks[last - 1].stop + GAP_BYTES_MAX):
            last += 1
        starts, stops, crcs = (
            np.array([getattr(block, name) for block in blocks[first:last]]) for name in ("start", "stop", "crc")
        )
        yield from _checked(fetch, blocks[first].key, starts, stops, crcs)
        first = last


def _checked(fetch: Fetch, key: str, starts: np.ndarray, stops: np.ndarray, crcs: np.ndarray) -> list[bytes]:
    """The ascending ranges of an object, in one request; raises ObjectCorrupt where one is not what it was."""
    base, stop = int(starts[0]), int(stops[-1])
    raw = fetch(key, base, stop)
    edges = zip((starts.astype(np.int64) - base).tolist(), (stops.astype(np.int64) - base).tolist(), strict=True)
    parts = [raw[start:stop] for start, stop in edges]
    wrong = np.flatnonzero(np.fromiter(map(zlib.crc32, parts), np.uint32, len(parts)) != crcs)
    if len(raw) != stop - base or len(wrong):
        start, stop = (int(starts[wrong[0]]), int(stops[wrong[0]])) if len(wrong) else (base, stop)
        raise ObjectCorrupt(f"bytes {start} to {stop} of {key} do not match their checksum")
    return parts
