"""Sets with filters: what each filter keeps, and what is true of queries with it.

The synthetic sets have columns beside their metadata that keep given shares of the rows, by the form of condition that
is natural for so many, independent of the vectors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from scripts.benchmarks.datasets import Dataset, written
from scripts.benchmarks.synthetic import SEED, made
from tests.clients.corpus import TIE, Corpus

from neve.testing.reference import meets

KS = (10, 100)
NO_FILTER = "none"
_BLOCK_ROWS = 32_768
_PURPOSE = 1 << 40
"""Chance of its own, apart from that of the recipe."""
_BOOLEAN, _COUNTRY, _COLOUR, _SERIAL, _SHOP, _MAKER, _LABELS = range(7)
_LABELS_EACH = 4


def shares(rows: int) -> dict[str, dict[str, Any]]:
    """Filters of the synthetic columns by the share of the rows that they keep."""
    narrow, low = max(1, rows // 10_000), rows // 3
    return {
        "50 %": {"available": {"$eq": True}},
        "20 %": {"country": {"$in": ["country 2", "country 7"]}},
        "10 %": {"colour": {"$eq": "colour 4"}},
        "5 %": {"serial": {"$gte": rows - rows // 20}},
        "2 %": {"labels": {"$eq": "label 1.17"}},
        "1 %": {"shop": {"$eq": "shop 31"}},
        "0.5 %": {"$and": [{"serial": {"$gte": low}}, {"serial": {"$lt": low + rows // 200}}]},
        "0.1 %": {"maker": {"$in": [f"maker {number}" for number in range(2_000, 2_010)]}},
        "0.01 %": {"$and": [{"serial": {"$gte": rows // 2}}, {"serial": {"$lt": rows // 2 + narrow}}]},
    }


class Extended(Sequence[Mapping[str, object]]):
    """Metadata with the columns that `shares` asks for; each value of a column is as frequent as any other."""

    def __init__(self, metadata: Sequence[Mapping[str, object]], places: np.ndarray | None = None) -> None:
        """`places` uint32 [columns, rows]: a permutation for each column."""
        self._metadata = metadata
        self._places = _permutations(len(metadata)) if places is None else places

    def __len__(self) -> int:
        return len(self._metadata)

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[row] for row in range(*place.indices(len(self)))]
        rows, places = len(self), self._places[:, place].tolist()
        share = [one / rows for one in places]
        return {
            **self._metadata[place],
            "available": share[_BOOLEAN] < 0.5,
            "country": f"country {int(10 * share[_COUNTRY])}",
            "colour": f"colour {int(10 * share[_COLOUR])}",
            "serial": places[_SERIAL],
            "shop": f"shop {int(100 * share[_SHOP])}",
            "maker": f"maker {int(10_000 * share[_MAKER])}",
            "labels": [f"label {number}.{int(50 * one)}" for number, one in enumerate(share[_LABELS:])],
        }


def _permutations(rows: int) -> np.ndarray:
    return np.stack(
        [
            np.random.Generator(np.random.Philox(key=[SEED, _PURPOSE | column])).permutation(rows).astype(np.uint32)
            for column in range(_LABELS + _LABELS_EACH)
        ]
    )


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """A filter of a set and its truth: `mask` bool [rows] of the rows that it keeps, and by k in KS the similarity
    [queries] of the k-th nearest of them, or of the last where there are fewer.
    """

    name: str
    document: Mapping[str, Any] | None
    dataset: Dataset
    mask: np.ndarray
    floors: Mapping[int, np.ndarray]

    @property
    def matches(self) -> int:
        return int(np.count_nonzero(self.mask))

    def again(self, number: int) -> Filter:
        """The same filter in other words, the same ones only for the same number."""
        document = self.document
        for digit in f"{number:b}":
            document = {"$and" if digit == "1" else "$or": [document]}
        return replace(self, document=document)

    def judged(self, numbers: Sequence[int], k: int, found: Sequence[Sequence[str]]) -> tuple[np.ndarray, float]:
        """Recall of each answer by the rule of the data's README, and the least share of hits that one has of those
        that it should have. AssertionError when a hit does not pass the filter, or comes twice.
        """
        corpus, wanted = self.dataset.corpus, min(k, self.matches)
        recalls, fewest = [], 1.0
        for number, keys in zip(numbers, found, strict=True):
            rows = np.array([self.dataset.row_of(key) for key in keys], np.intp)
            assert self.mask[rows].all(), f"{self.name}, query {number}: hits that it does not keep"
            assert len(set(keys)) == len(keys) <= k, f"{self.name}, query {number}: hits that come twice"
            similarities = corpus.vectors[rows].astype(np.float64) @ corpus.queries[number].astype(np.float64)
            near = np.count_nonzero(similarities >= self.floors[k][number] - TIE)
            recalls.append(min(1.0, near / wanted))
            fewest = min(fewest, len(keys) / wanted)
        return np.array(recalls), fewest


def filters(dataset: Dataset) -> dict[str, Filter]:
    """The filters of a set by name, NO_FILTER first; found by brute force, once, and kept beside the set."""
    documents: dict[str, dict[str, Any] | None] = {NO_FILTER: None, **dataset.corpus.filters}
    digest = hashlib.sha256(json.dumps(documents).encode()).hexdigest()[:16]
    kept = dataset.folder / f"filters-{digest}.npz"
    rows = len(dataset.corpus.keys)
    if not kept.exists():
        verdicts = [
            [document is None or meets(document, row) for document in documents.values()]
            for row in dataset.corpus.metadata
        ]
        masks = np.array(verdicts).T
        np.savez(kept, masks=np.packbits(masks, axis=1), floors=floors(dataset.corpus, masks))
    found = np.load(kept)
    told = []
    for (name, document), bits, lows in zip(documents.items(), found["masks"], found["floors"], strict=True):
        mask = np.unpackbits(bits, count=rows).view(np.bool_)
        told.append(Filter(name, document, dataset, mask, dict(zip(KS, lows, strict=True))))
    for one in told:
        told_by_source = dataset.corpus.kept.get(one.name, one.matches)
        assert one.matches == told_by_source, f"{one.name} keeps {one.matches} rows, not {told_by_source}"
        assert one.matches, f"{one.name} keeps nothing"
    return {one.name: one for one in told}


def floors(corpus: Corpus, masks: np.ndarray, block_rows: int = _BLOCK_ROWS) -> np.ndarray:
    """Similarities [masks, KS, queries] of the k-th nearest row of each mask, or of the last of fewer.

    Exact, by float32 products of blocks of rows.
    """
    most = max(KS)
    best = [np.empty((len(corpus.queries), 0), np.float32)] * len(masks)
    for start in range(0, len(corpus.vectors), block_rows):
        block = slice(start, start + block_rows)
        products = corpus.queries @ corpus.vectors[block].T
        for number, mask in enumerate(masks):
            some = np.concatenate([best[number], products[:, mask[block]]], axis=1)
            best[number] = np.partition(some, -most, axis=1)[:, -most:] if some.shape[1] > most else some
    ordered = [np.sort(one, axis=1)[:, ::-1] for one in best]
    return np.array([[one[:, min(k, one.shape[1]) - 1] for k in KS] for one in ordered])


def filtered(data: Path | None, rows: int, dimension: int) -> Dataset:
    """A synthetic set with the columns and filters of `shares`."""
    corpus, digest = made("filtered", data, rows, dimension, Path(__file__))
    return written(replace(corpus, metadata=Extended(corpus.metadata), filters=shares(rows)), digest)


def mixed(dataset: Dataset, each: int | None = None) -> list[int]:
    """Numbers of the first so many queries of every origin, in turn."""
    columns: Iterator[tuple[int | None, ...]] = zip_longest(
        *(dataset.by_origin(origin, each) for origin in dataset.origins)
    )
    return [number for number in chain.from_iterable(columns) if number is not None]
