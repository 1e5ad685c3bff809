"""The sets that searches are measured on, as files that every engine reads, and what is true of their queries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from tests.clients.corpus import TIE, Corpus, debian_or_sample, shared_set
from tests.servers.tools import ROOT, cache

SAMPLE = ROOT / "tests" / "data"
_BLOCK_QUERIES = 64
_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class Dataset:
    """A corpus, and where its rows (Arrow: key, metadata as JSON, vector) and queries (npy) lie."""

    corpus: Corpus
    digest: str
    folder: Path

    @property
    def name(self) -> str:
        return self.corpus.name

    @property
    def rows(self) -> Path:
        return self.folder / "rows.arrow"

    @property
    def queries(self) -> Path:
        return self.folder / "queries.npy"

    @cached_property
    def size_bytes(self) -> int:
        """What must be stored at least: float32 vectors, keys and metadata."""
        texts = sum(len(key.encode()) for key in self.corpus.keys) + sum(len(t.encode()) for t in self.metadata)
        return self.corpus.vectors.nbytes + texts

    @cached_property
    def metadata(self) -> list[str]:
        return [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in self.corpus.metadata]

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.corpus.keys)}

    @cached_property
    def _floors(self) -> dict[int, np.ndarray]:
        return {}

    def by_origin(self, origin: str, most: int | None = None) -> list[int]:
        """Numbers of an origin's queries, the first ones where there are more than asked for."""
        return [number for number, own in enumerate(self.corpus.origins) if own == origin][:most]

    def recalls(self, numbers: Sequence[int], k: int, found: Sequence[Sequence[str]]) -> np.ndarray:
        """Recall of each answer, by the rule of the data's README: what is as near as the k-th within TIE counts."""
        floors = self._floor(k)
        count = min(k, len(self.corpus.keys))
        shares = []
        for number, keys in zip(numbers, found, strict=True):
            rows = np.array(sorted({self._row_of[key] for key in keys}), np.intp)
            similarities = self.corpus.vectors[rows].astype(np.float64) @ self.corpus.queries[number].astype(np.float64)
            shares.append(min(1.0, np.count_nonzero(similarities >= floors[number] - TIE) / count))
        return np.array(shares)

    def _floor(self, k: int) -> np.ndarray:
        """Similarity [queries] of the k-th nearest."""
        if k not in self._floors:
            vectors, queries = self.corpus.vectors, self.corpus.queries
            place = max(0, len(vectors) - k)
            parts = []
            for start in range(0, len(queries), _BLOCK_QUERIES):
                similarities = queries[start : start + _BLOCK_QUERIES] @ vectors.T
                similarities.partition(place, axis=1)
                parts.append(similarities[:, place])
            self._floors[k] = np.concatenate(parts)
        return self._floors[k]


def datasets(data: Path | None, quick: bool) -> list[Dataset]:
    """The Debian set and, unless in a hurry, the prose set; the sample of WordNet where there are none."""
    if data is None:
        return [_dataset(debian_or_sample(SAMPLE), sorted(SAMPLE.glob("*.parquet")))]
    names = ["debian"] if quick else ["debian", "prose"]
    return [_dataset(shared_set(data, name), [data / "load.py", *sorted(data.glob(f"{name}*"))]) for name in names]


def _dataset(corpus: Corpus, sources: Sequence[Path]) -> Dataset:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for source in sources:
        digest.update(source.read_bytes())
    name = digest.hexdigest()[:16]
    dataset = Dataset(corpus, name, cache() / "bench" / f"{corpus.name}-{name}")
    if not dataset.queries.exists():
        dataset.folder.mkdir(parents=True, exist_ok=True)
        _write_rows(dataset)
        np.save(dataset.queries, corpus.queries)  # last: it tells that the folder is whole
    return dataset


def _write_rows(dataset: Dataset) -> None:
    corpus = dataset.corpus
    vectors = np.ascontiguousarray(corpus.vectors, np.float32)
    columns = {
        "key": pa.array(corpus.keys, pa.string()),
        "metadata": pa.array(dataset.metadata, pa.string()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
    }
    table = pa.table(columns)
    with pa.OSFile(str(dataset.rows), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=_BATCH_ROWS)
