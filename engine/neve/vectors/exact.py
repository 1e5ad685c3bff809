"""Exact distances, and bounds on them that one matrix product gives."""

from __future__ import annotations

import numpy as np

from neve.dataclass import dataclass
from neve.vectors.metric import Metric

_NOISE = 1e-30
"""Squared distances of unit vectors below this are rounding of doubles: (2^-53)^2 per component is 1e-32."""
_CHUNK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Directions:
    """Vectors split in two: `units` float32 [n, d] of length 1 (0 for a zero vector), `norms` float64 [n].

    The split keeps every float32 vector, subnormal or near FLT_MAX, within the range of a float32 product.
    """

    units: np.ndarray
    norms: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Directions:
        units = np.empty(vectors.shape, np.float32)
        norms = np.empty(len(vectors), np.float64)
        for start in range(0, len(vectors), _CHUNK_ROWS):
            chunk = vectors[start : start + _CHUNK_ROWS].astype(np.float64)
            lengths = np.sqrt(np.einsum("ij,ij->i", chunk, chunk))
            norms[start : start + _CHUNK_ROWS] = lengths
            units[start : start + _CHUNK_ROWS] = chunk / np.where(lengths, lengths, 1.0)[:, None]
        return cls(units, norms)


def distance_bounds(
    directions: Directions, query: Directions, rows: np.ndarray, metric: Metric
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds float64 [len(rows)] on the distances of some rows to one query.

    A float32 product of d terms of unit vectors errs by at most (d + 4) 2^-23: 2^-24 for each of d additions and d
    products, and the rounding of the units (Higham, Accuracy and Stability of Numerical Algorithms, 3.1).
    """
    units, everything = directions.units, len(rows) * 4 > len(directions.units)
    # not BLAS, whose threads spin for each other's sake on cores that serve other requests
    products = np.einsum("ij,j->i", units if everything else units[rows], query.units[0])
    products = products[rows] if everything else products
    slack = (units.shape[1] + 4) * 2.0**-23
    cosines = products.astype(np.float64)
    if metric is Metric.COSINE:
        return 1.0 - cosines - slack, 1.0 - cosines + slack
    norms, length = directions.norms[rows], query.norms[0]
    middle = norms**2 + length**2 - 2.0 * norms * length * cosines
    slacks = 2.0 * norms * length * slack + 1e-12 * (norms**2 + length**2)
    return middle - slacks, middle + slacks


def exact_distances(vectors: np.ndarray, query: np.ndarray, metric: Metric) -> np.ndarray:
    """Distances float32 [n] of float32 vectors to a query [d], computed in float64.

    Cosine distance is half the squared distance of the unit vectors: 1 - cos without its loss of digits near 0.
    """
    distances = np.empty(len(vectors), np.float64)
    target = query.astype(np.float64)
    if metric is Metric.COSINE:
        target /= np.linalg.norm(target)
    for start in range(0, len(vectors), _CHUNK_ROWS):
        chunk = vectors[start : start + _CHUNK_ROWS].astype(np.float64)
        if metric is Metric.COSINE:
            chunk /= np.linalg.norm(chunk, axis=1, keepdims=True)
        chunk -= target
        distances[start : start + _CHUNK_ROWS] = np.einsum("ij,ij->i", chunk, chunk)
    if metric is Metric.COSINE:
        distances = np.where(distances < _NOISE, 0.0, distances / 2.0)
    return np.minimum(distances, np.finfo(np.float32).max).astype(np.float32)
