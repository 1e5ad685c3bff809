"""The synthetic sets, for size and speed: one recipe, pinned, for any number of rows and dimensions.

Row i is the prose vector at place i of a fixed order, which repeats when it is over, with Gaussian noise of half its
norm, mapped to more dimensions by a fixed orthonormal map. Queries are made from the prose queries alike. A set of
fewer rows is the beginning of a larger one. What is recalled of it says nothing about real data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scripts.benchmarks.datasets import Dataset, Numbered, source, written
from tests.clients.corpus import Corpus
from tests.servers.tools import cache

SEED = 9
NOISE = 0.5
BLOCK_ROWS = 8_192
_MAP, _ORDER, _QUERIES, _ROWS = range(4)


def synthetic(data: Path | None, rows: int, dimension: int) -> Dataset:
    """A set of so many rows, made from the prose set or, where there is none, from the sample of WordNet.

    ValueError when it is to have fewer dimensions than what it is made from.
    """
    return written(*made("synthetic", data, rows, dimension))


def made(kind: str, data: Path | None, rows: int, dimension: int, *by: Path) -> tuple[Corpus, str]:
    """The corpus of such a set, and a digest of all that makes it: the files `by`, too. Raises ValueError."""
    base, sources = source(data, "prose")
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in (*sources, *by):
        digest.update(path.read_bytes())
    short = digest.hexdigest()[:16]
    recipe = Recipe(base.vectors, dimension)
    name = f"{kind}-{rows}x{dimension}"
    vectors = _vectors(recipe, rows, cache() / "bench" / f"{name}-{short}" / "vectors.npy")
    queries = recipe.noisy(base.queries, _QUERIES, 0)
    metadata = Repeated(base.metadata, base.non_filterable, recipe.order, range(rows))
    return Corpus(name, Numbered(range(rows)), vectors, metadata, (), {}, base.origins, queries, {}), short


class Recipe:
    """How rows and queries are made: the same ones for the same source and dimension."""

    def __init__(self, source: np.ndarray, dimension: int) -> None:
        self.source = source
        self.order = _chance(_ORDER, 0).permutation(len(source))
        self.map = orthonormal(source.shape[1], dimension)

    def block(self, number: int) -> np.ndarray:
        """Rows [BLOCK_ROWS, dimension] from number · BLOCK_ROWS on, of unit length."""
        rows = np.arange(number * BLOCK_ROWS, (number + 1) * BLOCK_ROWS) % len(self.source)
        return self.noisy(self.source[self.order[rows]], _ROWS, number)

    def noisy(self, vectors: np.ndarray, purpose: int, number: int) -> np.ndarray:
        """Unit vectors with noise, mapped, of unit length again."""
        noise = _chance(purpose, number).standard_normal(vectors.shape, np.float32)
        moved = (vectors + noise * np.float32(NOISE / vectors.shape[1] ** 0.5)) @ self.map
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        return np.ascontiguousarray(moved, np.float32)


def orthonormal(low: int, high: int) -> np.ndarray:
    """A random map [low, high] that keeps lengths and angles; ValueError where there is no room for them."""
    if high < low:
        raise ValueError(f"vectors of {low} dimensions do not fit into {high}")
    columns, triangle = np.linalg.qr(_chance(_MAP, 0).standard_normal((high, low)))
    return (columns * np.sign(np.diagonal(triangle))).T.astype(np.float32)


class Repeated(Sequence[Mapping[str, object]]):
    """Metadata of rows that come from others: that of theirs, without what was not filterable."""

    def __init__(
        self, metadata: Sequence[Mapping[str, object]], without: Sequence[str], order: np.ndarray, rows: range
    ) -> None:
        self._metadata, self._without, self._order, self._rows = metadata, frozenset(without), order, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int | slice) -> Mapping[str, object] | Repeated:
        row = self._rows[place]
        if isinstance(row, range):
            return Repeated(self._metadata, tuple(self._without), self._order, row)
        whole = self._metadata[self._order[row % len(self._order)]]
        return {name: value for name, value in whole.items() if name not in self._without}


def _chance(purpose: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[SEED, purpose << 32 | number]))


def _vectors(recipe: Recipe, rows: int, path: Path) -> np.ndarray:
    """The vectors in a file, which is written in blocks unless it is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        shape = (rows, recipe.map.shape[1])
        file = np.lib.format.open_memmap(unfinished, "w+", np.float32, shape)
        for start in range(0, rows, BLOCK_ROWS):
            file[start : start + BLOCK_ROWS] = recipe.block(start // BLOCK_ROWS)[: rows - start]
        file.flush()
        unfinished.rename(path)
    return np.load(path, mmap_mode="r")
