"""Rows of an index as columns, in the order of (hash of the key, key): the order of listings, tails and segments alike.

A row's position is the number of the log entry that wrote it; an entry holds a key at most once, so the live version
of a key is the one with the highest position. A tombstone is a deletion that older rows still have to be hidden by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from neve.dataclass import dataclass
from neve.segments.columns import Column, concatenate


def hash_key(key: bytes) -> int:
    """BLAKE2b-64 of a key's UTF-8 bytes, big-endian: the stable order of keys in an index."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class Puts:
    """Rows as a client sends them; `vectors` float32 [n, d], `metadata` JSON objects (b"{}" where none was given)."""

    keys: Sequence[str]
    vectors: np.ndarray
    metadata: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys in (hash, key) order with the positions they were written at; `hashes`, `positions` uint64 [n]."""

    hashes: np.ndarray
    keys: Column
    positions: np.ndarray

    @classmethod
    def of(cls, keys: Sequence[bytes], position: int) -> tuple[Keys, np.ndarray]:
        """Sorted keys, and the order [n] that sorts what belongs to them."""
        hashes = np.fromiter(map(hash_key, keys), np.uint64, len(keys))
        order = sort_order(hashes, keys)
        return cls(hashes[order], Column.of([keys[i] for i in order]), np.full(len(keys), position, np.uint64)), order

    def __len__(self) -> int:
        return len(self.hashes)

    def find(self, hash_: int, key: bytes) -> int | None:
        """Row of a key, None where it is not."""
        row = int(np.searchsorted(self.hashes, np.uint64(hash_)))
        while row < len(self.hashes) and self.hashes[row] == hash_:
            if self.keys[row] == key:
                return row
            row += 1
        return None

    def match(self, others: Keys) -> tuple[np.ndarray, np.ndarray]:
        """Rows of ours and rows of `others` that hold the same key, pairwise; keys are compared, not only hashes."""
        near = np.searchsorted(self.hashes, others.hashes)
        near[near == len(self)] = 0
        hits = np.flatnonzero(self.hashes[near] == others.hashes) if len(self) else np.empty(0, np.intp)
        if not len(hits):
            return hits, hits
        pairs = [(self.find(int(others.hashes[i]), others.keys[i]), i) for i in hits.tolist()]
        found = np.array([pair for pair in pairs if pair[0] is not None], np.intp).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    def take(self, rows: np.ndarray) -> Keys:
        return Keys(self.hashes[rows], self.keys.take(rows), self.positions[rows])


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Rows:
    """Vectors and metadata beside their keys; `vectors` float32 [n, d]."""

    keys: Keys
    vectors: np.ndarray
    metadata: Column

    @classmethod
    def of(cls, puts: Puts, position: int) -> Rows:
        """Rows of a put, all at one position; a key must not repeat."""
        keys, order = Keys.of([key.encode() for key in puts.keys], position)
        return cls(keys, puts.vectors[order], Column.of([puts.metadata[i] for i in order]))

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: np.ndarray) -> Rows:
        return Rows(self.keys.take(rows), self.vectors[rows], self.metadata.take(rows))


def sort_order(hashes: np.ndarray, keys: Sequence[bytes] | Column) -> np.ndarray:
    """The order [n] of (hash, key); equal keys keep their order."""
    order = np.argsort(hashes, kind="stable")
    if np.any(np.diff(hashes[order]) == 0):
        order = np.array(sorted(range(len(hashes)), key=lambda i: (int(hashes[i]), keys[i])), np.intp)
    return order


def merge_keys(parts: Sequence[Keys]) -> tuple[Keys, np.ndarray]:
    """All keys of several sorted runs in one, repeats kept, and the order [n] over their concatenation."""
    hashes = np.concatenate([part.hashes for part in parts])
    keys = concatenate([part.keys for part in parts])
    order = sort_order(hashes, keys)
    positions = np.concatenate([part.positions for part in parts])
    return Keys(hashes[order], keys.take(order), positions[order]), order


def merge_rows(parts: Sequence[Rows]) -> Rows:
    """All rows of several sorted runs in one; at least one run, no key twice."""
    if len(parts) == 1:
        return parts[0]
    keys, order = merge_keys([part.keys for part in parts])
    vectors = np.concatenate([part.vectors for part in parts])[order]
    return Rows(keys, vectors, concatenate([part.metadata for part in parts]).take(order))


def live_masks(runs: Sequence[Keys]) -> list[np.ndarray]:
    """For each run a mask [n] of the keys whose position is the highest of that key in all runs."""
    hashes = np.concatenate([run.hashes for run in runs])
    starts = np.cumsum([0, *map(len, runs)])
    order = np.argsort(hashes, kind="stable")
    repeated = np.flatnonzero(np.diff(hashes[order]) == 0)
    live = np.ones(len(hashes), np.bool_)
    best: dict[bytes, tuple[int, int]] = {}
    for spot in np.union1d(order[repeated], order[repeated + 1]).tolist():
        run = int(np.searchsorted(starts, spot, side="right")) - 1
        row = spot - int(starts[run])
        key, mine = runs[run].keys[row], (int(runs[run].positions[row]), spot)
        rival = best.setdefault(key, mine)
        if rival != mine:
            best[key] = max(rival, mine)
            live[min(rival, mine)[1]] = False
    return np.split(live, starts[1:-1])


def live_digest(hashes: np.ndarray, positions: np.ndarray) -> int:
    """Order-free 64-bit digest of (key, position) pairs: the sum of a mix of each pair, modulo 2^64.

    The mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014) over the hash, then over hash XOR position.
    """
    with np.errstate(over="ignore"):
        mixed = _mix(_mix(hashes) ^ positions)
        return int(np.sum(mixed, dtype=np.uint64))


def _mix(values: np.ndarray) -> np.ndarray:
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: np.ndarray = values ^ (values >> np.uint64(31))
    return result
