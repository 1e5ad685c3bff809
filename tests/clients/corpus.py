"""Real embeddings to load and to ask, and what is true of them: found by brute force, without the engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from neve.testing.reference import meets

PUT_MAX = 500
TIE = 1e-6
"""Similarities that differ by less count as equal at the k-th place (README of the data)."""

# The sample has no filters of its own.
_SAMPLE_FILTERS: dict[str, dict] = {
    "nouns": {"pos": "noun"},
    "not-nouns": {"pos": {"$ne": "noun"}},
    "ambiguous": {"senses": {"$gte": 5}},
    "middling": {"$and": [{"used": {"$gt": 10}}, {"used": {"$lte": 20}}]},
    "people-or-animals": {"domain": {"$in": ["person", "animal"]}},
    "by-word": {"words": {"$startsWith": "be"}},
    "either": {"$or": [{"pos": {"$eq": "verb"}}, {"senses": {"$eq": 1}}]},
    "often": {"used": {"$gte": 1000}},
}


@dataclass(frozen=True, slots=True)
class Corpus:
    """Rows and queries of unit length; `kept` says how many rows each filter keeps, where its source tells."""

    name: str
    keys: Sequence[str]
    vectors: np.ndarray
    metadata: Sequence[Mapping[str, object]]
    non_filterable: Sequence[str]
    filters: Mapping[str, dict]
    origins: Sequence[str]
    queries: np.ndarray
    kept: Mapping[str, int]

    @property
    def shape(self) -> dict[str, Any]:
        """What CreateIndex asks for beside names."""
        return {
            "dataType": "float32",
            "dimension": self.vectors.shape[1],
            "distanceMetric": "cosine",
            "metadataConfiguration": {"nonFilterableMetadataKeys": list(self.non_filterable)},
        }

    def head(self, rows: int) -> Corpus:
        """The same corpus with its first rows only."""
        return replace(self, keys=self.keys[:rows], vectors=self.vectors[:rows], metadata=self.metadata[:rows], kept={})

    def puts(
        self, start: int, stop: int, vector: Callable[[np.ndarray], object] = np.ndarray.tolist
    ) -> Iterator[list[dict]]:
        """Rows [start, stop) as PutVectors takes them, as many at once as it takes."""
        for first in range(start, min(stop, len(self.keys)), PUT_MAX):
            rows = range(first, min(first + PUT_MAX, stop, len(self.keys)))
            yield [
                {"key": self.keys[row], "data": {"float32": vector(self.vectors[row])}, "metadata": self.metadata[row]}
                for row in rows
            ]

    def passing(self, condition: dict | None) -> np.ndarray:
        """Mask [rows] of a filter, by its naive meaning; of all rows where there is none."""
        if condition is None:
            return np.ones(len(self.keys), np.bool_)
        return np.fromiter((meets(condition, row) for row in self.metadata), np.bool_, len(self.keys))

    def by_origin(self, each: int) -> list[int]:
        """The first so many queries of every origin."""
        return [number for origin in dict.fromkeys(self.origins) for number in self._of(origin)[:each]]

    def _of(self, origin: str) -> list[int]:
        return [number for number, own in enumerate(self.origins) if own == origin]


class Truth:
    """The exact answers to some queries."""

    def __init__(self, corpus: Corpus, queries: np.ndarray) -> None:
        """Float64 all the way: similarities [queries, rows] of unit vectors."""
        self.similarities = _units(queries) @ _units(corpus.vectors).T
        self._row_of = {key: row for row, key in enumerate(corpus.keys)}

    def rows(self, keys: Sequence[str]) -> np.ndarray:
        """Rows of found keys; KeyError for a key that was never put."""
        return np.array([self._row_of[key] for key in keys], np.intp)

    def recall(self, query: int, k: int, passing: np.ndarray, found: np.ndarray) -> float:
        """Share of the k nearest passing rows that the found rows stand for; NaN where nothing passes."""
        pool = self.similarities[query][passing]
        count = min(k, len(pool))
        if count == 0:
            return float("nan")
        floor = np.partition(pool, -count)[-count] - TIE
        good = np.unique(found[passing[found]])
        return min(1.0, float(np.count_nonzero(self.similarities[query][good] >= floor)) / count)


def debian_or_sample(folder: Path) -> Corpus:
    """The Debian set where the folder has it, else the sample of WordNet."""
    return shared_set(folder, "debian") if (folder / "debian.parquet").is_file() else _sample(folder)


def shared_set(folder: Path, name: str) -> Corpus:
    """A big set, "debian" or "prose", of the folder that has them."""
    data = _module(folder / "load.py")
    keys, vectors, metadata = data.load(name)
    origins, _, queries = data.load_queries(name)
    kept = _kept((folder / "README.md").read_text(), name)
    return Corpus(
        name, keys, vectors, metadata, data.NON_FILTERABLE[name], data.load_filters(name), origins, queries, kept
    )


def _sample(folder: Path) -> Corpus:
    table, asks = (pq.read_table(folder / f"wordnet-sample{part}.parquet") for part in ("", "-asks"))
    vectors = _matrix(table)
    between = vectors[: len(asks)] + vectors[len(asks) : 2 * len(asks)]
    queries = np.concatenate([_matrix(asks), between]).astype(np.float32)
    origins = ["ask"] * len(asks) + ["between two members"] * len(asks)
    metadata = table.drop_columns(["key", "vector"]).to_pylist()
    return Corpus(
        "wordnet-sample", table["key"].to_pylist(), vectors, metadata, ["gloss"], _SAMPLE_FILTERS, origins, queries, {}
    )


def _matrix(table: pq.lib.Table) -> np.ndarray:
    flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return _units(flat.reshape(len(table), -1)).astype(np.float32)


def _units(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return wide


def _kept(readme: str, name: str) -> dict[str, int]:
    """From "- debian: `half` 30,906 (48.9 %) · …"."""
    line = next(line for line in readme.splitlines() if line.startswith(f"- {name}: "))
    return {found[1]: int(found[2].replace(",", "")) for found in re.finditer(r"`([\w-]+)` ([\d,]+)", line)}


def _module(path: Path) -> ModuleType:
    spec = spec_from_file_location("neve_data_load", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
