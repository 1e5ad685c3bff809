"""The oracle: an exact vector index in a dict, distances in float64, filters by their naive meaning."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from neve.vectors.metric import Metric

Metadata: TypeAlias = Mapping[str, object]
Vector: TypeAlias = npt.NDArray[np.float32]

FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class ReferenceRow:
    """One vector as last put."""

    key: str
    vector: Vector
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class ReferenceHit:
    """One answer of a query."""

    key: str
    distance: float
    metadata: Metadata


def everything(metadata: Metadata) -> bool:
    """The condition that all metadata meets."""
    return True


class ReferenceIndex:
    """What an index must be: a put replaces, a delete removes, a query ranks all rows that meet the condition."""

    def __init__(self, dimension: int, metric: Metric) -> None:
        self.dimension = dimension
        self.metric = metric
        self.rows: dict[str, ReferenceRow] = {}

    def put(self, rows: Iterable[tuple[str, Sequence[float] | Vector, Metadata]]) -> None:
        """Put rows in their order: of two with one key the later stays."""
        for key, vector, metadata in rows:
            rounded = np.asarray(vector, dtype=np.float32)
            assert rounded.shape == (self.dimension,)
            self.rows[key] = ReferenceRow(key, rounded, dict(metadata))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove those that are there."""
        for key in keys:
            self.rows.pop(key, None)

    def get(self, keys: Iterable[str]) -> dict[str, ReferenceRow]:
        """The rows of those keys, without the missing ones."""
        return {key: self.rows[key] for key in keys if key in self.rows}

    def keys(self) -> set[str]:
        """What a whole listing must hold, each once."""
        return set(self.rows)

    def distance(self, key: str, vector: Sequence[float] | Vector) -> float:
        """Exact distance of one row from `vector`."""
        return float(distances(self.metric, self.rows[key].vector[np.newaxis, :], vector)[0])

    def query(
        self, vector: Sequence[float] | Vector, k: int, condition: Callable[[Metadata], bool] = everything
    ) -> list[ReferenceHit]:
        """The k nearest rows that meet `condition`, ascending by distance, ties by key."""
        rows = [row for row in self.rows.values() if condition(row.metadata)]
        if not rows:
            return []
        measured = distances(self.metric, np.stack([row.vector for row in rows]), vector)
        hits = [ReferenceHit(row.key, float(far), row.metadata) for row, far in zip(rows, measured, strict=True)]
        return sorted(hits, key=lambda hit: (hit.distance, _hash(hit.key)))[:k]

    def check_hits(
        self,
        vector: Sequence[float] | Vector,
        k: int,
        found: Sequence[tuple[str, float]],
        condition: Callable[[Metadata], bool] = everything,
    ) -> None:
        """Raise AssertionError unless (key, distance) pairs are a right answer, up to the rounding of float32.

        Rows whose distances differ by less than the rounding may stand in for each other at the k-th place.
        """
        expected = self.query(vector, k, condition)
        assert len(found) == len(expected), f"{len(found)} hits where {len(expected)} exist"
        keys = [key for key, _ in found]
        assert len(set(keys)) == len(keys), "a key twice in one answer"
        answered = [far for _, far in found]
        assert answered == sorted(answered), "hits out of order"
        slack = self._slack(vector)
        for (key, far), hit in zip(found, expected, strict=True):
            assert key in self.rows, f"{key!r} is not in the index"
            assert condition(self.rows[key].metadata), f"{key!r} does not meet the condition"
            exact = self.distance(key, vector)
            margin = slack(exact)
            assert abs(_in_float32(far) - _in_float32(exact)) <= margin, f"{key!r} at {far}, exactly {exact}"
            lag = abs(_in_float32(exact) - _in_float32(hit.distance))
            assert lag <= 2 * margin, f"{key!r} at {exact} where {hit.key!r} is at {hit.distance}"
        for (key, far), (other, next_far) in pairwise(found):
            assert far < next_far or _hash(key) <= _hash(other), f"tie of {key!r} and {other!r} not in hash order"

    def _slack(self, vector: Sequence[float] | Vector) -> Callable[[float], float]:
        """How far a distance computed in float32 may be from the exact one."""
        epsilon = float(np.finfo(np.float32).eps) * 4 * max(4.0, self.dimension**0.5)
        if self.metric is Metric.COSINE:
            return lambda exact: epsilon
        largest = max((float(np.abs(row.vector.astype(np.float64)).max()) for row in self.rows.values()), default=0.0)
        scale = max(largest, float(np.abs(np.asarray(vector, dtype=np.float64)).max()))
        floor = (epsilon * scale) ** 2 + float(np.finfo(np.float32).tiny)
        return lambda exact: epsilon * _in_float32(exact) + floor


def _hash(key: str) -> int:
    """BLAKE2b-64 of a key, the order of keys of equal distance."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def _in_float32(distance: float) -> float:
    """Distances beyond float32's range are all the same to a client."""
    return min(distance, FLOAT32_MAX)


def distances(
    metric: Metric, rows: npt.NDArray[np.float32], vector: Sequence[float] | Vector
) -> npt.NDArray[np.float64]:
    """Exact distances of all rows from `vector` (rounded to float32 first, as the API does), in float64."""
    wide = rows.astype(np.float64)
    query = np.asarray(vector, dtype=np.float32).astype(np.float64)
    if metric is Metric.EUCLIDEAN:
        return np.asarray(((wide - query) ** 2).sum(axis=1), dtype=np.float64)
    norms = np.sqrt((wide**2).sum(axis=1)) * np.sqrt((query**2).sum())
    return np.asarray(np.clip(1.0 - (wide @ query) / norms, 0.0, 2.0), dtype=np.float64)


def meets(filter_document: Mapping[str, object], document: Mapping[str, object]) -> bool:
    """The meaning of a filter, spelt out naively: the oracle for every faster evaluation."""
    ((name, test),) = filter_document.items()
    if name in ("$and", "$or"):
        assert isinstance(test, list)
        verdicts = [meets(part, document) for part in test]
        return all(verdicts) if name == "$and" else any(verdicts)
    if not isinstance(test, dict):
        test = {"$eq": test}
    return all(_holds(operator, operand, name, document) for operator, operand in test.items())


def _holds(operator: str, operand: object, name: str, document: Mapping[str, object]) -> bool:
    if operator == "$exists":
        return (name in document) is operand
    if operator in ("$ne", "$nin"):
        return not _holds({"$ne": "$eq", "$nin": "$in"}[operator], operand, name, document)
    if name not in document:
        return False
    value = document[name]
    elements = value if isinstance(value, list) else [value]
    if operator == "$in":
        assert isinstance(operand, list)
        return any(_equal(element, wanted) for element in elements for wanted in operand)
    return any(_compare(operator, element, operand) for element in elements)


def _compare(operator: str, element: object, operand: object) -> bool:
    if operator == "$eq":
        return _equal(element, operand)
    if operator == "$startsWith":
        assert isinstance(operand, str)
        return isinstance(element, str) and element.startswith(operand)
    if isinstance(element, bool) or not isinstance(element, int | float):
        return False
    assert isinstance(operand, int | float)
    value, bound = float(element), float(operand)
    return {"$gt": value > bound, "$gte": value >= bound, "$lt": value < bound, "$lte": value <= bound}[operator]


def _equal(left: object, right: object) -> bool:
    """Same type and equal; all numbers are one type and compare as doubles."""
    if isinstance(left, bool) or isinstance(right, bool):
        return isinstance(left, bool) and isinstance(right, bool) and left == right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return float(left) == float(right)
    return isinstance(left, str) and isinstance(right, str) and left == right
