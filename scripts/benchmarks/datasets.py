"""The sets that searches are measured on, as files that every engine reads, and what is true of their queries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tests.clients.corpus import TIE, Corpus, debian_or_sample, shared_set
from tests.servers.tools import ROOT
from tests.servers.tools import cache as cache_folder

SAMPLE = ROOT / "tests" / "data"
NEAREST = 100
"""So many of each query's nearest are found at least, and kept."""
_BATCH_ROWS = 10_000
_BLOCK_ROWS = 32_768


@dataclass(frozen=True)
class Dataset:
    """A corpus, and where its rows (Parquet: key, metadata as JSON, vector) and queries (npy) lie.

    `row_of` finds the row of a key.
    """

    corpus: Corpus
    digest: str
    folder: Path
    row_of: Callable[[str], int]

    @property
    def name(self) -> str:
        return self.corpus.name

    @property
    def rows(self) -> Path:
        return self.folder / "rows.parquet"

    @property
    def queries(self) -> Path:
        return self.folder / "queries.npy"

    @cached_property
    def size_bytes(self) -> int:
        """What must be stored at least: float32 vectors, keys and metadata."""
        return int((self.folder / "size_bytes").read_text())

    @cached_property
    def origins(self) -> list[str]:
        return list(dict.fromkeys(self.corpus.origins))

    def by_origin(self, origin: str, most: int | None = None) -> list[int]:
        """Numbers of an origin's queries, the first ones where there are more than asked for."""
        return [number for number, own in enumerate(self.corpus.origins) if own == origin][:most]

    def recalls(self, numbers: Sequence[int], k: int, found: Sequence[Sequence[str]]) -> np.ndarray:
        """Recall of each answer, by the rule of the data's README: what is as near as the k-th within TIE counts."""
        floors = self._floor(k)
        count = min(k, len(self.corpus.keys))
        shares = []
        for number, keys in zip(numbers, found, strict=True):
            rows = np.array(sorted({self.row_of(key) for key in keys}), np.intp)
            similarities = self.corpus.vectors[rows].astype(np.float64) @ self.corpus.queries[number].astype(np.float64)
            shares.append(min(1.0, np.count_nonzero(similarities >= floors[number] - TIE) / count))
        return np.array(shares)

    def _floor(self, k: int) -> np.ndarray:
        """Similarity [queries] of the k-th nearest."""
        if k not in self._floors:
            place = min(k, len(self.corpus.keys)) - 1
            self._floors[k] = self._nearest(max(k, NEAREST))[:, place]
        return self._floors[k]

    @cached_property
    def _floors(self) -> dict[int, np.ndarray]:
        return {}

    def _nearest(self, k: int) -> np.ndarray:
        """Similarities [queries, k] of the nearest, found once and kept."""
        kept = self.folder / f"nearest-{k}.npy"
        if not kept.exists():
            np.save(kept, nearest(self.corpus.vectors, self.corpus.queries, k))
        found: np.ndarray = np.load(kept)
        return found


def nearest(vectors: np.ndarray, queries: np.ndarray, k: int, block_rows: int = _BLOCK_ROWS) -> np.ndarray:
    """Similarities [queries, k] of the k nearest rows, the nearest first; fewer where there are fewer rows.

    Exact, by float32 products of blocks of rows, so that the vectors may lie in a file that is larger than memory.
    """
    best = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(vectors), block_rows):
        best = np.concatenate([best, queries @ vectors[start : start + block_rows].T], axis=1)
        if best.shape[1] > k:
            best = np.partition(best, best.shape[1] - k, axis=1)[:, -k:]
    return np.sort(best, axis=1)[:, ::-1]


def datasets(data: Path | None, quick: bool) -> list[Dataset]:
    """The Debian set and, unless in a hurry, the prose set; the sample of WordNet where there are none."""
    names = ["debian"] if quick or data is None else ["debian", "prose"]
    return [real(data, name) for name in names]


@cache
def real(data: Path | None, name: str) -> Dataset:
    """A set of real embeddings, "debian" or "prose"; the sample of WordNet where there is no folder of data."""
    corpus, sources = source(data, name)
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sources:
        digest.update(path.read_bytes())
    return written(corpus, digest.hexdigest()[:16])


@cache
def source(data: Path | None, name: str) -> tuple[Corpus, Sequence[Path]]:
    """A corpus and the files that it is made of."""
    if data is None:
        return debian_or_sample(SAMPLE), sorted(SAMPLE.glob("*.parquet"))
    return shared_set(data, name), [data / "load.py", *sorted(data.glob(f"{name}*"))]


def written(corpus: Corpus, digest: str) -> Dataset:
    """The set with its files in the cache, which are written unless they are there."""
    folder = cache_folder() / "bench" / f"{corpus.name}-{digest}"
    numbered = isinstance(corpus.keys, Numbered)
    row_of = corpus.keys.index if numbered else {key: row for row, key in enumerate(corpus.keys)}.__getitem__
    dataset = Dataset(corpus, digest, folder, row_of)
    if not dataset.queries.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "size_bytes").write_text(str(_write_rows(dataset)))
        np.save(dataset.queries, corpus.queries)  # last: it tells that the folder is whole
    return dataset


class Numbered(Sequence[str]):
    """Keys that are the numbers of their rows."""

    def __init__(self, rows: range) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int | slice) -> str | Numbered:
        row = self._rows[place]
        return Numbered(row) if isinstance(row, range) else f"{row:08}"

    def index(self, key: str, *_: int) -> int:
        return self._rows.index(int(key))


def _write_rows(dataset: Dataset) -> int:
    """Bytes of the vectors, keys and metadata that have been written."""
    corpus = dataset.corpus
    dimension = corpus.vectors.shape[1]
    kinds = {"key": pa.string(), "metadata": pa.string(), "vector": pa.list_(pa.float32(), dimension)}
    size_bytes = 0
    with pq.ParquetWriter(dataset.rows, pa.schema(kinds), compression="none", use_dictionary=False) as writer:
        for start in range(0, len(corpus.keys), _BATCH_ROWS):
            rows = slice(start, start + _BATCH_ROWS)
            texts = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in corpus.metadata[rows]]
            keys = list(corpus.keys[rows])
            vectors = np.ascontiguousarray(corpus.vectors[rows], np.float32)
            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension)
            writer.write_table(pa.table([pa.array(keys), pa.array(texts), column], schema=writer.schema))
            size_bytes += vectors.nbytes + sum(len(text.encode()) for text in [*keys, *texts])
    return size_bytes
