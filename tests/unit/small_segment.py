"""A small source of segments, of any shape: its numbers say which row, list and kind of byte they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from neve.segments.columns import Column
from neve.segments.layout import code_bytes
from neve.segments.rows import hash_key
from neve.segments.stream import Fetch, RowBlock
from neve.vectors.centroids import Centroids, quantise_centroids
from neve.vectors.metric import Metric
from neve.vectors.probing import Calibration

METADATA = tuple(
    text.encode()
    for text in ("{}", '{"a":1}', '{ "b" : [1, 2] }', '{"c":"é\\",\\"metadata\\":{"}', '{"d":"","metadata":{}}')
)
"""As clients send it: with spaces, with escapes, and with what a record is split by."""


def keys_of(rows: int) -> list[bytes]:
    """Keys of many kinds, in no order of their hashes."""
    kinds = ("key-{}", 'quo"te-{}', "back\\slash-{}", "é-{}-" + "long" * 250, "{},'metadata':", '{}","metadata":{{}}')
    return [kinds[row % len(kinds)].format(row).encode() for row in range(rows)]


@dataclass
class SmallSource:
    """`rows` rows in `lists` lists, each code spilled to the next list but one in `kept` rows."""

    rows: int
    lists: int
    dimension: int = 5
    metric: Metric = Metric.COSINE
    block_rows: int = 100
    kept: int = 3
    keys: list[bytes] = field(default_factory=list)
    non_filterable: tuple[str, ...] = ("metadata",)

    def __post_init__(self) -> None:
        self.keys = self.keys or keys_of(self.rows)
        rng = np.random.default_rng(self.rows)
        self.vectors = rng.standard_normal((self.rows, self.dimension), np.float32)
        self.packed = rng.integers(0, 256, (self.rows, code_bytes(self.dimension)), np.uint8)
        self.center = self.vectors.mean(axis=0)
        self.factors, self.biases = rng.random((2, self.rows), np.float32)
        cuts = np.sort(rng.integers(0, self.rows + 1, self.lists - 1))
        self.primary_starts = np.concatenate([[0], cuts, [self.rows]]).astype(np.uint32)
        self.hashes = np.fromiter(map(hash_key, self.keys), np.uint64, self.rows)
        self.positions = np.arange(self.rows, dtype=np.uint64) * 7 + 1
        self.metadata = [METADATA[row % len(METADATA)] for row in range(self.rows)]

    @cached_property
    def centroids(self) -> Centroids:
        points = np.random.default_rng(1).standard_normal((self.lists, self.dimension), np.float32)
        return quantise_centroids(points, self.metric, np.array([0, self.lists], np.uint32))

    @cached_property
    def calibration(self) -> Calibration:
        ks, targets = np.array([1, 10, 100]), np.array([0.9, 0.98])
        masses = np.linspace(0.3, 0.8, 6).reshape(3, 2)
        return Calibration(20.0, ks, targets, masses, 40 * masses)

    def members(self, list_: int) -> np.ndarray:
        own = [np.arange(*self.primary_starts[list_ : list_ + 2], dtype=np.uint32)]
        before = (list_ - 1) % self.lists
        spilled = (
            np.arange(*self.primary_starts[before : before + 2], dtype=np.uint32) if self.lists > 1 else own[0][:0]
        )
        return np.concatenate([*own, spilled[:: self.kept]])

    def row_blocks(self) -> Iterator[RowBlock]:
        for start in range(0, self.rows, self.block_rows):
            some = slice(start, start + self.block_rows)
            keys, metadata = Column.of(self.keys[some]), Column.of(self.metadata[some])
            yield RowBlock(self.hashes[some], self.positions[some], keys, metadata, self.vectors[some])

    def codes(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.packed[rows], self.factors[rows], self.biases[rows]


def fetch_from(folder: Path) -> Fetch:
    """Ranges of files; keys are names in the folder."""

    def fetch(key: str, start: int, stop: int) -> bytes:
        return (folder / key).read_bytes()[start:stop]

    return fetch
